// Validation of UTF-8 by RFC 3629: no overlong forms, no surrogates, no code point above U+10FFFF.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/arena.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd" // U+FFFD

// Returns the number of bytes, 1 to 4, of the valid character at the start of text; 0 if no valid character starts
// there or nothing is available.
size_t utf8_length(const unsigned char *text, size_t available);

// Returns the number of bytes, at least 1, that one U+FFFD replaces at the start of an invalid text. This is the
// longest prefix of a valid character, as the Unicode standard recommends (chapter 3, "maximal subpart"). At least one
// byte must be available.
size_t utf8_invalid_length(const unsigned char *text, size_t available);

// Returns the text itself if it is valid UTF-8, else a copy in the arena with U+FFFD for each invalid sequence. Returns
// NULL if the arena has no memory left.
const char *utf8_sanitize(struct arena *arena, const char *text);
