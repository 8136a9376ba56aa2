// A growable run of bytes. The byte behind the last one is always 0, so that text in it can be used as a C string.
// A zeroed buffer is a valid empty one. Functions that grow return 0 or -ENOMEM and then leave the buffer as it was.
#pragma once

#include <stdarg.h>
#include <stddef.h>

#include "imcallbackd/base/error.h"

struct buffer {
    char *data;      // NULL while nothing was ever stored
    size_t length;   // bytes in use
    size_t capacity; // bytes that fit before it must grow
};

int buffer_reserve(struct buffer *buffer, size_t capacity) MUST_CHECK;
int buffer_append(struct buffer *buffer, const void *data, size_t length) MUST_CHECK;
int buffer_print(struct buffer *buffer, const char *format, ...) MUST_CHECK PRINTF_LIKE(2, 3);
int buffer_print_list(struct buffer *buffer, const char *format, va_list arguments) MUST_CHECK PRINTF_LIKE(2, 0);

// The text as a C string; "" when nothing was stored.
const char *buffer_text(const struct buffer *buffer);

// Frees the memory; the buffer is empty and usable again.
void buffer_finish(struct buffer *buffer);
