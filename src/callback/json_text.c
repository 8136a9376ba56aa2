#include "json_text.h"

#include <stdint.h>
#include <string.h>

#include "imcallbackd/base/parse.h"
#include "imcallbackd/base/utf8.h"

#define ESCAPE_LENGTH strlen("\\uXXXX")

// The number of a \uXXXX at text, or -1 when there is none.
static int32_t escaped_unit(const char *text, size_t left)
{
    int32_t unit = 0;

    if (left < ESCAPE_LENGTH || text[0] != '\\' || text[1] != 'u')
        return -1;
    for (size_t i = 2; i < ESCAPE_LENGTH; i++) {
        int digit = parse_hex_digit(text[i]);

        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

static bool is_high(int32_t unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low(int32_t unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

// One step inside a string: how many bytes belong together, and what they are.
enum piece_kind { PIECE_PLAIN, PIECE_QUOTE, PIECE_BROKEN, PIECE_NUL, PIECE_CONTROL, PIECE_BAD_ESCAPE };

static const enum json_text_fault fault_of_piece[] = {
    [PIECE_PLAIN] = JSON_TEXT_SOUND,
    [PIECE_QUOTE] = JSON_TEXT_SOUND,
    [PIECE_BROKEN] = JSON_TEXT_SOUND, // to be mended
    [PIECE_NUL] = JSON_TEXT_NUL,
    [PIECE_CONTROL] = JSON_TEXT_CONTROL_BYTE,
    [PIECE_BAD_ESCAPE] = JSON_TEXT_BAD_ESCAPE,
};

struct piece {
    enum piece_kind kind;
    size_t length;
};

static struct piece escape_piece(const char *text, size_t left)
{
    int32_t unit = escaped_unit(text, left);

    if (unit == 0)
        return (struct piece){PIECE_NUL, ESCAPE_LENGTH};
    if (is_high(unit) && is_low(escaped_unit(text + ESCAPE_LENGTH, left - ESCAPE_LENGTH)))
        return (struct piece){PIECE_PLAIN, 2 * ESCAPE_LENGTH};
    if (is_high(unit) || is_low(unit))
        return (struct piece){PIECE_BROKEN, ESCAPE_LENGTH};
    if (unit < 0 && left >= 2 && text[1] == 'u')
        return (struct piece){PIECE_BAD_ESCAPE, 2};
    // Which other escapes there are is cJSON's to say; here it only matters that \" does not end the string.
    return (struct piece){PIECE_PLAIN,
                          left < 2 || (unsigned char)text[1] < 0x20 || (unsigned char)text[1] > 0x7e ? 1 : 2};
}

static struct piece string_piece(const char *text, size_t left)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t length;

    if (*bytes == '\\')
        return escape_piece(text, left);
    if (*bytes == '"')
        return (struct piece){PIECE_QUOTE, 1};
    if (*bytes == '\0')
        return (struct piece){PIECE_NUL, 1};
    if (*bytes < 0x20)
        return (struct piece){PIECE_CONTROL, 1};
    if (*bytes < 0x80)
        return (struct piece){PIECE_PLAIN, 1};
    length = utf8_length(bytes, left);
    if (length == 0)
        return (struct piece){PIECE_BROKEN, utf8_invalid_length(bytes, left)};
    return (struct piece){PIECE_PLAIN, length};
}

// How long the comment at text is, its line end not included; 0: it has no end. Only called at "//" and "/*".
static size_t comment_length(const char *text, size_t left)
{
    const char *end;

    if (text[1] == '/') {
        end = memchr(text, '\n', left);
        return end ? (size_t)(end - text) : left;
    }
    for (size_t at = 3; at < left; at++) {
        if (text[at - 1] == '*' && text[at] == '/')
            return at + 1;
    }
    return 0;
}

static bool begins_comment(const char *text, size_t left)
{
    return left >= 2 && text[0] == '/' && (text[1] == '/' || text[1] == '*');
}

// Passes over the string that begins at *at, behind its end.
static void scan_string(const char *text, size_t length, size_t *at, struct json_text_report *report)
{
    size_t begin = *at;

    ++*at;
    while (*at < length) {
        struct piece piece = string_piece(text + *at, length - *at);

        report->fault = fault_of_piece[piece.kind];
        report->position = *at;
        if (report->fault != JSON_TEXT_SOUND)
            return;
        report->has_broken_text |= piece.kind == PIECE_BROKEN;
        *at += piece.length;
        if (piece.kind == PIECE_QUOTE)
            return;
    }
    report->fault = JSON_TEXT_UNTERMINATED;
    report->position = begin;
}

// cJSON takes every byte up to 0x20 for white space.
static bool is_stray_control(char c)
{
    return (unsigned char)c < ' ' && c != '\t' && c != '\n' && c != '\r';
}

size_t json_text_max_values(size_t length)
{
    size_t of_members = length / 10;

    return of_members > JSON_TEXT_MAX_VALUES ? of_members : JSON_TEXT_MAX_VALUES;
}

struct json_text_report json_text_scan(const char *text, size_t length)
{
    struct json_text_report report = {0};
    size_t at = 0, depth = 0, values = 0, max_values = json_text_max_values(length);

    while (at < length && report.fault == JSON_TEXT_SOUND) {
        char c = text[at];

        report.position = at;
        if (c == '"') {
            scan_string(text, length, &at, &report);
            continue;
        }
        if (begins_comment(text + at, length - at)) {
            size_t comment = comment_length(text + at, length - at);

            report.has_comments = true;
            if (comment == 0)
                report.fault = JSON_TEXT_UNTERMINATED;
            at += comment;
            continue;
        }
        // Each value but the first of a list stands behind a comma, and each list begins with a bracket.
        if ((c == '[' || c == '{') && ++depth > JSON_TEXT_MAX_DEPTH)
            report.fault = JSON_TEXT_TOO_DEEP;
        else if ((c == ']' || c == '}') && depth > 0)
            depth--;
        else if (c == '\0')
            report.fault = JSON_TEXT_NUL;
        else if (is_stray_control(c))
            report.fault = JSON_TEXT_CONTROL_BYTE;
        if ((c == '[' || c == '{' || c == ',') && ++values > max_values)
            report.fault = JSON_TEXT_TOO_MANY;
        at++;
    }
    return report;
}

// Copies the string at text[*at], mended, to `to`; returns the end of the copy.
static char *mend_string(const char *text, size_t length, size_t *at, char *to)
{
    *to++ = text[(*at)++];
    while (*at < length) {
        struct piece piece = string_piece(text + *at, length - *at);

        if (piece.kind == PIECE_BROKEN) {
            memcpy(to, UTF8_REPLACEMENT, strlen(UTF8_REPLACEMENT));
            to += strlen(UTF8_REPLACEMENT);
        } else {
            memcpy(to, text + *at, piece.length);
            to += piece.length;
        }
        *at += piece.length;
        if (piece.kind == PIECE_QUOTE)
            break;
    }
    return to;
}

char *json_text_sanitize(struct arena *arena, const char *text, size_t length, size_t *ret_length)
{
    // A broken byte becomes three.
    char *copy = length < SIZE_MAX / 4 ? arena_alloc(arena, length * strlen(UTF8_REPLACEMENT) + 1) : NULL;
    char *to = copy;
    size_t at = 0;

    if (!copy)
        return NULL;
    while (at < length) {
        if (text[at] == '"') {
            to = mend_string(text, length, &at, to);
        } else if (begins_comment(text + at, length - at)) {
            size_t comment = comment_length(text + at, length - at);

            memset(to, ' ', comment);
            to += comment;
            at += comment;
        } else {
            *to++ = text[at++];
        }
    }
    *to = '\0';
    *ret_length = (size_t)(to - copy);
    return copy;
}
