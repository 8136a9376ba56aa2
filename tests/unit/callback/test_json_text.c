// Tests the scanner and the sanitizer for the text of a body.
#include "callback/json_text.h"
#include "callback_fixture.h"

struct row {
    const char *text;
    size_t length;
    enum json_text_fault fault;
    size_t position; // compared only if there is a fault
    bool has_comments, has_invalid_text;
    const char *sanitized; // NULL: the text itself
};

#define MARK JSON_TEXT_NUL_MARK

#define NO_FAULT(comments, broken) JSON_TEXT_NO_FAULT, 0, comments, broken
#define FAULT(fault, position)     fault, position, false, false

static const struct row rows[] = {
    {TEXT(""), NO_FAULT(false, false), NULL},
    {TEXT(" \t\r\n{}"), NO_FAULT(false, false), NULL},
    {TEXT("\xef\xbb\xbf{}"), NO_FAULT(false, false), NULL},
    {TEXT("{\"a\\\"b\":[1,\"c\\\\\",null]}"), NO_FAULT(false, false), NULL},
    {TEXT("\"\xe7\xa4\xbe\xf0\x9f\x98\x80\x7f\xc2\x80\""), NO_FAULT(false, false), NULL},
    {TEXT("\"\\u0001\\u00e4\\uFFFD\\u000A\\u0010\""), NO_FAULT(false, false), NULL},
    {TEXT("\"\\ud83d\\ude00\\uD83D\\uDE00\\udbff\\udfff\""), NO_FAULT(false, false), NULL},
    {TEXT("}]}]{}"), NO_FAULT(false, false), NULL}, // cJSON rejects it

    // Comments, and text that looks like a comment.
    {TEXT("{}// a"), NO_FAULT(true, false), "{}    "},
    {TEXT("//"), NO_FAULT(true, false), "  "},
    {TEXT("1//a\n2//b\r\n"), NO_FAULT(true, false), "1   \n2    \n"},
    {TEXT("[/*a*/1/**/]"), NO_FAULT(true, false), "[     1    ]"},
    {TEXT("/*//*/1"), NO_FAULT(true, false), "      1"},
    {TEXT("// /*\n1"), NO_FAULT(true, false), "     \n1"},
    {TEXT("/*\"*/1"), NO_FAULT(true, false), "     1"},
    {TEXT("/*\0\x01\xff*/1"), NO_FAULT(true, false), "       1"},
    {TEXT("/***/1"), NO_FAULT(true, false), "     1"},
    {TEXT("\"//\\\"/**/\"//\""), NO_FAULT(true, false), "\"//\\\"/**/\"   "},
    {TEXT("\"http://a/*b\""), NO_FAULT(false, false), NULL},
    {TEXT("1/"), NO_FAULT(false, false), NULL},
    {TEXT("1/ /*/"), FAULT(JSON_TEXT_UNTERMINATED, 3), NULL},
    {TEXT("/*"), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
    {TEXT("1 /* a *"), FAULT(JSON_TEXT_UNTERMINATED, 2), NULL},

    // Invalid UTF-8 becomes as many U+FFFD as the Unicode standard recommends.
    {TEXT("\"a\xe7\xa4\""), NO_FAULT(false, true), "\"a" FFFD "\""},
    {TEXT("\"\xe7\xa4z\xff\""), NO_FAULT(false, true), "\"" FFFD "z" FFFD "\""},
    {TEXT("\"\xf0\x9f\x98\""), NO_FAULT(false, true), "\"" FFFD "\""},
    {TEXT("\"\xc0\x80\""), NO_FAULT(false, true), "\"" FFFD FFFD "\""},
    {TEXT("\"\xed\xa0\x80\""), NO_FAULT(false, true), "\"" FFFD FFFD FFFD "\""},
    {TEXT("[\"\xff\" // \xff\n]"), NO_FAULT(true, true), "[\"" FFFD "\"     \n]"},
    {TEXT("{\"\xff\":\"b\",\"c\":\"\xfe\"}"), NO_FAULT(false, true), "{\"" FFFD "\":\"b\",\"c\":\"" FFFD "\"}"},

    // Lone surrogates.
    {TEXT("\"a\\ud83d\""), NO_FAULT(false, true), "\"a" FFFD "\""},
    {TEXT("\"\\uDE00a\""), NO_FAULT(false, true), "\"" FFFD "a\""},
    {TEXT("\"\\ud83da\""), NO_FAULT(false, true), "\"" FFFD "a\""},
    {TEXT("\"\\ud83d\\n\""), NO_FAULT(false, true), "\"" FFFD "\\n\""},
    {TEXT("\"\\ud83d\\u0041\""), NO_FAULT(false, true), "\"" FFFD "\\u0041\""},
    {TEXT("\"\\ud83d\\ud83d\\ude00\""), NO_FAULT(false, true), "\"" FFFD "\\ud83d\\ude00\""},
    {TEXT("\"\\ude00\\ud83d\""), NO_FAULT(false, true), "\"" FFFD FFFD "\""},
    {TEXT("\"\\ud800\\udbff\""), NO_FAULT(false, true), "\"" FFFD FFFD "\""},
    {TEXT("\"\\ud7ff\\ue000\""), NO_FAULT(false, false), NULL},
    {TEXT("\"\\ud83dxude00\""), NO_FAULT(false, true), "\"" FFFD "xude00\""},
    {TEXT("\"\\ud809\""), NO_FAULT(false, true), "\"" FFFD "\""},
    {TEXT("\"\\ud800\\udc00\""), NO_FAULT(false, false), NULL},
    {TEXT("\"\\udc00\""), NO_FAULT(false, true), "\"" FFFD "\""},
    {TEXT("\"\\udfff\""), NO_FAULT(false, true), "\"" FFFD "\""},
    {TEXT("\"\\udbff\\ue000\""), NO_FAULT(false, true), "\"" FFFD "\\ue000\""},
    {TEXT("\"\\\\ud83d\""), NO_FAULT(false, false), NULL},
    {TEXT("\"\\ud83d\\\""), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},

    // A NUL byte is a fault. The escape of a NUL becomes the mark.
    {TEXT("\0"), FAULT(JSON_TEXT_NUL, 0), NULL},
    {TEXT("{}\0"), FAULT(JSON_TEXT_NUL, 2), NULL},
    {TEXT("\"a\0b\""), FAULT(JSON_TEXT_NUL, 2), NULL},
    {TEXT("\"a\\u0000\""), NO_FAULT(false, true), "\"a" MARK "\""},
    {TEXT("{\"\\u0000\":\"\\u0000\\u0000\"}"), NO_FAULT(false, true), "{\"" MARK "\":\"" MARK MARK "\"}"},
    {TEXT("\"\xff\\u0000\\u0000b\""), NO_FAULT(false, true), "\"" FFFD MARK MARK "b\""},
    {TEXT("\"\\ud83d\\u0000\\ude00\""), NO_FAULT(false, true), "\"" FFFD MARK FFFD "\""},
    {TEXT("\"\\u00000\\u0001\""), NO_FAULT(false, true), "\"" MARK "0\\u0001\""},
    {TEXT("\"\\u000\""), FAULT(JSON_TEXT_BAD_ESCAPE, 1), NULL},
    {TEXT("\"\\\\u0000\""), NO_FAULT(false, false), NULL},
    {TEXT("\"%00\""), NO_FAULT(false, false), NULL},

    // Other control characters, of which only white space is valid between values.
    {TEXT("\"\x01\""), FAULT(JSON_TEXT_CONTROL, 1), NULL},
    {TEXT("\"a\tb\""), FAULT(JSON_TEXT_CONTROL, 2), NULL},
    {TEXT("\"a\n\""), FAULT(JSON_TEXT_CONTROL, 2), NULL},
    {TEXT("\"a\\\n\""), FAULT(JSON_TEXT_CONTROL, 3), NULL},
    {TEXT("\"\x1f\""), FAULT(JSON_TEXT_CONTROL, 1), NULL},
    {TEXT("{\x01}"), FAULT(JSON_TEXT_CONTROL, 1), NULL},
    {TEXT("{}\x0b"), FAULT(JSON_TEXT_CONTROL, 2), NULL},
    {TEXT("\x1f{}"), FAULT(JSON_TEXT_CONTROL, 0), NULL},

    // The scan rejects a malformed \u escape, which cJSON may read as a NUL, and leaves all other escapes to cJSON.
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
    {TEXT("\"\\x\\\x7f\\\xc3\xa4\""), NO_FAULT(false, false), NULL},

    // Valid numbers, a number that only cJSON rejects, and numbers that the scan rejects.
    {TEXT("[0,-0,10,0.0,1e5,1E+05,-12.50e-7]"), NO_FAULT(false, false), NULL},
    {TEXT("1.2.3"), NO_FAULT(false, false), NULL},
    {TEXT("01"), FAULT(JSON_TEXT_BAD_NUMBER, 0), NULL},
    {TEXT("[1,-01]"), FAULT(JSON_TEXT_BAD_NUMBER, 3), NULL},
    {TEXT("1."), FAULT(JSON_TEXT_BAD_NUMBER, 0), NULL},
    {TEXT(" 1.e5"), FAULT(JSON_TEXT_BAD_NUMBER, 1), NULL},
    {TEXT("-.5"), FAULT(JSON_TEXT_BAD_NUMBER, 0), NULL},
    {TEXT("-"), FAULT(JSON_TEXT_BAD_NUMBER, 0), NULL},
    {TEXT("1e"), FAULT(JSON_TEXT_BAD_NUMBER, 0), NULL},
    {TEXT("1e+"), FAULT(JSON_TEXT_BAD_NUMBER, 0), NULL},
    {TEXT("/**/1e-]"), FAULT(JSON_TEXT_BAD_NUMBER, 4), NULL},

    // Strings without an end.
    {TEXT("\""), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
    {TEXT("{\"a\":\"b"), FAULT(JSON_TEXT_UNTERMINATED, 5), NULL},
    {TEXT("\"a\\\""), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
    {TEXT("\"a\\"), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
    {TEXT("\"\\u0041"), FAULT(JSON_TEXT_UNTERMINATED, 0), NULL},
};

TEST(scans_and_sanitizes)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct row *row = &rows[i];
        char *text = exact_copy(row->text, row->length);
        struct json_text_report report = json_text_scan(text, row->length);

        if (report.fault != row->fault)
            fail_msg("%s: fault %d", row->text, (int)report.fault);
        if (report.fault != JSON_TEXT_NO_FAULT) {
            if (report.position != row->position)
                fail_msg("%s: position %zu", row->text, report.position);
        } else {
            const char *expected = row->sanitized ? row->sanitized : row->text;
            size_t length = 0;
            struct arena arena;
            char *sanitized;

            if (report.has_comments != row->has_comments || report.has_invalid_text != row->has_invalid_text)
                fail_msg("%s: comments %d, broken %d", row->text, report.has_comments, report.has_invalid_text);
            arena_init(&arena, 1 << 20);
            sanitized = json_text_sanitize(&arena, text, row->length, &length);
            assert_non_null(sanitized);
            assert_int_equal(sanitized[length], '\0');
            if (length != strlen(expected) || memcmp(sanitized, expected, length) != 0)
                fail_msg("%s: %s", row->text, sanitized);
            arena_finish(&arena);
        }
        free(text);
    }
}

// Each prefix is in memory of exactly its length, so that a sanitizer finds a read past the end.
TEST(never_reads_past_the_end_of_a_prefix)
{
    static const char whole[] = "{\"a\\ud83d\\ude00\":[-10.5e+7,\"\xf0\x9f\x98\x80\\u0041\"]/* c */}//";

    for (size_t length = 0; length < sizeof whole; length++) {
        char *text = exact_copy(whole, length);
        enum json_text_fault fault = json_text_scan(text, length).fault;

        assert_true(fault == JSON_TEXT_NO_FAULT || fault == JSON_TEXT_UNTERMINATED || fault == JSON_TEXT_BAD_ESCAPE ||
                    fault == JSON_TEXT_BAD_NUMBER);
        free(text);
    }
}

TEST(limits_the_depth)
{
    static const char brackets[] = "[{";

    for (size_t depth = JSON_TEXT_MAX_DEPTH - 1; depth <= JSON_TEXT_MAX_DEPTH + 1; depth++) {
        char text[JSON_TEXT_MAX_DEPTH + 1];
        struct json_text_report report;

        for (size_t i = 0; i < depth; i++)
            text[i] = brackets[i % 2];
        report = json_text_scan(text, depth);
        assert_int_equal(report.fault, depth > JSON_TEXT_MAX_DEPTH ? JSON_TEXT_TOO_DEEP : JSON_TEXT_NO_FAULT);
        if (report.fault != JSON_TEXT_NO_FAULT)
            assert_int_equal(report.position, JSON_TEXT_MAX_DEPTH);
    }
}

TEST(does_not_count_siblings_as_depth)
{
    char text[4 * JSON_TEXT_MAX_DEPTH];

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "[]{}"[i % 4];
    assert_int_equal(json_text_scan(text, sizeof text).fault, JSON_TEXT_NO_FAULT);
}

TEST(limits_the_number_of_values)
{
    const size_t capacity = (JSON_TEXT_MAX_VALUES + 2) * strlen(",0");
    char *text = malloc(capacity);

    assert_non_null(text);
    assert_int_equal(json_text_max_values(0), JSON_TEXT_MAX_VALUES);
    assert_int_equal(json_text_max_values((size_t)4 << 20), ((size_t)4 << 20) / 10);
    for (size_t values = JSON_TEXT_MAX_VALUES - 1; values <= JSON_TEXT_MAX_VALUES + 1; values++) {
        struct json_text_report report;

        // In "[0,0,0…", the bracket counts for the first value.
        for (size_t i = 0; i < values; i++)
            memcpy(text + 2 * i, i == 0 ? "[0" : ",0", 2);
        report = json_text_scan(text, 2 * values);
        assert_int_equal(report.fault, values > JSON_TEXT_MAX_VALUES ? JSON_TEXT_TOO_MANY : JSON_TEXT_NO_FAULT);
        if (report.fault != JSON_TEXT_NO_FAULT)
            assert_int_equal(report.position, 2 * JSON_TEXT_MAX_VALUES);
    }
    // Commas in a string are not counted.
    memset(text, ',', capacity);
    text[0] = text[capacity - 1] = '"';
    assert_int_equal(json_text_scan(text, capacity).fault, JSON_TEXT_NO_FAULT);
    free(text);
}

TEST(sanitizing_fails_without_memory)
{
    struct arena arena;
    size_t length;

    arena_init(&arena, 0);
    assert_null(json_text_sanitize(&arena, "{}//", 4, &length));
    arena_finish(&arena);
}

TEST_MAIN(NULL, NULL)
