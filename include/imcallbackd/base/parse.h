// Strict readers of small values: the whole text must fit the form, with no sign, no space around it and no overflow.
// They return 0, -EINVAL (not of the form) or -ERANGE (of the form, above max) and set *ret_value only on 0.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"

// ASCII digits only.
int parse_decimal(const char *text, size_t length, uint64_t max, uint64_t *ret_value) MUST_CHECK;

// Digits and a unit: ms, s, m, h or d ("60s", "400d"). A bare number is refused: its unit would be a guess.
int parse_duration_ms(const char *text, uint64_t max_ms, uint64_t *ret_ms) MUST_CHECK;

// Digits, alone for bytes or with K, M or G for powers of 1024 ("4M").
int parse_size_bytes(const char *text, uint64_t max_bytes, uint64_t *ret_bytes) MUST_CHECK;

// yes, no, true, false, on, off.
int parse_boolean(const char *text, bool *ret_value) MUST_CHECK;

// The exception: the value of a hexadecimal digit in either case; -1 for any other character.
int parse_hex_digit(char c);
