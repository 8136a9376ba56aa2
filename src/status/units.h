// Prints numbers for people. All functions write at most UNITS_BYTES bytes with the NUL.
#pragma once

#include <stdint.h>

#define UNITS_BYTES 48

// "1 s", "12 minutes", "3 hours", "2 days": the largest unit of which there is more than one, or else seconds. A
// negative duration counts as 0.
void units_print_duration(int64_t ms, char text[UNITS_BYTES]);

// "512 bytes", "1.5 MiB"; "unknown" for a negative size.
void units_print_size(int64_t bytes, char text[UNITS_BYTES]);

// "0.4 ms", "12 ms", "1.5 s"; "–" for a negative time.
void units_print_microseconds(int64_t us, char text[UNITS_BYTES]);

// "1 234 567" with thin spaces between groups of digits.
void units_print_count(int64_t count, char text[UNITS_BYTES]);

// "2026-11-27 15:04:05", in UTC; "?" for a time that has no date.
void units_print_time(int64_t unix_ms, char text[UNITS_BYTES]);

// "2026-11-27T15:04:05Z".
void units_print_iso_time(int64_t unix_ms, char text[UNITS_BYTES]);
