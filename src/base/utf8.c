// Works on byte ranges and never decodes a code point.
#include "imcallbackd/base/utf8.h"

#include <assert.h>
#include <string.h>

// The first byte of a character determines the length of the character and the range of the second byte (table 3-7 of
// the Unicode standard, well-formed byte sequences). The third and the fourth byte are always 80 to BF.
struct lead {
    size_t length; // length of the character in bytes; 0: no character starts with this byte
    unsigned char second_min, second_max;
};

static struct lead utf8_lead(unsigned char byte)
{
    if (byte < 0x80)
        return (struct lead){1, 0, 0};
    if (byte < 0xc2 || byte > 0xf4)
        return (struct lead){0, 0, 0};
    if (byte < 0xe0)
        return (struct lead){2, 0x80, 0xbf};
    if (byte < 0xf0)
        return (struct lead){3, byte == 0xe0 ? 0xa0 : 0x80, byte == 0xed ? 0x9f : 0xbf};
    return (struct lead){4, byte == 0xf0 ? 0x90 : 0x80, byte == 0xf4 ? 0x8f : 0xbf};
}

// Returns how many bytes at text, at least 1, match a character that starts with the first byte.
static size_t utf8_matching(struct lead lead, const unsigned char *text, size_t available)
{
    size_t length = 1;

    if (lead.length < 2 || available < 2 || text[1] < lead.second_min || text[1] > lead.second_max)
        return length;
    for (length = 2; length < lead.length && length < available; length++) {
        if ((text[length] & 0xc0) != 0x80)
            break;
    }
    return length;
}

size_t utf8_length(const unsigned char *text, size_t available)
{
    struct lead lead;

    if (available == 0)
        return 0;
    lead = utf8_lead(text[0]);
    return lead.length > 0 && utf8_matching(lead, text, available) == lead.length ? lead.length : 0;
}

size_t utf8_invalid_length(const unsigned char *text, size_t available)
{
    assert(available > 0);
    return utf8_matching(utf8_lead(text[0]), text, available);
}

const char *utf8_sanitize(struct arena *arena, const char *text)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + strlen(text);
    char *copy, *to;

    while (at < end && utf8_length(at, (size_t)(end - at)) > 0)
        at += utf8_length(at, (size_t)(end - at));
    if (at == end)
        return text;
    copy = to = arena_alloc(arena, strlen(text) * strlen(UTF8_REPLACEMENT) + 1);
    if (!copy)
        return NULL;
    for (at = (const unsigned char *)text; at < end;) {
        size_t length = utf8_length(at, (size_t)(end - at));
        size_t copied = length > 0 ? length : strlen(UTF8_REPLACEMENT);

        memcpy(to, length > 0 ? (const char *)at : UTF8_REPLACEMENT, copied);
        to += copied;
        at += length > 0 ? length : utf8_invalid_length(at, (size_t)(end - at));
    }
    *to = '\0';
    return copy;
}
