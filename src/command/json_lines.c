// Serialization into a buffer of fixed size, which is written to the descriptor whenever it is full.
#include "json_lines.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "imcallbackd/base/utf8.h"

int json_lines_flush(struct json_lines *lines)
{
    for (size_t done = 0; lines->code == 0 && done < lines->length;) {
        ssize_t written = write(lines->fd, lines->bytes + done, lines->length - done);

        if (written >= 0)
            done += (size_t)written;
        else if (errno == EAGAIN) // the parent process made the descriptor non-blocking
            (void)poll(&(struct pollfd){.fd = lines->fd, .events = POLLOUT}, 1, -1);
        else if (errno != EINTR)
            lines->code = -errno;
    }
    lines->length = 0;
    return lines->code;
}

static void put(struct json_lines *lines, const char *data, size_t length)
{
    assert(lines->code <= 0 && lines->length < sizeof lines->bytes);
    while (length > 0 && lines->code == 0) {
        size_t available = sizeof lines->bytes - lines->length, piece = length < available ? length : available;

        memcpy(lines->bytes + lines->length, data, piece);
        lines->length += piece;
        data += piece;
        length -= piece;
        if (lines->length == sizeof lines->bytes && json_lines_flush(lines) < 0)
            return;
    }
}

static void put_text(struct json_lines *lines, const char *text)
{
    put(lines, text, strlen(text));
}

// Returns the number of bytes at the start that need no escape in a JSON string.
static size_t plain_length(const unsigned char *text, size_t length)
{
    size_t plain = 0, character;

    while (plain < length && text[plain] >= 0x20 && text[plain] != '"' && text[plain] != '\\') {
        character = text[plain] < 0x80 ? 1 : utf8_length(text + plain, length - plain);
        if (character == 0)
            break;
        plain += character;
    }
    return plain;
}

static void put_string(struct json_lines *lines, const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + length;
    char escape[sizeof "\\u0000"];

    put(lines, "\"", 1);
    for (;;) {
        size_t plain = plain_length(at, (size_t)(end - at));

        put(lines, (const char *)at, plain);
        at += plain;
        if (at == end)
            break;
        if (*at >= 0x80) {
            put_text(lines, UTF8_REPLACEMENT);
            at += utf8_invalid_length(at, (size_t)(end - at));
            continue;
        }
        (void)snprintf(escape, sizeof escape, *at < 0x20 ? "\\u%04x" : "\\%c", *at);
        put_text(lines, escape);
        at++;
    }
    put(lines, "\"", 1);
}

static void put_integer(struct json_lines *lines, int64_t integer)
{
    char digits[24];

    (void)snprintf(digits, sizeof digits, "%" PRId64, integer);
    put_text(lines, digits);
}

static void put_column(struct json_lines *lines, const struct column *column, const void *event)
{
    struct column_value value = column_get(column, event);

    put_text(lines, ",\"");
    put_text(lines, column->name);
    put_text(lines, "\":");
    if (value.is_null)
        put_text(lines, "null");
    else if (column->type == COLUMN_INTEGER)
        put_integer(lines, value.integer);
    else
        put_string(lines, value.data, value.length);
}

void json_lines_add(struct json_lines *lines, int64_t id, const struct destroyed_group *group)
{
    const struct stream_table *table = &stream_tables[STREAM_GROUPS];

    put_text(lines, "{\"id\":");
    put_integer(lines, id);
    for (size_t i = 0; i < table->column_count; i++)
        put_column(lines, &table->columns[i], group);
    put_text(lines, ",\"members\":[");
    for (size_t i = 0; i < group->member_count; i++) {
        if (i > 0)
            put(lines, ",", 1);
        put_string(lines, group->members[i], strlen(group->members[i]));
    }
    put_text(lines, "]}\n");
}
