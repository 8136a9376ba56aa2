// What is done to the bytes of a body before cJSON sees them. cJSON 1.7.15 takes control bytes, even between values,
// invalid UTF-8, and \u0000 and \uzzzz (where both cut the string), and spends about 40 bytes on each byte of `[0,0,…`,
// so one pass looks for these first. The same pass finds what real calls may have and cJSON would not take: the
// comments of the reference page's sample, and text that was cut inside a character.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/arena.h"

#define JSON_TEXT_MAX_DEPTH  32
#define JSON_TEXT_MAX_VALUES 400000 // in a body up to ten times as many bytes; beyond, see json_text_max_values

enum json_text_fault {
    JSON_TEXT_SOUND,
    JSON_TEXT_NUL,
    JSON_TEXT_CONTROL_BYTE, // inside a string any below U+0020, between values those that are no white space
    JSON_TEXT_BAD_ESCAPE,   // \u without four hexadecimal digits
    JSON_TEXT_UNTERMINATED, // a string or a comment without its end
    JSON_TEXT_TOO_DEEP,
    JSON_TEXT_TOO_MANY,
};

struct json_text_report {
    enum json_text_fault fault;
    size_t position;   // of the fault, counted from 0
    bool has_comments; // outside of strings
    bool has_broken_text;
};

// How many values a text of so many bytes may have. A larger one may have as many as there can be in members: two each,
// in 23 bytes or more. So the memory that they take is a multiple of the text's.
size_t json_text_max_values(size_t length);

struct json_text_report json_text_scan(const char *text, size_t length);

// A copy for cJSON with comments blanked out (so that positions stay true, as long as no text is broken) and U+FFFD in
// place of invalid UTF-8 and of lone surrogates. NULL when the arena is full.
char *json_text_sanitize(struct arena *arena, const char *text, size_t length, size_t *ret_length);
