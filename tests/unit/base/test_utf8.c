// Tests validation and repair of UTF-8.
#include <stdbool.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/utf8.h"

struct row {
    const char *bytes;
    size_t length;  // length of the valid character at the start; 0: invalid
    size_t invalid; // if invalid: number of bytes that one U+FFFD replaces
};

// The first and the last character of each row of the grammar in RFC 3629, and the neighbours of both.
static const struct row rows[] = {
    // UTF8-1
    {"\x01", 1, 0},
    {"A", 1, 0},
    {"\x7f", 1, 0},
    {"A\x80", 1, 0},
    {"\x80", 0, 1},
    {"\xbf", 0, 1},
    // UTF8-2; C0 and C1 would be overlong forms
    {"\xc0\x80", 0, 1},
    {"\xc1\xbf", 0, 1},
    {"\xc2\x80", 2, 0},
    {"\xc2\xbf", 2, 0},
    {"\xdf\x80", 2, 0},
    {"\xdf\xbf", 2, 0},
    {"\xc2\x7f", 0, 1},
    {"\xc2\xc0", 0, 1},
    {"\xdf", 0, 1},
    // UTF8-3: E0 A0-BF, E1-EC, ED 80-9F (the rest are surrogates), EE-EF
    {"\xe0\x80\x80", 0, 1},
    {"\xe0\x9f\xbf", 0, 1},
    {"\xe0\xa0\x80", 3, 0},
    {"\xe0\xbf\xbf", 3, 0},
    {"\xe1\x80\x80", 3, 0},
    {"\xec\xbf\xbf", 3, 0},
    {"\xed\x80\x80", 3, 0},
    {"\xed\x9f\xbf", 3, 0},
    {"\xed\xa0\x80", 0, 1}, // U+D800
    {"\xed\xbf\xbf", 0, 1}, // U+DFFF
    {"\xee\x80\x80", 3, 0},
    {"\xef\xbf\xbd", 3, 0}, // U+FFFD itself
    {"\xef\xbf\xbf", 3, 0},
    {"\xe1\x80\x7f", 0, 2},
    {"\xe1\x80\xc0", 0, 2},
    {"\xe1\x7f\x80", 0, 1},
    {"\xe1\xc0\x80", 0, 1},
    {"\xe1\x80", 0, 2},
    {"\xe1", 0, 1},
    // UTF8-4: F0 90-BF, F1-F3, F4 80-8F (the rest lies above U+10FFFF)
    {"\xf0\x80\x80\x80", 0, 1},
    {"\xf0\x8f\xbf\xbf", 0, 1},
    {"\xf0\x90\x80\x80", 4, 0},
    {"\xf0\xbf\xbf\xbf", 4, 0},
    {"\xf1\x80\x80\x80", 4, 0},
    {"\xf3\xbf\xbf\xbf", 4, 0},
    {"\xf4\x80\x80\x80", 4, 0},
    {"\xf4\x8f\xbf\xbf", 4, 0}, // U+10FFFF
    {"\xf4\x90\x80\x80", 0, 1},
    {"\xf5\x80\x80\x80", 0, 1},
    {"\xf8\x88\x80\x80\x80", 0, 1},
    {"\xfe", 0, 1},
    {"\xff", 0, 1},
    {"\xf0\x9f\x98\x80 and more", 4, 0},
    {"\xf1\x80\x80\x7f", 0, 3},
    {"\xf1\x80\x80\xc0", 0, 3},
    {"\xf1\x80\x7f\x80", 0, 2},
    {"\xf1\x7f\x80\x80", 0, 1},
    {"\xf1\x80\x80", 0, 3},
    {"\xf1\x80", 0, 2},
    {"\xf1", 0, 1},
};

TEST(knows_the_limits_of_each_row)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        const unsigned char *bytes = (const unsigned char *)rows[i].bytes;
        size_t available = strlen(rows[i].bytes), length = utf8_length(bytes, available);
        size_t invalid = length > 0 ? 0 : utf8_invalid_length(bytes, available);

        if (length != rows[i].length || invalid != rows[i].invalid)
            fail_msg("row %zu, first byte %02x: %zu, %zu", i, bytes[0], length, invalid);
    }
}

