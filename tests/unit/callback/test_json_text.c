#include "../../../src/callback/json_text.h"
#include "callback_fixture.h"

#define FFFD "\xef\xbf\xbd"

struct row {
    const char *text;
    size_t length;
    struct json_text_report report; // position counts only with a fault
    const char *mended;             // NULL: as it came
};

#define SOUND(comments, broken)                                                                                        \
    {                                                                                                                  \
        JSON_TEXT_SOUND, 0, comments, broken                                                                           \
    }
#define FAULT(fault, position)                                                                                         \
    {                                                                                                                  \
        fault, position, false, false                                                                                  \
    }

static const struct row rows[] = {
    {TEXT(""), SOUND(false, false), NULL},
    {TEXT(" \t\r\n{}"), SOUND(false, false), NULL},
    {TEXT("\xef\xbb\xbf{}"), SOUND(false, false), NULL},
    {TEXT("{\"a\\\"b\":[1,\"c\\\\\",null]}"), SOUND(false, false), NULL},
    {TEXT("\"\xe7\xa4\xbe\xf0\x9f\x98\x80\x7f\xc2\x80\""), SOUND(false, false), NULL},
    {TEXT("\"\\u0001\\u00e4\\uFFFD\\u000A\\u0010\""), SOUND(false, false), NULL},
    {TEXT("\"\\ud83d\\ude00\\uD83D\\uDE00\\udbff\\udfff\""), SOUND(false, false), NULL},
    {TEXT("}]}]{}"), SOUND(false, false), NULL}, // cJSON's to refuse

    // Comments, and what looks like one.
    {TEXT("{}// a"), SOUND(true, false), "{}    "},
    {TEXT("//"), SOUND(true, false), "  "},
    {TEXT("1//a\n2//b\r\n"), SOUND(true, false), "1   \n2    \n"},
    {TEXT("[/*a*/1/**/]"), SOUND(true, false), "[     1    ]"},
    {TEXT("/*//*/1"), SOUND(true, false), "      1"},
    {TEXT("// /*\n1"), SOUND(true, false), "     \n1"},
    {TEXT("/*\"*/1"), SOUND(true, false), "     1"},
    {TEXT("/*\0\x01\xff*/1"), SOUND(true, false), "       1"},
    {TEXT("/***/1"), SOUND(true, false), "     1"},
    {TEXT("\"//\\\"/**/\"//\""), SOUND(true, false), "\"//\\\"/**/\"   "},
    {TEXT("\"http://a/*b\""), SOUND(false, false), NULL},
    {TEXT("1/"), SOUND(false, false), NULL},
    {TEXT("1/ /*/"), FAULT(JSON_TEXT_UNTERMINATED, 3), NULL},
    {TEXT("/*"), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
    {TEXT("1 /* a *"), FAULT(JSON_TEXT_UNTERMINATED, 2), NULL},

    // Text that is no UTF-8: U+FFFD, one for each that Unicode recommends.
    {TEXT("\"a\xe7\xa4\""), SOUND(false, true), "\"a" FFFD "\""},
    {TEXT("\"\xe7\xa4z\xff\""), SOUND(false, true), "\"" FFFD "z" FFFD "\""},
    {TEXT("\"\xf0\x9f\x98\""), SOUND(false, true), "\"" FFFD "\""},
    {TEXT("\"\xc0\x80\""), SOUND(false, true), "\"" FFFD FFFD "\""},
    {TEXT("\"\xed\xa0\x80\""), SOUND(false, true), "\"" FFFD FFFD FFFD "\""},
    {TEXT("[\"\xff\" // \xff\n]"), SOUND(true, true), "[\"" FFFD "\"     \n]"},
    {TEXT("{\"\xff\":\"b\",\"c\":\"\xfe\"}"), SOUND(false, true), "{\"" FFFD "\":\"b\",\"c\":\"" FFFD "\"}"},

    // Half pairs of surrogates.
    {TEXT("\"a\\ud83d\""), SOUND(false, true), "\"a" FFFD "\""},
    {TEXT("\"\\uDE00a\""), SOUND(false, true), "\"" FFFD "a\""},
    {TEXT("\"\\ud83da\""), SOUND(false, true), "\"" FFFD "a\""},
    {TEXT("\"\\ud83d\\n\""), SOUND(false, true), "\"" FFFD "\\n\""},
    {TEXT("\"\\ud83d\\u0041\""), SOUND(false, true), "\"" FFFD "\\u0041\""},
    {TEXT("\"\\ud83d\\ud83d\\ude00\""), SOUND(false, true), "\"" FFFD "\\ud83d\\ude00\""},
    {TEXT("\"\\ude00\\ud83d\""), SOUND(false, true), "\"" FFFD FFFD "\""},
    {TEXT("\"\\ud800\\udbff\""), SOUND(false, true), "\"" FFFD FFFD "\""},
    {TEXT("\"\\ud7ff\\ue000\""), SOUND(false, false), NULL},
    {TEXT("\"\\ud83dxude00\""), SOUND(false, true), "\"" FFFD "xude00\""},
    {TEXT("\"\\ud809\""), SOUND(false, true), "\"" FFFD "\""},
    {TEXT("\"\\ud800\\udc00\""), SOUND(false, false), NULL},
    {TEXT("\"\\udc00\""), SOUND(false, true), "\"" FFFD "\""},
    {TEXT("\"\\udfff\""), SOUND(false, true), "\"" FFFD "\""},
    {TEXT("\"\\udbff\\ue000\""), SOUND(false, true), "\"" FFFD "\\ue000\""},
    {TEXT("\"\\\\ud83d\""), SOUND(false, false), NULL},
    {TEXT("\"\\ud83d\\\""), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},

    // NUL, as a byte and as an escape.
    {TEXT("\0"), FAULT(JSON_TEXT_NUL, 0), NULL},
    {TEXT("{}\0"), FAULT(JSON_TEXT_NUL, 2), NULL},
    {TEXT("\"a\0b\""), FAULT(JSON_TEXT_NUL, 2), NULL},
    {TEXT("\"a\\u0000\""), FAULT(JSON_TEXT_NUL, 2), NULL},
    {TEXT("{\"\\u0000\":1}"), FAULT(JSON_TEXT_NUL, 2), NULL},
    {TEXT("\"\\\\u0000\""), SOUND(false, false), NULL},
    {TEXT("\"%00\""), SOUND(false, false), NULL},

    // Other control bytes, of which only white space may stand between values.
    {TEXT("\"\x01\""), FAULT(JSON_TEXT_CONTROL_BYTE, 1), NULL},
    {TEXT("\"a\tb\""), FAULT(JSON_TEXT_CONTROL_BYTE, 2), NULL},
    {TEXT("\"a\n\""), FAULT(JSON_TEXT_CONTROL_BYTE, 2), NULL},
    {TEXT("\"a\\\n\""), FAULT(JSON_TEXT_CONTROL_BYTE, 3), NULL},
    {TEXT("\"\x1f\""), FAULT(JSON_TEXT_CONTROL_BYTE, 1), NULL},
    {TEXT("{\x01}"), FAULT(JSON_TEXT_CONTROL_BYTE, 1), NULL},
    {TEXT("{}\x0b"), FAULT(JSON_TEXT_CONTROL_BYTE, 2), NULL},
    {TEXT("\x1f{}"), FAULT(JSON_TEXT_CONTROL_BYTE, 0), NULL},

    // Escapes that cJSON would take for a NUL, and those that it refuses by itself.
    {TEXT("\"a\\uzzzz\""), FAULT(JSON_TEXT_BAD_ESCAPE, 2), NULL},
    {TEXT("\"\\u12g4\""), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\u+123\""), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\u00/0\""), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\u00:0\""), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\u00@0\""), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\u00`0\""), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\u123\""), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\u12"), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\u"), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\ud83d\\uzzzz\""), FAULT(JSON_TEXT_BAD_ESCAPE, 7), NULL},
    {TEXT("\"\\x\\\x7f\\\xc3\xa4\""), SOUND(false, false), NULL},

    // Without an end.
    {TEXT("\""), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
    {TEXT("{\"a\":\"b"), FAULT(JSON_TEXT_UNTERMINATED, 5), NULL},
    {TEXT("\"a\\\""), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
    {TEXT("\"a\\"), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
    {TEXT("\"\\u0041"), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
};

// The text in memory of exactly its length, so that a sanitizer sees each byte that is read beyond.
static char *exact_copy(const char *text, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);

    assert_non_null(copy);
    memcpy(copy, text, length);
    return copy;
}

static void scans_and_mends(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct row *row = &rows[i];
        char *text = exact_copy(row->text, row->length);
        struct json_text_report report = json_text_scan(text, row->length);

        if (report.fault != row->report.fault)
            fail_msg("%s: fault %d", row->text, (int)report.fault);
        if (report.fault != JSON_TEXT_SOUND) {
            if (report.position != row->report.position)
                fail_msg("%s: position %zu", row->text, report.position);
        } else {
            const char *expected = row->mended ? row->mended : row->text;
            size_t length = 0;
            struct arena arena;
            char *mended;

            if (report.has_comments != row->report.has_comments ||
                report.has_broken_text != row->report.has_broken_text)
                fail_msg("%s: comments %d, broken %d", row->text, report.has_comments, report.has_broken_text);
            arena_init(&arena, 1 << 20);
            mended = json_text_sanitize(&arena, text, row->length, &length);
            assert_non_null(mended);
            assert_int_equal(mended[length], '\0');
            if (length != strlen(expected) || memcmp(mended, expected, length) != 0)
                fail_msg("%s: %s", row->text, mended);
            arena_finish(&arena);
        }
        free(text);
    }
}

// Every beginning of a text is scanned without reading beyond it.
static void stays_inside_of_every_beginning(void **state)
{
    static const char whole[] = "{\"a\\ud83d\\ude00\":[1,\"\xf0\x9f\x98\x80\\u0041\"]/* c */}//";

    (void)state;
    for (size_t length = 0; length < sizeof whole; length++) {
        char *text = exact_copy(whole, length);
        enum json_text_fault fault = json_text_scan(text, length).fault;

        assert_true(fault == JSON_TEXT_SOUND || fault == JSON_TEXT_UNTERMINATED || fault == JSON_TEXT_BAD_ESCAPE);
        free(text);
    }
}

static void depth_is_limited(void **state)
{
    static const char brackets[] = "[{";

    (void)state;
    for (size_t depth = JSON_TEXT_MAX_DEPTH - 1; depth <= JSON_TEXT_MAX_DEPTH + 1; depth++) {
        char text[JSON_TEXT_MAX_DEPTH + 1];
        struct json_text_report report;

        for (size_t i = 0; i < depth; i++)
            text[i] = brackets[i % 2];
        report = json_text_scan(text, depth);
        assert_int_equal(report.fault, depth > JSON_TEXT_MAX_DEPTH ? JSON_TEXT_TOO_DEEP : JSON_TEXT_SOUND);
        if (report.fault != JSON_TEXT_SOUND)
            assert_int_equal(report.position, JSON_TEXT_MAX_DEPTH);
    }
}

// Values beside each other do not add up to depth.
static void width_is_not_depth(void **state)
{
    char text[4 * JSON_TEXT_MAX_DEPTH];

    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "[]{}"[i % 4];
    assert_int_equal(json_text_scan(text, sizeof text).fault, JSON_TEXT_SOUND);
}

static void values_are_limited(void **state)
{
    const size_t capacity = (JSON_TEXT_MAX_VALUES + 2) * strlen(",0");
    char *text = malloc(capacity);

    (void)state;
    assert_non_null(text);
    assert_int_equal(json_text_max_values(0), JSON_TEXT_MAX_VALUES);
    assert_int_equal(json_text_max_values((size_t)4 << 20), ((size_t)4 << 20) / 10);
    for (size_t values = JSON_TEXT_MAX_VALUES - 1; values <= JSON_TEXT_MAX_VALUES + 1; values++) {
        struct json_text_report report;

        // "[0,0,0…": the list's first value shares the count of its bracket.
        for (size_t i = 0; i < values; i++)
            memcpy(text + 2 * i, i == 0 ? "[0" : ",0", 2);
        report = json_text_scan(text, 2 * values);
        assert_int_equal(report.fault, values > JSON_TEXT_MAX_VALUES ? JSON_TEXT_TOO_MANY : JSON_TEXT_SOUND);
        if (report.fault != JSON_TEXT_SOUND)
            assert_int_equal(report.position, 2 * JSON_TEXT_MAX_VALUES);
    }
    // In a string they are text.
    memset(text, ',', capacity);
    text[0] = text[capacity - 1] = '"';
    assert_int_equal(json_text_scan(text, capacity).fault, JSON_TEXT_SOUND);
    free(text);
}

static void mending_needs_memory(void **state)
{
    struct arena arena;
    size_t length;

    (void)state;
    arena_init(&arena, 0);
    assert_null(json_text_sanitize(&arena, "{}//", 4, &length));
    arena_finish(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scans_and_mends),    cmocka_unit_test(stays_inside_of_every_beginning),
        cmocka_unit_test(depth_is_limited),   cmocka_unit_test(width_is_not_depth),
        cmocka_unit_test(values_are_limited), cmocka_unit_test(mending_needs_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
