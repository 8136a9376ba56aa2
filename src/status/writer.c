// The only functions of the module that append a text from outside are write_html and write_json.
#include "writer.h"

#include <stdio.h>
#include <string.h>

#include "imcallbackd/base/utf8.h"

static void append(struct writer *writer, const void *data, size_t length)
{
    if (!writer->failed)
        writer->failed = buffer_append(writer->text, data, length) < 0;
}

// Formats a usual piece once, where buffer_print_list would format it twice.
void write_markup(struct writer *writer, const char *format, ...)
{
    va_list arguments;
    char piece[512];
    int length;

    va_start(arguments, format);
    length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length < sizeof piece) {
        append(writer, piece, (size_t)length);
    } else if (!writer->failed) {
        va_start(arguments, format);
        writer->failed = buffer_print_list(writer->text, format, arguments) < 0;
        va_end(arguments);
    }
}

// Returns what stands for the character in HTML, or NULL if the character stands for itself.
static const char *replacement(unsigned char character)
{
    switch (character) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return character < 0x20 || character == 0x7f ? UTF8_REPLACEMENT : NULL;
    }
}

void write_html(struct writer *writer, const char *text)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + strlen(text), *plain = at;

    while (at < end) {
        size_t length = utf8_length(at, (size_t)(end - at));
        const char *instead = length == 0 ? UTF8_REPLACEMENT : replacement(*at);

        if (!instead) {
            at += length;
            continue;
        }
        append(writer, plain, (size_t)(at - plain));
        append(writer, instead, strlen(instead));
        at += length > 0 ? length : utf8_invalid_length(at, (size_t)(end - at));
        plain = at;
    }
    append(writer, plain, (size_t)(end - plain));
}

void write_json(struct writer *writer, const char *text)
{
    append(writer, "\"", 1);
    if (!writer->failed)
        writer->failed = buffer_append_json(writer->text, text, strlen(text)) < 0;
    append(writer, "\"", 1);
}
