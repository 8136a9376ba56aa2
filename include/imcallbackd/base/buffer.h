// Implements a growable array of bytes. Once memory is allocated, a NUL follows the last byte, so that text in the
// buffer is a C string. A zeroed struct is a valid empty buffer. The functions that return int return 0 or -ENOMEM.
// After -ENOMEM, the buffer is unchanged unless noted otherwise.
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "imcallbackd/base/error.h"

struct buffer {
    char *data;      // NULL until the first allocation
    size_t length;   // bytes in use
    size_t capacity; // bytes that fit without an allocation; one more byte is allocated for the NUL
};

// Ensures that the buffer can hold at least `capacity` bytes in total, so that appending up to this length cannot fail.
int buffer_reserve(struct buffer *buffer, size_t capacity) MUST_CHECK;
int buffer_append(struct buffer *buffer, const void *data, size_t length) MUST_CHECK;
int buffer_print(struct buffer *buffer, const char *format, ...) MUST_CHECK PRINTF_LIKE(2, 3);

// Appends the text escaped for a JSON string, without quotes around it. Each invalid UTF-8 sequence becomes U+FFFD.
// After -ENOMEM, part of the text may have been appended.
int buffer_append_json(struct buffer *buffer, const char *text, size_t length) MUST_CHECK;
int buffer_print_list(struct buffer *buffer, const char *format, va_list arguments) MUST_CHECK PRINTF_LIKE(2, 0);

// Returns the contents as a C string, or "" if nothing was allocated. The string is valid until the next change of the
// buffer.
const char *buffer_text(const struct buffer *buffer);

// Frees the memory. The caller can use the empty buffer again.
void buffer_finish(struct buffer *buffer);