TEST(nul_is_a_character_and_an_empty_text_is_not)
{
    assert_int_equal(utf8_length((const unsigned char *)"", 1), 1);
    assert_int_equal(utf8_length((const unsigned char *)"A", 0), 0);
}

static size_t encode(uint32_t point, unsigned char bytes[4])
{
    if (point < 0x80) {
        bytes[0] = (unsigned char)point;
        return 1;
    }
    if (point < 0x800) {
        bytes[0] = (unsigned char)(0xc0 | point >> 6);
        bytes[1] = (unsigned char)(0x80 | (point & 0x3f));
        return 2;
    }
    if (point < 0x10000) {
        bytes[0] = (unsigned char)(0xe0 | point >> 12);
        bytes[1] = (unsigned char)(0x80 | (point >> 6 & 0x3f));
        bytes[2] = (unsigned char)(0x80 | (point & 0x3f));
        return 3;
    }
    bytes[0] = (unsigned char)(0xf0 | point >> 18);
    bytes[1] = (unsigned char)(0x80 | (point >> 12 & 0x3f));
    bytes[2] = (unsigned char)(0x80 | (point >> 6 & 0x3f));
    bytes[3] = (unsigned char)(0x80 | (point & 0x3f));
    return 4;
}

// A character is valid only if it is complete. Surrogates and code points above U+10FFFF are never valid.
TEST(knows_every_code_point)
{
    unsigned char bytes[4];

    for (uint32_t point = 0; point < 0x110000 + 0x1000; point++) {
        bool valid = point < 0x110000 && (point < 0xd800 || point > 0xdfff);
        size_t length = encode(point, bytes);

        if (utf8_length(bytes, length) != (valid ? length : 0))
            fail_msg("U+%04X is taken for %zu bytes", point, utf8_length(bytes, length));
        for (size_t part = 1; part < length; part++) {
            if (utf8_length(bytes, part) != 0 || (valid && utf8_invalid_length(bytes, part) != part))
                fail_msg("U+%04X cut to %zu bytes", point, part);
        }
    }
}

// For a sample of all sequences of three bytes, each step moves forward and no step passes the end.
TEST(always_moves_forwards)
{
    for (uint32_t start = 0; start < 1 << 24; start += 7) {
        const unsigned char bytes[] = {(unsigned char)(start >> 16), (unsigned char)(start >> 8), (unsigned char)start};
        size_t at = 0;

        while (at < sizeof bytes) {
            size_t step = utf8_length(bytes + at, sizeof bytes - at);

            if (step == 0)
                step = utf8_invalid_length(bytes + at, sizeof bytes - at);
            if (step == 0 || step > sizeof bytes - at)
                fail_msg("%06x at %zu: a step of %zu", start, at, step);
            at += step;
        }
    }
}

TEST(replaces_invalid_text)
{
    static const struct {
        const char *text, *sanitized;
    } texts[] = {
        {"", ""},
        {"a\xe7\xa4\xbe", "a\xe7\xa4\xbe"},
        {"\xff", UTF8_REPLACEMENT},
        {"a\xe7\xa4z\xff", "a" UTF8_REPLACEMENT "z" UTF8_REPLACEMENT},
        // Every byte becomes three, so the copy needs all of the memory that was allocated for it.
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
         UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT
             UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT
                 UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT UTF8_REPLACEMENT},
    };
    struct arena arena;

    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < COUNT(texts); i++) {
        const char *sanitized = utf8_sanitize(&arena, texts[i].text);

        assert_ptr_not_equal(arena_copy(&arena, "next allocation", 15), NULL);
        assert_string_equal(sanitized, texts[i].sanitized);
    }
    arena_finish(&arena);
    arena_init(&arena, 0);
    assert_null(utf8_sanitize(&arena, "\xff"));
    assert_string_equal(utf8_sanitize(&arena, "valid"), "valid"); // needs no copy
    arena_finish(&arena);
}

TEST_MAIN(NULL, NULL)
