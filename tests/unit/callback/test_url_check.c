// Tests the check of the URL that the console sends: a signed request without SdkAppid or without CallbackCommand gets
// OK, unless its body may contain an event.
#include <inttypes.h>
#include <stdio.h>

#include "callback_fixture.h"
#include "imcallbackd/callback/signature.h"

#define SIGNED     "Sign=" SIGN "&RequestTime=" NOW
#define APP        "SdkAppid=1400000001&"
#define OPEN       "SdkAppid=1400000003"
#define WRONG_SIGN "0000000000000000000000000000000000000000000000000000000000000000"

#define NO_APP     ANSWER_SDK_APPID_MISSING
#define NO_COMMAND ANSWER_COMMAND_MISSING

static struct callback_rules rules_with(bool acknowledge_other_commands)
{
    struct callback_rules rules = fixture_rules;

    rules.acknowledge_other_commands = acknowledge_other_commands;
    return rules;
}

TEST(reads_the_body_of_a_signed_query_that_lacks_a_parameter)
{
    static const struct {
        const char *query;
        enum answer_code fault;
    } queries[] = {
        {SIGNED, NO_APP},
        {SIGNED "&" COMMAND, NO_APP},
        {SIGNED "&CallbackCommand=Other", NO_APP},
        {SIGNED "&CallbackCommand", NO_APP},
        {"requesttime=" NOW "&a=1&SIGN=" SIGN "&&contenttype=json", NO_APP},
        {APP SIGNED, NO_COMMAND},
        {"tenant=a&" SIGNED "&sdkappid=1400000002&ClientIP=203.0.113.7", NO_COMMAND},
    };

    for (size_t i = 0; i < 2 * COUNT(queries); i++) {
        struct callback_rules rules = rules_with(i % 2 == 1);

        if (read_query(&rules, queries[i / 2].query) != CALLBACK_READ_BODY)
            fail_msg("%s: %s", queries[i / 2].query, answer_name(fixture.callback.answer));
        assert_int_equal(fixture.callback.answer, ANSWER_OK);
        assert_int_equal(fixture.callback.query_fault, queries[i / 2].fault);
        assert_true(fixture.callback.clock_skew_known);
        assert_true(fixture.callback.app->token_count > 0);
    }
}

TEST(refuses_a_query_without_app_that_is_not_genuine)
{
    static const struct {
        const char *query;
        enum answer_code code;
    } queries[] = {
        {"a=1", ANSWER_SDK_APPID_MISSING},
        {"RequestTime=" NOW, ANSWER_SDK_APPID_MISSING},
        {"Sign", ANSWER_SIGN_MALFORMED},
        {"Sign=" SIGN "0&RequestTime=" NOW, ANSWER_SIGN_MALFORMED},
        {SIGNED "&Sign=" SIGN, ANSWER_SIGN_REPEATED},
        {"Sign=" WRONG_SIGN "&RequestTime=" NOW, ANSWER_SIGN_WRONG},
        {"Sign=" SIGN "&RequestTime=1669872113", ANSWER_SIGN_WRONG},
        {"Sign=" SIGN, ANSWER_REQUEST_TIME_MISSING},
        {SIGNED "&RequestTime=" NOW, ANSWER_REQUEST_TIME_REPEATED},
        {"Sign=" SIGN "&RequestTime=now", ANSWER_REQUEST_TIME_MALFORMED},
        {SIGNED "&" COMMAND "&" COMMAND, ANSWER_COMMAND_REPEATED},
        // If SdkAppid is present, it must appear once and name a configured app.
        {"SdkAppid&" SIGNED, ANSWER_SDK_APPID_UNKNOWN},
        {"SdkAppid=&" SIGNED, ANSWER_SDK_APPID_UNKNOWN},
        {"SdkAppid=1400000000&" SIGNED, ANSWER_SDK_APPID_UNKNOWN},
        {APP APP SIGNED, ANSWER_SDK_APPID_REPEATED},
    };

    for (size_t i = 0; i < 2 * COUNT(queries); i++) {
        struct callback_rules rules = rules_with(i % 2 == 1);

        assert_int_equal(read_query(&rules, queries[i / 2].query), CALLBACK_REFUSE);
        if (fixture.callback.answer != queries[i / 2].code)
            fail_msg("%s: %s", queries[i / 2].query, answer_name(fixture.callback.answer));
    }
}

