// Once memory is allocated, each function keeps the invariant that data[length] is NUL.
#include "imcallbackd/base/buffer.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/utf8.h"

int buffer_reserve(struct buffer *buffer, size_t capacity)
{
    char *data;

    assert(buffer->length <= buffer->capacity && (buffer->data || buffer->capacity == 0));
    if (capacity <= buffer->capacity && buffer->data)
        return 0;
    if (capacity == SIZE_MAX)
        return -ENOMEM;
    data = realloc(buffer->data, capacity + 1);
    if (!data)
        return -ENOMEM;
    data[buffer->length] = '\0';
    buffer->data = data;
    buffer->capacity = capacity;
    return 0;
}

// Ensures that `more` bytes can be appended. A growing buffer at least doubles its capacity, so that the total cost of
// many small appends is linear in their length.
static int buffer_grow(struct buffer *buffer, size_t more)
{
    size_t wanted, doubled;

    assert(buffer->length <= buffer->capacity);
    if (more <= buffer->capacity - buffer->length && buffer->data)
        return 0;
    if (more > SIZE_MAX / 2 - buffer->length)
        return -ENOMEM;
    wanted = buffer->length + more;
    doubled = buffer->capacity * 2;
    return buffer_reserve(buffer, wanted > doubled ? wanted : doubled);
}

int buffer_append(struct buffer *buffer, const void *data, size_t length)
{
    int r;

    assert(data || length == 0);
    r = buffer_grow(buffer, length);
    if (r < 0)
        return r;
    if (length > 0)
        memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
    return 0;
}

int buffer_print_list(struct buffer *buffer, const char *format, va_list arguments)
{
    va_list again;
    int length, r;

    va_copy(again, arguments);
    length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0)
        return -ENOMEM;
    r = buffer_grow(buffer, (size_t)length);
    if (r < 0)
        return r;
    (void)vsnprintf(buffer->data + buffer->length, (size_t)length + 1, format, arguments);
    assert(buffer->data[buffer->length + (size_t)length] == '\0');
    buffer->length += (size_t)length;
    return 0;
}

int buffer_print(struct buffer *buffer, const char *format, ...)
{
    va_list arguments;
    int r;

    va_start(arguments, format);
    r = buffer_print_list(buffer, format, arguments);
    va_end(arguments);
    return r;
}

int buffer_append_json(struct buffer *buffer, const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + length, *plain = at;
    int r = 0;

    if (length == 0)
        return 0;
    assert(text);
    while (at < end && r == 0) {
        size_t character = utf8_length(at, (size_t)(end - at));

        if (character > 0 && *at >= 0x20 && *at != '"' && *at != '\\') {
            at += character;
            continue;
        }
        r = buffer_append(buffer, plain, (size_t)(at - plain));
        if (r == 0)
            r = character == 0 ? buffer_print(buffer, UTF8_REPLACEMENT)
                               : buffer_print(buffer, *at < 0x20 ? "\\u%04x" : "\\%c", *at);
        at += character > 0 ? character : utf8_invalid_length(at, (size_t)(end - at));
        plain = at;
    }
    return r < 0 ? r : buffer_append(buffer, plain, (size_t)(end - plain));
}

const char *buffer_text(const struct buffer *buffer)
{
    return buffer->data ? buffer->data : "";
}

void buffer_finish(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
