// UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/arena.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd" // U+FFFD

// How many bytes the valid character at the start of text takes, 1 to 4; 0 when there is none.
size_t utf8_length(const unsigned char *text, size_t available);

// How many bytes one U+FFFD stands for at the start of invalid text, at least 1: the longest beginning of a valid
// character, as the Unicode standard recommends (chapter 3, "maximal subpart").
size_t utf8_invalid_length(const unsigned char *text, size_t available);

// The text itself when it is valid UTF-8, or a copy with U+FFFD. NULL when the arena gives nothing more.
const char *utf8_sanitize(struct arena *arena, const char *text);
