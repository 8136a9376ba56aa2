#include <errno.h>
#include <stdio.h>

#include "callback_fixture.h"

#include <cjson/cJSON.h>

// Numbers and names are promised to operators for ever.
static const struct {
    int code;
    unsigned int http_status;
    const char *name;
} promised[] = {
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

static void keeps_its_promises(void **state)
{
    bool seen[ANSWER_CODE_COUNT] = {false};

    (void)state;
    assert_int_equal(COUNT(promised), ANSWER_CODE_COUNT);
    for (size_t i = 0; i < COUNT(promised); i++) {
        enum answer_code code = (enum answer_code)promised[i].code;

        assert_int_equal(answer_http_status(code), promised[i].http_status);
        assert_string_equal(answer_name(code), promised[i].name);
        assert_in_range(answer_index(code), 0, ANSWER_CODE_COUNT - 1);
        assert_int_equal(answer_at(answer_index(code)), code);
        assert_false(seen[answer_index(code)]);
        seen[answer_index(code)] = true;
    }
}

// A code that is none must not be taken for a success.
static void unknown_codes_are_failures(void **state)
{
    (void)state;
    assert_int_equal(answer_http_status((enum answer_code)1), 503);
    assert_string_equal(answer_name((enum answer_code) - 1), "store_unavailable");
}

static void ok_is_exact(void **state)
{
    struct buffer body = {0};

    (void)state;
    assert_int_equal(answer_print(&body, ANSWER_OK, NULL), 0);
    assert_string_equal(body.data, "{\"ActionStatus\":\"OK\",\"ErrorInfo\":\"\",\"ErrorCode\":0}");
    buffer_finish(&body);
}

// Each failure is three fields, and its sentence is its own.
static void failures_have_three_fields_and_a_sentence(void **state)
{
    char *sentences[ANSWER_CODE_COUNT] = {NULL};

    (void)state;
    for (size_t i = 1; i < COUNT(promised); i++) {
        struct buffer body = {0};
        cJSON *tree;

        assert_int_equal(answer_print(&body, (enum answer_code)promised[i].code, NULL), 0);
        tree = cJSON_Parse(body.data);
        assert_non_null(tree);
        assert_int_equal(cJSON_GetArraySize(tree), 3);
        assert_string_equal(cJSON_GetObjectItemCaseSensitive(tree, "ActionStatus")->valuestring, "FAIL");
        assert_int_equal(cJSON_GetObjectItemCaseSensitive(tree, "ErrorCode")->valueint, promised[i].code);
        sentences[i] = strdup(cJSON_GetObjectItemCaseSensitive(tree, "ErrorInfo")->valuestring);
        assert_non_null(sentences[i]);
        assert_int_equal(sentences[i][strlen(sentences[i]) - 1], '.');
        for (size_t other = 1; other < i; other++)
            assert_string_not_equal(sentences[i], sentences[other]);
        cJSON_Delete(tree);
        buffer_finish(&body);
    }
    for (size_t i = 1; i < COUNT(promised); i++)
        free(sentences[i]);
}

static void details_are_escaped(void **state)
{
    static const struct {
        const char *detail, *printed; // printed: behind the sentence
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

    (void)state;
    for (size_t i = 0; i < COUNT(details); i++) {
        struct buffer body = {0};
        char expected[256];

        (void)snprintf(expected, sizeof expected,
                       "before {\"ActionStatus\":\"FAIL\",\"ErrorInfo\":\"The body is not a JSON "
                       "object.%s\",\"ErrorCode\":120201}",
                       details[i].printed);
        assert_int_equal(buffer_print(&body, "before "), 0);
        assert_int_equal(answer_print(&body, ANSWER_BODY_NOT_JSON, details[i].detail), 0);
        assert_string_equal(body.data, expected);
        buffer_finish(&body);
    }
}

static void needs_memory(void **state)
{
    // A buffer that cannot grow any more; its bytes are never touched.
    struct buffer full = {.data = "", .length = SIZE_MAX / 2, .capacity = SIZE_MAX / 2};

    (void)state;
    assert_int_equal(answer_print(&full, ANSWER_OK, NULL), -ENOMEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_its_promises),  cmocka_unit_test(unknown_codes_are_failures),
        cmocka_unit_test(ok_is_exact),         cmocka_unit_test(failures_have_three_fields_and_a_sentence),
        cmocka_unit_test(details_are_escaped), cmocka_unit_test(needs_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
