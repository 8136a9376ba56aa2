// Parses small values strictly: the whole text must have the format, without a sign and without space around it. The
// parsers return 0, -EINVAL if the text does not have the format, or -ERANGE if the value exceeds the maximum.
// *ret_value is set only on success.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"

// Reads ASCII digits.
int parse_decimal(const char *text, size_t length, uint64_t max, uint64_t *ret_value) MUST_CHECK;

// Reads digits and a unit, ms, s, m, h or d, as in "60s" or "400d". A number without a unit is invalid, because its
// unit would be a guess.
int parse_duration_ms(const char *text, uint64_t max_ms, uint64_t *ret_ms) MUST_CHECK;

// Reads digits with an optional K, M or G for powers of 1024, as in "4M".
int parse_size_bytes(const char *text, uint64_t max_bytes, uint64_t *ret_bytes) MUST_CHECK;

// Reads yes, true or on as true, and no, false or off as false.
int parse_boolean(const char *text, bool *ret_value) MUST_CHECK;

// Unlike the other functions, returns the value: 0 to 15 for a hexadecimal digit of either case, -1 for any other
// character.
int parse_hex_digit(char c);
