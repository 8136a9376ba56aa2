// Checks and cleans the bytes of a body before cJSON parses them. cJSON 1.7.15 accepts invalid UTF-8, control
// characters (even between values), numbers such as 01 and 1.e2, and \u0000 and \uzzzz, both of which end the string.
// cJSON also takes at least 32 bytes of memory for each byte of `[0,0,…`. Therefore one pass finds these faults first.
// The same pass finds what real callbacks may contain and must be replaced for cJSON: the comments of the sample on the
// reference page, text that was cut inside a character, and \u0000.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/arena.h"

#define JSON_TEXT_MAX_DEPTH  32
#define JSON_TEXT_MAX_VALUES 400000 // for a text of up to 4,000,000 bytes; see json_text_max_values()

enum json_text_fault {
    JSON_TEXT_NO_FAULT,
    JSON_TEXT_NUL,          // the byte, not the escape \u0000
    JSON_TEXT_CONTROL,      // below U+0020: any in a string, any but white space between values
    JSON_TEXT_BAD_ESCAPE,   // \u without four hexadecimal digits
    JSON_TEXT_BAD_NUMBER,   // such as 01, 1. or -.5
    JSON_TEXT_UNTERMINATED, // a string or a comment without its end
    JSON_TEXT_TOO_DEEP,
    JSON_TEXT_TOO_MANY,
};

struct json_text_report {
    enum json_text_fault fault;
    size_t position;       // byte offset of the fault
    bool has_comments;     // outside strings
    bool has_invalid_text; // invalid UTF-8, a lone surrogate or \u0000 in a string
};

// Returns how many values a text of `length` bytes may have. A text of more than 4,000,000 bytes may have one value per
// 10 bytes, which suffices for a list of members, whose 2 values per member take at least 23 bytes. The memory for the
// tree therefore stays proportional to the text.
size_t json_text_max_values(size_t length);

// Checks the text, and stops at the first fault.
struct json_text_report json_text_scan(const char *text, size_t length);

// Stands for \u0000 in the copy that json_text_sanitize() makes. UTF-8 never contains this byte, so the caller can
// still reject a NUL in an id, and replace the mark in other texts with utf8_sanitize().
#define JSON_TEXT_NUL_MARK "\xff"

// Returns a copy for cJSON. A comment becomes the same number of spaces. In strings, U+FFFD replaces invalid UTF-8 and
// lone surrogates, and JSON_TEXT_NUL_MARK replaces \u0000. The text must have no fault. Returns NULL if the arena has
// no memory left.
char *json_text_sanitize(struct arena *arena, const char *text, size_t length, size_t *ret_length);
