// Tests the table of answers, their JSON, and the quoting of client text for their details.
#include <errno.h>
#include <stdio.h>

#include "callback_fixture.h"

#include <cjson/cJSON.h>

// Numbers and names never change, because tools of operators rely on them.
static const struct {
    int code;
    unsigned int http_status;
    const char *name;
} promised[] = {
    // in the order of enum answer_code
    {0, 200, "ok"},
    {120001, 400, "bad_framing"},
    {120002, 404, "path_unknown"},
    {120003, 405, "method_not_allowed"},
    {120004, 413, "body_too_large"},
    {120005, 415, "content_encoded"},
    {120006, 403, "peer_not_allowed"},
    {120007, 503, "overloaded"},
    {120101, 403, "sdk_appid_missing"},
    {120102, 403, "sdk_appid_repeated"},
    {120103, 403, "sdk_appid_unknown"},
    {120111, 403, "sign_missing"},
    {120112, 403, "sign_repeated"},
    {120113, 403, "sign_malformed"},
    {120114, 403, "sign_wrong"},
    {120121, 403, "request_time_missing"},
    {120122, 403, "request_time_repeated"},
    {120123, 403, "request_time_malformed"},
    {120124, 403, "request_time_stale"},
    {120131, 400, "command_missing"},
    {120132, 400, "command_repeated"},
    {120133, 400, "command_not_handled"},
    {120134, 400, "command_differs"},
    {120201, 400, "body_not_json"},
    {120202, 400, "body_field_missing"},
    {120203, 400, "body_field_type"},
    {120204, 400, "body_field_repeated"},
    {120205, 400, "body_nul"},
    {120206, 400, "body_too_complex"},
    {120301, 503, "store_unavailable"},
};

TEST(keeps_names_and_status)
{
    assert_int_equal(COUNT(promised), ANSWER_CODE_COUNT);
    for (size_t i = 0; i < COUNT(promised); i++) {
        assert_int_equal(answer_http_status((enum answer_code)i), promised[i].http_status);
        assert_string_equal(answer_name((enum answer_code)i), promised[i].name);
        assert_int_equal(answer_error_code((enum answer_code)i), promised[i].code);
    }
}

TEST(an_unknown_code_is_a_failure)
{
    assert_int_equal(answer_http_status(ANSWER_CODE_COUNT), 503);
    assert_string_equal(answer_name((enum answer_code) - 1), "store_unavailable");
}

TEST(prints_the_exact_body_of_ok)
{
    quote("");
    assert_int_equal(answer_print(&body, ANSWER_OK, NULL), 0);
    assert_string_equal(body.data, "{\"ActionStatus\":\"OK\",\"ErrorInfo\":\"\",\"ErrorCode\":0}");
}

TEST(each_failure_has_three_fields_and_a_sentence_of_its_own)
{
    char *sentences[ANSWER_CODE_COUNT] = {NULL};

    for (size_t i = 1; i < COUNT(promised); i++) {
        cJSON *tree;

        quote("");
        assert_int_equal(answer_print(&body, (enum answer_code)i, NULL), 0);
        tree = cJSON_Parse(body.data);
        assert_non_null(tree);
        assert_int_equal(cJSON_GetArraySize(tree), 3);
        assert_string_equal(cJSON_GetObjectItemCaseSensitive(tree, "ActionStatus")->valuestring, "FAIL");
        assert_int_equal(cJSON_GetObjectItemCaseSensitive(tree, "ErrorCode")->valueint, promised[i].code);
        sentences[i] = strdup(cJSON_GetObjectItemCaseSensitive(tree, "ErrorInfo")->valuestring);
        assert_non_null(sentences[i]);
        assert_int_equal(sentences[i][strlen(sentences[i]) - 1], '.');
        assert_string_equal(answer_sentence((enum answer_code)i), sentences[i]);
        for (size_t other = 1; other < i; other++)
            assert_string_not_equal(sentences[i], sentences[other]);
        cJSON_Delete(tree);
    }
    for (size_t i = 1; i < COUNT(promised); i++)
        free(sentences[i]);
}

TEST(escapes_details)
{
    static const struct {
        const char *detail, *printed; // printed: what follows the sentence
    } details[] = {
        {"", ""},
        {"At byte 17.", " At byte 17."},
        {"\"\\/", " \\\"\\\\/"},
        {"a\nb\x1f\x7f", " a\\u000ab\\u001f\x7f"},
        {"\xe7\xa4\xbe", " \xe7\xa4\xbe"},
        {"cut \xe7\xa4", " cut \xef\xbf\xbd"},
        {"\xff\"", " \xef\xbf\xbd\\\""},
        {"</script>%s%n", " </script>%s%n"},
    };

    for (size_t i = 0; i < COUNT(details); i++) {
        char expected[256];

        (void)snprintf(expected, sizeof expected,
                       "before {\"ActionStatus\":\"FAIL\",\"ErrorInfo\":\"The body is not a JSON "
                       "object.%s\",\"ErrorCode\":120201}",
                       details[i].printed);
        quote("before ");
        assert_int_equal(answer_print(&body, ANSWER_BODY_NOT_JSON, details[i].detail), 0);
        assert_string_equal(body.data, expected);
    }
}

TEST(fails_without_memory)
{
    // The buffer is too large to grow, and its bytes are never accessed.
    struct buffer full = {.data = "", .length = SIZE_MAX / 2, .capacity = SIZE_MAX / 2};

    assert_int_equal(answer_print(&full, ANSWER_OK, NULL), -ENOMEM);
}

TEST(quotes_each_byte)
{
    for (int byte = 1; byte <= 0xff; byte++) {
        static const char digits[] = "0123456789abcdef";
        const char text[] = {(char)byte, '\0'};
        const char plain[] = {'\'', (char)byte, '\'', '\0'};
        const char escaped[] = {'\'', '\\', 'x', digits[byte >> 4], digits[byte & 15], '\'', '\0'};
        bool is_plain = byte >= 0x20 && byte <= 0x7e && byte != '\'' && byte != '\\';
        char quoted[ANSWER_QUOTE_BYTES];

        answer_quote(text, quoted);
        assert_string_equal(quoted, is_plain ? plain : escaped);
    }
}

// A text of at most 123 characters, of which the last may be escaped, stays complete. A longer text is cut. No quote
// exceeds the buffer.
TEST(cuts_a_long_quote)
{
    for (size_t plain = 120; plain <= 130; plain++) {
        for (size_t escapes = 0; escapes <= 1; escapes++) {
            const char *end = escapes > 0 ? "\\xff'" : "'";
            bool is_complete = plain + escapes <= 123;
            char text[136], quoted[ANSWER_QUOTE_BYTES];

            memset(text, 'a', plain);
            text[plain] = escapes > 0 ? '\xff' : '\0';
            text[plain + 1] = '\0';
            answer_quote(text, quoted);
            assert_in_range(strlen(quoted), plain < 123 ? plain : 123, ANSWER_QUOTE_BYTES - 1);
            assert_memory_equal(quoted + 1, text, plain < 123 ? plain : 123);
            assert_string_equal(quoted + 1 + (is_complete ? plain : 123), is_complete ? end : "...'");
        }
    }
}

TEST_MAIN(NULL, finish_fixture)