// Without a token of the app, the daemon cannot tell whether a request is genuine.
TEST(an_app_without_token_has_no_url_check)
{
    struct callback_rules rules = {.apps = &fixture_apps[2], .app_count = 2}; // neither app has a token

    assert_int_equal(read_query(&rules, SIGNED), CALLBACK_REFUSE);
    assert_int_equal(fixture.callback.answer, ANSWER_SDK_APPID_MISSING);
    assert_int_equal(read_query(&rules, OPEN "&" SIGNED), CALLBACK_REFUSE);
    assert_int_equal(fixture.callback.answer, ANSWER_COMMAND_MISSING);
    assert_int_equal(read_query(&fixture_rules, OPEN "&" SIGNED), CALLBACK_REFUSE);
    assert_int_equal(fixture.callback.answer, ANSWER_COMMAND_MISSING);
    rules.acknowledge_other_commands = true;
    assert_int_equal(read_query(&rules, OPEN "&" SIGNED), CALLBACK_ACKNOWLEDGE);
}

// Without SdkAppid, any app's token may have signed the query. If two apps share this token, the larger window applies.
TEST(checks_the_window_of_the_app_that_signed)
{
    static const struct {
        const char *token;
        int64_t skew_s;
        enum answer_code code;
    } ages[] = {
        {TOKEN, 60, ANSWER_OK},
        {TOKEN, -60, ANSWER_OK},
        {TOKEN, 61, ANSWER_REQUEST_TIME_STALE},
        {TOKEN, -61, ANSWER_REQUEST_TIME_STALE},
        {"the-old-one", 5, ANSWER_OK},
        {"the-old-one", -6, ANSWER_REQUEST_TIME_STALE},
        {"another", 0, ANSWER_SIGN_WRONG},
        {"", 0, ANSWER_SIGN_WRONG},
    };
    static const struct callback_app reversed[] = {
        {.sdk_appid = 2, .tokens = {"the-old-one", TOKEN}, .token_count = 2, .request_time_window_s = 5},
        {.sdk_appid = 3},
        {.sdk_appid = 1, .tokens = {TOKEN}, .token_count = 1, .request_time_window_s = 60},
    };
    const struct callback_rules orders[] = {fixture_rules, {.apps = reversed, .app_count = COUNT(reversed)}};

    for (size_t i = 0; i < 2 * COUNT(ages); i++) {
        char query[256], request_time[24], sign[SIGNATURE_HEX_LENGTH + 1];
        enum answer_code code = ages[i / 2].code;

        (void)snprintf(request_time, sizeof request_time, "%" PRId64, NOW_S + ages[i / 2].skew_s);
        assert_int_equal(signature_compute(ages[i / 2].token, request_time, sign), 0);
        (void)snprintf(query, sizeof query, "Sign=%s&RequestTime=%s", sign, request_time);
        assert_int_equal(read_query(&orders[i % 2], query), code == ANSWER_OK ? CALLBACK_READ_BODY : CALLBACK_REFUSE);
        assert_int_equal(fixture.callback.answer, code);
        assert_int_equal(fixture.callback.clock_skew_known, code != ANSWER_SIGN_WRONG);
    }
}

static enum callback_verdict read_check(const char *query)
{
    assert_int_equal(read_query(&fixture_rules, query), CALLBACK_READ_BODY);
    fixture.body = exact_copy(body.data, body.length);
    return callback_read_body(&fixture.callback, &fixture_rules, fixture.body, body.length);
}

TEST(answers_ok_if_the_body_has_no_event)
{
    static const char *const bodies[] = {
        "",
        " \t\r\n",
        "{}",
        "{'CallbackCommand':'Other'}",
        "{'CallbackCommand':''}",
        "{'CallbackCommand':['Group.CallbackAfterGroupDestroyed']}",
        "{'callbackcommand':'Group.CallbackAfterGroupDestroyed','groupid':'g'}",
        "{'Info':'GroupId','x':['GroupId'],'Command':'Group.CallbackAfterGroupDestroyed'}",
        "{'GroupId\\u0000':'g'}",
        "{ } // a comment\n",
        "{'Name':'\xff'}",
        "[]",
        "'x'",
        "0",
        "null",
    };

    for (size_t i = 0; i < 2 * COUNT(bodies); i++) {
        quote(bodies[i / 2]);
        if (read_check(i % 2 == 0 ? SIGNED : APP SIGNED) != CALLBACK_URL_CHECK)
            fail_msg("%s: %s", bodies[i / 2], fixture.callback.detail);
        assert_int_equal(fixture.callback.answer, ANSWER_OK);
        assert_null(fixture.callback.rejected.body);
    }
}

