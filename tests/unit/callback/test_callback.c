// Tests how a query is judged by app, signature, age and command.
#include <inttypes.h>
#include <stdio.h>

#include "callback_fixture.h"
#include "imcallbackd/callback/signature.h"

#define APP    "SdkAppid=1400000001"
#define SIGNED "Sign=" SIGN "&RequestTime=" NOW
#define TWO    "SdkAppid=1400000002"
#define OPEN   "SdkAppid=1400000003"

#define WRONG_SIGN "0000000000000000000000000000000000000000000000000000000000000000"

struct row {
    const char *query;
    enum answer_code code; // OK: the body is read next
};

static const struct row rows[] = {
    {APP "&" SIGNED "&" COMMAND, ANSWER_OK},
    {"a=1&" COMMAND "&" SIGNED "&contenttype=json&" APP "&ClientIP&OptPlatform", ANSWER_OK},
    {"sdkappid=1400000001&SIGN=" SIGN "&requestTIME=" NOW "&callbackcommand=" CALLBACK_COMMAND, ANSWER_OK},
    {"SdkAppid=%31400000001&Sign=%317773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061"
     "&RequestTime=%31669872112&CallbackCommand=Group%2ECallbackAfterGroupDestroyed",
     ANSWER_OK},
    {OPEN "&" COMMAND, ANSWER_OK},
    {OPEN "&" COMMAND "&Sign=x&Sign=y&RequestTime=%", ANSWER_OK}, // without tokens, the signature is ignored
    {APP "&" SIGNED "&" COMMAND "&ClientIP=%&OptPlatform=%00&ClientIP&OptPlatform", ANSWER_OK},
    {"SdkAppid=9223372036854775807&" COMMAND, ANSWER_OK},

    {"", ANSWER_SDK_APPID_MISSING},
    {COMMAND, ANSWER_SDK_APPID_MISSING},
    {APP "&" APP "&" SIGNED "&" COMMAND, ANSWER_SDK_APPID_REPEATED},
    {APP "&sdkappid=1400000001&" SIGNED "&" COMMAND, ANSWER_SDK_APPID_REPEATED},
    {APP "&%53dkAppid=1400000001&" SIGNED "&" COMMAND, ANSWER_SDK_APPID_REPEATED},
    {APP "&SdkAppid&" SIGNED "&" COMMAND, ANSWER_SDK_APPID_REPEATED},
    {"SdkAppid", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=0", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=1400000000", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=1400000004", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=01400000003", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=+1400000003", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=-1400000003", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=1400000003.0", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=1400000003%20", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=1400000003%00", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=1400000003%", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=9223372036854775808", ANSWER_SDK_APPID_UNKNOWN},
    {"SdkAppid=18446744075109551619", ANSWER_SDK_APPID_UNKNOWN}, // 2^64 + 1400000003

    {APP "&RequestTime=" NOW "&" COMMAND, ANSWER_SIGN_MISSING},
    {APP "&" SIGNED "&sign=" SIGN "&" COMMAND, ANSWER_SIGN_REPEATED},
    {APP "&Sign&RequestTime=" NOW "&" COMMAND, ANSWER_SIGN_MALFORMED},
    {APP "&Sign=&RequestTime=" NOW "&" COMMAND, ANSWER_SIGN_MALFORMED},
    {APP "&Sign=%20" SIGN "&RequestTime=" NOW "&" COMMAND, ANSWER_SIGN_MALFORMED},
    {APP "&Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d48406&RequestTime=" NOW,
     ANSWER_SIGN_MALFORMED},
    {APP "&Sign=" SIGN "0&RequestTime=" NOW, ANSWER_SIGN_MALFORMED},
    {APP "&Sign=17773BC39A671D7B9AA835458704D2A6DB81360A5940292B587D6D760D484061&RequestTime=" NOW,
     ANSWER_SIGN_MALFORMED},
    {APP "&Sign=g7773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061&RequestTime=" NOW,
     ANSWER_SIGN_MALFORMED},
    {APP "&Sign=" SIGN "%00&RequestTime=" NOW, ANSWER_SIGN_MALFORMED},
    {APP "&Sign=" SIGN "%&RequestTime=" NOW, ANSWER_SIGN_MALFORMED},
    {APP "&Sign=" WRONG_SIGN "&RequestTime=" NOW "&" COMMAND, ANSWER_SIGN_WRONG},
    {APP "&Sign=" SIGN "&RequestTime=0" NOW "&" COMMAND, ANSWER_SIGN_WRONG}, // the string is hashed, not the number
    {APP "&Sign=" SIGN "&RequestTime=1669872113&" COMMAND, ANSWER_SIGN_WRONG},

    {APP "&Sign=" SIGN "&" COMMAND, ANSWER_REQUEST_TIME_MISSING},
    {APP "&" SIGNED "&requesttime=" NOW "&" COMMAND, ANSWER_REQUEST_TIME_REPEATED},
    {APP "&Sign=" SIGN "&RequestTime", ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=", ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=now", ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=%20" NOW, ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=" NOW "%20", ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=+" NOW, ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=-1", ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=" NOW ".0", ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=" NOW "%", ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=" NOW "%00", ANSWER_REQUEST_TIME_MALFORMED},
    {APP "&Sign=" SIGN "&RequestTime=99999999999", ANSWER_SIGN_WRONG},
    {APP "&Sign=" SIGN "&RequestTime=100000000000", ANSWER_REQUEST_TIME_MALFORMED},

    {OPEN, ANSWER_COMMAND_MISSING},
    {OPEN "&" COMMAND "&" COMMAND, ANSWER_COMMAND_REPEATED},
    {OPEN "&" COMMAND "&callbackCommand=Other", ANSWER_COMMAND_REPEATED},
    {OPEN "&CallbackCommand", ANSWER_COMMAND_NOT_HANDLED},
    {OPEN "&" COMMAND "x", ANSWER_COMMAND_NOT_HANDLED},
    {OPEN "&" COMMAND "%00", ANSWER_COMMAND_NOT_HANDLED},
    {OPEN "&CallbackCommand=group.callbackaftergroupdestroyed", ANSWER_COMMAND_NOT_HANDLED},
    {OPEN "&CallbackCommand=Group.CallbackAfterTopicDestroyed", ANSWER_COMMAND_NOT_HANDLED},

    // The signature is checked before the command.
    {APP "&" COMMAND, ANSWER_SIGN_MISSING},
    {APP "&CallbackCommand=Other&Sign=" WRONG_SIGN "&RequestTime=" NOW, ANSWER_SIGN_WRONG},
    {APP "&" SIGNED "&CallbackCommand=Other", ANSWER_COMMAND_NOT_HANDLED},
};

static bool is_about_commands(enum answer_code code)
{
    return code == ANSWER_COMMAND_MISSING || code == ANSWER_COMMAND_NOT_HANDLED;
}

TEST(accepts_or_rejects_queries)
{
    for (size_t i = 0; i < 2 * COUNT(rows); i++) {
        const struct row *row = &rows[i / 2];
        struct callback_rules rules = fixture_rules;
        enum callback_verdict verdict, expected = row->code == ANSWER_OK ? CALLBACK_READ_BODY : CALLBACK_REFUSE;

        rules.acknowledge_other_commands = i % 2 == 1;
        if (rules.acknowledge_other_commands && is_about_commands(row->code))
            expected = CALLBACK_ACKNOWLEDGE;
        verdict = read_query(&rules, row->query);
        if (verdict != expected)
            fail_msg("%s: verdict %d", row->query, (int)verdict);
        if (fixture.callback.answer != (verdict == CALLBACK_REFUSE ? row->code : ANSWER_OK))
            fail_msg("%s: %s", row->query, answer_name(fixture.callback.answer));
        if (verdict == CALLBACK_REFUSE)
            assert_int_equal(answer_http_status(row->code), row->code < ANSWER_COMMAND_MISSING ? 403 : 400);
        // The detail goes to the log and to the client, so it must not contain a secret.
        assert_null(strstr(fixture.callback.detail, SIGN));
        assert_null(strstr(fixture.callback.detail, TOKEN));
    }
}

// The window of each app is inclusive. Outside the window, the detail says how far apart the clocks are.
TEST(rejects_requests_outside_the_window)
{
    static const struct {
        const char *app;
        int64_t skew_s;
        const char *detail; // NULL: inside the window
    } ages[] = {
        {APP, 0, NULL},
        {APP, -59, NULL},
        {APP, -60, NULL},
        {APP, -61, "61 s behind"},
        {APP, 59, NULL},
        {APP, 60, NULL},
        {APP, 61, "61 s ahead"},
        {APP, -NOW_S, "1669872112 s behind"},
        {APP, 99999999999 - NOW_S, "98330127887 s ahead"},
        {TWO, -5, NULL},
        {TWO, -6, "6 s behind"},
        {TWO, 5, NULL},
        {TWO, 6, "6 s ahead"},
    };

    for (size_t i = 0; i < COUNT(ages); i++) {
        char query[256], request_time[24], sign[SIGNATURE_HEX_LENGTH + 1];
        enum callback_verdict verdict;

        (void)snprintf(request_time, sizeof request_time, "%" PRId64, NOW_S + ages[i].skew_s);
        assert_int_equal(signature_compute(TOKEN, request_time, sign), 0);
        (void)snprintf(query, sizeof query, "%s&Sign=%s&RequestTime=%s&" COMMAND, ages[i].app, sign, request_time);
        verdict = read_query(&fixture_rules, query);
        assert_true(fixture.callback.clock_skew_known);
        assert_int_equal(fixture.callback.clock_skew_s, ages[i].skew_s);
        if (ages[i].detail) {
            assert_int_equal(verdict, CALLBACK_REFUSE);
            assert_int_equal(fixture.callback.answer, ANSWER_REQUEST_TIME_STALE);
            assert_non_null(strstr(fixture.callback.detail, ages[i].detail));
        } else {
            assert_int_equal(verdict, CALLBACK_READ_BODY);
        }
    }
}

TEST(accepts_the_old_and_the_new_token)
{
    static const struct {
        const char *token;
        enum callback_verdict verdict;
    } tokens[] = {
        {"the-old-one", CALLBACK_READ_BODY},
        {TOKEN, CALLBACK_READ_BODY},
        {"the-old-onexxxxyyyy", CALLBACK_REFUSE},
        {"", CALLBACK_REFUSE},
    };

    for (size_t i = 0; i < COUNT(tokens); i++) {
        char query[256], sign[SIGNATURE_HEX_LENGTH + 1];

        assert_int_equal(signature_compute(tokens[i].token, NOW, sign), 0);
        (void)snprintf(query, sizeof query, TWO "&Sign=%s&RequestTime=" NOW "&" COMMAND, sign);
        assert_int_equal(read_query(&fixture_rules, query), tokens[i].verdict);
    }
}

TEST(records_only_valid_text)
{
    static const struct {
        const char *value, *stored;
    } values[] = {
        {"", ""},
        {"=", ""},
        {"=203.0.113.7", "203.0.113.7"},
        {"=Unkown", "Unkown"},
        {"=a+b%20c", "a+b c"},
        {"=%f0%9f%98%80", "\xf0\x9f\x98\x80"},
        {"=a%ff", "a\xef\xbf\xbd"},
        {"=\xff"
         "a%c3",
         "\xef\xbf\xbd"
         "a\xef\xbf\xbd"},
        {"=%e7%a4b", "\xef\xbf\xbd"
                     "b"},
        {"=%ed%a0%80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"=a%00b", "a"},
        {"=a%zz", "a"},
    };

    for (size_t i = 0; i < COUNT(values); i++) {
        char query[256];

        (void)snprintf(query, sizeof query, OPEN_QUERY "&ClientIP%s&OptPlatform%s&ClientIP=x&OptPlatform=x",
                       values[i].value, values[i].value);
        assert_int_equal(read_query(&fixture_rules, query), CALLBACK_READ_BODY);
        assert_string_equal(fixture.callback.group.client_ip, values[i].stored);
        assert_string_equal(fixture.callback.group.opt_platform, values[i].stored);
        assert_int_equal(fixture.callback.group.sdk_appid, 1400000003);
        assert_string_equal(fixture.callback.group.remote_address, "192.0.2.1");
        assert_ptr_equal(fixture.callback.app, &fixture_apps[2]);
    }
}

TEST(quotes_other_commands)
{
    static const struct {
        const char *command, *detail;
    } commands[] = {
        {"", "The query has ''."},
        {"C2C.CallbackAfterSendMsg", "The query has 'C2C.CallbackAfterSendMsg'."},
        {"a%0ab%1b[31m%7f", "The query has 'a\\x0ab\\x1b[31m\\x7f'."},
        {"'%5c%22", "The query has '\\x27\\x5c\"'."},
        {"%e7%a4", "The query has '\\xe7\\xa4'."},
    };
    struct buffer query = {0};

    for (size_t i = 0; i < COUNT(commands); i++) {
        query.length = 0;
        assert_int_equal(buffer_print(&query, OPEN "&CallbackCommand=%s", commands[i].command), 0);
        assert_int_equal(read_query(&fixture_rules, query.data), CALLBACK_REFUSE);
        assert_string_equal(fixture.callback.detail, commands[i].detail);
    }
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(buffer_print(&query, "%s", i % 2 ? "%ff" : "a"), 0);
    assert_int_equal(read_query(&fixture_rules, query.data), CALLBACK_REFUSE);
    assert_in_range(strlen(fixture.callback.detail), 100, 160);
    assert_string_equal(strchr(fixture.callback.detail, '\0') - 5, "...'.");
    buffer_finish(&query);
}

// Raises the memory limit until it suffices. With every smaller limit, the answer must be "overloaded".
TEST(is_overloaded_without_memory)
{
    struct buffer query = {0};
    enum callback_verdict verdict = CALLBACK_REFUSE;
    size_t refused = 0;
    char broken[4001];

    memset(broken, 0xff, sizeof broken - 1);
    broken[sizeof broken - 1] = '\0';
    assert_int_equal(buffer_print(&query, OPEN_QUERY "&ClientIP=%s&OptPlatform=%s", broken, broken), 0);
    for (size_t limit = 0; verdict == CALLBACK_REFUSE; limit += 1024) {
        fixture_finish(&fixture);
        fixture_init(&fixture, limit);
        verdict = callback_read_query(&fixture.callback, &fixture_rules, query.data);
        if (verdict == CALLBACK_REFUSE) {
            assert_int_equal(fixture.callback.answer, ANSWER_OVERLOADED);
            refused++;
        }
    }
    assert_int_equal(verdict, CALLBACK_READ_BODY);
    assert_in_range(refused, 30, 60); // the query takes 8 KB, and its two sanitized values take 12 KB each
    buffer_finish(&query);
}

TEST_MAIN(NULL, finish_fixture)
