// Validates UTF-8 and replaces what is invalid. RFC 3629 allows no overlong forms, no surrogates and no code point
// above U+10FFFF.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/arena.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd" // U+FFFD

// Returns the number of bytes, 1 to 4, of the valid character at the start of text, or 0 if no valid character starts
// there or nothing is available.
size_t utf8_length(const unsigned char *text, size_t available);

// Returns the number of invalid bytes at the start of text that one U+FFFD replaces. As the Unicode standard recommends
// (chapter 3, "maximal subpart"), these bytes are the longest prefix of a valid character, or a single byte if no valid
// character starts with this byte. The text must not be empty and must not start with a valid character.
size_t utf8_invalid_length(const unsigned char *text, size_t available);

// Returns the text itself if it is valid UTF-8, otherwise a copy in the arena with U+FFFD in place of each invalid
// sequence. Returns NULL if the arena has no memory left.
const char *utf8_sanitize(struct arena *arena, const char *text);