// OK means that the event was recorded, so an OK for a body that may contain an event could lose this event.
TEST(refuses_a_body_with_an_event)
{
    static const struct {
        const char *body, *detail;
    } bodies[] = {
        {G ",'EventTime':7}", "an event"},
        {"{" HEAD "}", "an event"},
        {"{'GroupId':'g'}", "an event"},
        {"{'GroupId':null}", "an event"},
        {"{'GroupId':{}}", "an event"},
        {"{'CallbackCommand':'Other','GroupId':'g'}", "an event"},
        {"{'CallbackCommand':'Other'," HEAD "}", "an event"},
        {"{'\\u0047roup\\u0049d':'g'}", "an event"},
        {"{'CallbackCommand':'Group\\u002eCallbackAfterGroupDestroyed'}", "an event"},
        {"//\n{/**/'GroupId'/**/:/**/'g'}", "an event"},
        {"\xef\xbb\xbf" G "}", "an event"},
        {"{'GroupId':'\\u0000'}", "an event"},
        {"{'Name':'\xff','GroupId':'g'}", "an event"},
        {"[" G "}]", "an event"},
        {"{'x':[[{'y':{'GroupId':'g'}}]]}", "an event"},
        {"[0,1,'x',{'a':{}}," G "}]", "an event"},

        {"{'Cal", "not understood"},
        {"{'a':01}", "not understood"},
        {"{} {}", "not understood"},
        {"{'a':1}" G "}", "not understood"},
        {"GroupId=g", "not understood"},
        {"x", "not understood"},
        {"{'a':'\x01'}", "not understood"},
        {"//", "not understood"},
        {"\xef\xbb\xbf", "not understood"},
        {"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", "not understood"},
    };

    for (size_t i = 0; i < 2 * COUNT(bodies); i++) {
        quote(bodies[i / 2].body);
        if (read_check(i % 2 == 0 ? SIGNED "&" COMMAND : APP SIGNED) != CALLBACK_REFUSE)
            fail_msg("%s: not refused", bodies[i / 2].body);
        assert_int_equal(fixture.callback.answer, i % 2 == 0 ? ANSWER_SDK_APPID_MISSING : ANSWER_COMMAND_MISSING);
        if (!strstr(fixture.callback.detail, bodies[i / 2].detail))
            fail_msg("%s: %s", bodies[i / 2].body, fixture.callback.detail);
        assert_null(fixture.callback.rejected.body);
    }
}

TEST(refuses_an_event_at_any_depth)
{
    for (size_t depth = 1; depth <= 32; depth++) {
        body.length = 0;
        for (size_t i = 1; i < depth; i++)
            PRINT(i % 2 ? "[" : "{\"a\":");
        PRINT("{\"GroupId\":1}");
        for (size_t i = depth - 1; i >= 1; i--)
            PRINT(i % 2 ? "]" : "}");
        assert_int_equal(read_check(SIGNED), CALLBACK_REFUSE);
        assert_string_equal(fixture.callback.detail, "The body has an event, so this is not a check of the URL.");
    }
}

TEST(refuses_a_nul_byte_in_the_body)
{
    static const char nuls[][3] = {"\0{}", "{}\0", "\0\0\0"};

    for (size_t i = 0; i < COUNT(nuls); i++) {
        body.length = 0;
        assert_int_equal(buffer_append(&body, nuls[i], sizeof nuls[i]), 0);
        assert_int_equal(read_check(SIGNED), CALLBACK_REFUSE);
    }
}

// A body whose tree exceeds the memory limit cannot be searched for an event, so it must be treated as if it contained
// one.
TEST(refuses_an_event_that_takes_too_much_memory)
{
    quote("{'a':[");
    for (int i = 0; i < 500; i++)
        PRINT("{\"b\":%d},", i);
    PRINT("{\"GroupId\":\"g\"}]}");
    for (size_t limit = 4096; limit < 200000; limit += 1024) {
        fixture_finish(&fixture);
        fixture_init(&fixture, limit);
        assert_int_equal(callback_read_query(&fixture.callback, &fixture_rules, SIGNED), CALLBACK_READ_BODY);
        assert_int_equal(callback_read_body(&fixture.callback, &fixture_rules, body.data, body.length),
                         CALLBACK_REFUSE);
        assert_int_equal(fixture.callback.answer, ANSWER_SDK_APPID_MISSING);
    }
}

TEST_MAIN(NULL, finish_fixture)
