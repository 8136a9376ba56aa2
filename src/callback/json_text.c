// One scanner for strings serves both the check and the copy, so that they agree on where a string ends.
#include "json_text.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "imcallbackd/base/parse.h"
#include "imcallbackd/base/utf8.h"

#define ESCAPE_LENGTH strlen("\\uXXXX")

// Returns the UTF-16 code unit of the \uXXXX at text, or -1 if text does not start with such an escape.
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

// A piece of a string is one character, one escape or pair of escapes, one invalid sequence of bytes, or the end of the
// string.
struct piece {
    size_t length;
    enum json_text_fault fault;
    const char *replacement; // what json_text_sanitize() writes in place of an invalid piece; NULL: the piece is valid
    bool is_end;
};

static struct piece escape_piece(const char *text, size_t left)
{
    int32_t unit = escaped_unit(text, left);

    if (unit == 0)
        return (struct piece){.length = ESCAPE_LENGTH, .replacement = JSON_TEXT_NUL_MARK};
    if (is_high(unit) && is_low(escaped_unit(text + ESCAPE_LENGTH, left - ESCAPE_LENGTH)))
        return (struct piece){.length = 2 * ESCAPE_LENGTH};
    if (is_high(unit) || is_low(unit))
        return (struct piece){.length = ESCAPE_LENGTH, .replacement = UTF8_REPLACEMENT};
    if (unit < 0 && left >= 2 && text[1] == 'u')
        return (struct piece){.fault = JSON_TEXT_BAD_ESCAPE};
    // The two bytes are one piece, so that \" does not end the string; cJSON rejects unknown escapes. If the second
    // byte is not printable ASCII, it starts the next piece, because string_piece must check it.
    return (struct piece){.length = left < 2 || (unsigned char)text[1] < 0x20 || (unsigned char)text[1] > 0x7e ? 1 : 2};
}

static struct piece string_piece(const char *text, size_t left)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t length;

    if (*bytes == '\\')
        return escape_piece(text, left);
    if (*bytes == '"')
        return (struct piece){.length = 1, .is_end = true};
    if (*bytes == '\0')
        return (struct piece){.fault = JSON_TEXT_NUL};
    if (*bytes < 0x20)
        return (struct piece){.fault = JSON_TEXT_CONTROL};
    length = utf8_length(bytes, left);
    if (length == 0)
        return (struct piece){.length = utf8_invalid_length(bytes, left), .replacement = UTF8_REPLACEMENT};
    return (struct piece){.length = length};
}

static bool starts_comment(const char *text, size_t left)
{
    return left >= 2 && text[0] == '/' && (text[1] == '/' || text[1] == '*');
}

// Returns the length of the comment at text, without its newline; 0 if a /* comment has no end. text must start with //
// or /*.
static size_t comment_length(const char *text, size_t left)
{
    const char *end;

    assert(starts_comment(text, left));
    if (text[1] == '/') {
        end = memchr(text, '\n', left);
        return end ? (size_t)(end - text) : left;
    }
    end = memmem(text + 2, left - 2, "*/", 2);
    return end ? (size_t)(end - text) + 2 : 0;
}

// Moves *at past one or more digits. Returns false if there is no digit.
static bool skip_digits(const char *text, size_t length, size_t *at)
{
    size_t start = *at;

    while (*at < length && text[*at] >= '0' && text[*at] <= '9')
        ++*at;
    return *at > start;
}

// Returns the length of the number at text, or 0 if RFC 8259 does not allow the number. The number ends before a
// character that cannot continue it, such as the second dot of 1.2.3, and cJSON then rejects that character.
static size_t number_length(const char *text, size_t left)
{
    size_t start = text[0] == '-' ? 1 : 0, at = start;

    if (!skip_digits(text, left, &at) || (at > start + 1 && text[start] == '0'))
        return 0;
    if (at < left && text[at] == '.') {
        at++;
        if (!skip_digits(text, left, &at))
            return 0;
    }
    if (at < left && (text[at] == 'e' || text[at] == 'E')) {
        at++;
        if (at < left && (text[at] == '+' || text[at] == '-'))
            at++;
        if (!skip_digits(text, left, &at))
            return 0;
    }
    return at;
}

// Moves *at from the start of a string to the byte after its end. Stops at the first fault and adds it to the report.
static void scan_string(const char *text, size_t length, size_t *at, struct json_text_report *report)
{
    size_t start = *at;

    assert(text[start] == '"');
    ++*at;
    while (*at < length) {
        struct piece piece = string_piece(text + *at, length - *at);

        report->fault = piece.fault;
        report->position = *at;
        if (report->fault != JSON_TEXT_NO_FAULT)
            return;
        report->has_invalid_text |= piece.replacement != NULL;
        *at += piece.length;
        if (piece.is_end)
            return;
    }
    report->fault = JSON_TEXT_UNTERMINATED;
    report->position = start;
}

static bool starts_number(char c)
{
    return c == '-' || (c >= '0' && c <= '9');
}

// cJSON accepts every byte up to 0x20 as white space, but JSON allows only four of these bytes.
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

    while (at < length && report.fault == JSON_TEXT_NO_FAULT) {
        char c = text[at];

        report.position = at;
        if (c == '"') {
            scan_string(text, length, &at, &report);
            continue;
        }
        if (starts_comment(text + at, length - at)) {
            size_t comment = comment_length(text + at, length - at);

            report.has_comments = true;
            if (comment == 0)
                report.fault = JSON_TEXT_UNTERMINATED;
            at += comment;
            continue;
        }
        if (starts_number(c)) {
            size_t number = number_length(text + at, length - at);

            if (number == 0)
                report.fault = JSON_TEXT_BAD_NUMBER;
            at += number;
            continue;
        }
        // Counts commas and opening brackets instead of values: each value of a list follows a comma, except the first
        // one, which follows the bracket.
        if ((c == '[' || c == '{') && ++depth > JSON_TEXT_MAX_DEPTH)
            report.fault = JSON_TEXT_TOO_DEEP;
        else if ((c == ']' || c == '}') && depth > 0)
            depth--;
        else if (c == '\0')
            report.fault = JSON_TEXT_NUL;
        else if (is_stray_control(c))
            report.fault = JSON_TEXT_CONTROL;
        if ((c == '[' || c == '{' || c == ',') && ++values > max_values)
            report.fault = JSON_TEXT_TOO_MANY;
        at++;
    }
    return report;
}

// Copies the string at text[*at] with the replacements, moves *at after the string, and returns the end of the copy.
static char *sanitize_string(const char *text, size_t length, size_t *at, char *to)
{
    *to++ = text[(*at)++];
    while (*at < length) {
        struct piece piece = string_piece(text + *at, length - *at);
        size_t copied = piece.replacement ? strlen(piece.replacement) : piece.length;

        memcpy(to, piece.replacement ? piece.replacement : text + *at, copied);
        to += copied;
        *at += piece.length;
        if (piece.is_end)
            break;
    }
    return to;
}

char *json_text_sanitize(struct arena *arena, const char *text, size_t length, size_t *ret_length)
{
    // In the worst case, the 3 bytes of U+FFFD replace every single byte.
    char *copy = length < SIZE_MAX / 4 ? arena_alloc(arena, length * strlen(UTF8_REPLACEMENT) + 1) : NULL;
    char *to = copy;
    size_t at = 0;

    if (!copy)
        return NULL;
    while (at < length) {
        if (text[at] == '"') {
            to = sanitize_string(text, length, &at, to);
        } else if (starts_comment(text + at, length - at)) {
            size_t comment = comment_length(text + at, length - at);

            assert(comment > 0);
            memset(to, ' ', comment);
            to += comment;
            at += comment;
        } else {
            *to++ = text[at++];
        }
    }
    *to = '\0';
    *ret_length = (size_t)(to - copy);
    assert(*ret_length <= length * strlen(UTF8_REPLACEMENT));
    return copy;
}
