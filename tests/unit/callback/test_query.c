// Tests how a query is split into its parameters and decoded.
#include <errno.h>
#include <stdio.h>

#include "callback/query.h"
#include "callback_fixture.h"

// The expected value of one name in one query. If text is NULL, the query does not have the name.
struct row {
    const char *query;
    enum query_name name;
    const char *text;
    bool repeated;
    bool malformed;
};

static const struct row rows[] = {
    {"", QUERY_SDK_APPID, NULL, false, false},
    {"&&&=&==", QUERY_SDK_APPID, NULL, false, false},
    {"SdkAppid", QUERY_SDK_APPID, "", false, false},
    {"SdkAppid=", QUERY_SDK_APPID, "", false, false},
    {"SdkAppid=1", QUERY_SDK_APPID, "1", false, false},
    {"a=1&SdkAppid=1&b", QUERY_SDK_APPID, "1", false, false},
    {"=SdkAppid&SdkAppidx=1&xSdkAppid=2", QUERY_SDK_APPID, NULL, false, false},
    {"CallbackCommand=a=b=c", QUERY_CALLBACK_COMMAND, "a=b=c", false, false},
    {"CallbackCommand=a+b", QUERY_CALLBACK_COMMAND, "a+b", false, false},
    {"CallbackCommand=a;Sign=b", QUERY_SIGN, NULL, false, false},
    {"CallbackCommand=%41%2bb%26c%3Dd%25%32%35", QUERY_CALLBACK_COMMAND, "A+b&c=d%25", false, false},
    {"CallbackCommand=%c3%A4%FF", QUERY_CALLBACK_COMMAND, "\xc3\xa4\xff", false, false},

    // Names match in any case, after their valid escapes are decoded.
    {"SDKAPPID=1", QUERY_SDK_APPID, "1", false, false},
    {"SdkAppId=1", QUERY_SDK_APPID, "1", false, false},
    {"sdkappid=1", QUERY_SDK_APPID, "1", false, false},
    {"%53dk%41ppid=1", QUERY_SDK_APPID, "1", false, false},
    {"sign=a", QUERY_SIGN, "a", false, false},
    {"SIGN=a", QUERY_SIGN, "a", false, false},
    {"requesttime=a", QUERY_REQUEST_TIME, "a", false, false},
    {"REQUESTTIME=a", QUERY_REQUEST_TIME, "a", false, false},
    {"callbackcommand=aB", QUERY_CALLBACK_COMMAND, "aB", false, false},
    {"clientip=::1", QUERY_CLIENT_IP, "::1", false, false},
    {"OPTPLATFORM=iOS", QUERY_OPT_PLATFORM, "iOS", false, false},
    {"SdkAppid%00=1&SdkAppid%=2&SdkAppid%4=3&SdkAppid%zz=4", QUERY_SDK_APPID, NULL, false, false},
    {"SdkAppid%3D1", QUERY_SDK_APPID, NULL, false, false},

    // The first value of a repeated name is kept.
    {"SdkAppid=1&SdkAppid=1", QUERY_SDK_APPID, "1", true, false},
    {"SdkAppid=1&%53dkAppid=2", QUERY_SDK_APPID, "1", true, false},
    {"%53dkAppid=1&SdkAppid=2", QUERY_SDK_APPID, "1", true, false},
    {"SdkAppid&sdkappid=2", QUERY_SDK_APPID, "", true, false},
    {"SdkAppid=1&x=2&SDKAPPID", QUERY_SDK_APPID, "1", true, false},
    {"Sign=a&sign=b", QUERY_SIGN, "a", true, false},
    {"Sign=a&Sign=%", QUERY_SIGN, "a", true, false},
    {"RequestTime=1&Request%54ime=1", QUERY_REQUEST_TIME, "1", true, false},
    {"CallbackCommand=a&callbackcommand=b", QUERY_CALLBACK_COMMAND, "a", true, false},
    {"ClientIP=a&ClientIP=b", QUERY_CLIENT_IP, "a", true, false},
    {"OptPlatform=a&OptPlatform=b", QUERY_OPT_PLATFORM, "a", true, false},
    {"SdkAppid=1&Sign=2", QUERY_SIGN, "2", false, false},

    // Invalid escapes.
    {"Sign=a%", QUERY_SIGN, "a", false, true},
    {"Sign=a%4", QUERY_SIGN, "a", false, true},
    {"Sign=a%4&x", QUERY_SIGN, "a", false, true},
    {"Sign=a%4gb", QUERY_SIGN, "a", false, true},
    {"Sign=a%g4b", QUERY_SIGN, "a", false, true},
    {"Sign=a%%41", QUERY_SIGN, "a", false, true},
    {"Sign=a%u0041", QUERY_SIGN, "a", false, true},
    {"Sign=a%+1", QUERY_SIGN, "a", false, true},
    {"Sign=a%00b", QUERY_SIGN, "a", false, true},
    {"Sign=%00", QUERY_SIGN, "", false, true},
    {"Sign=a%01b%10", QUERY_SIGN,
     "a\x01"
     "b\x10",
     false, false},
    {"%=1&x=%&y=%00&Sign=a", QUERY_SIGN, "a", false, false},
};

// Reads a query. The values are valid until the next call.
static const struct query_value *read_parameters(const char *text)
{
    static struct query query;

    fixture_finish(&fixture);
    fixture_init(&fixture, 1 << 20);
    assert_int_equal(query_read(&fixture.arena, text, &query), 0);
    return query.values;
}

TEST(reads_queries)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct row *row = &rows[i];
        const struct query_value *value = &read_parameters(row->query)[row->name];

        if (!value->text != !row->text || (row->text && strcmp(value->text, row->text) != 0))
            fail_msg("%s: '%s'", row->query, value->text ? value->text : "(none)");
        if (value->repeated != row->repeated || value->malformed != row->malformed)
            fail_msg("%s: repeated %d, malformed %d", row->query, value->repeated, value->malformed);
    }
}

// The hexadecimal digits of an escape may be in upper or lower case.
TEST(decodes_every_byte)
{
    for (unsigned int byte = 1; byte <= 0xff; byte++) {
        const char expected[] = {(char)byte, '\0'};
        const struct query_value *values;
        char text[32];

        (void)snprintf(text, sizeof text, "Sign=%%%02x&OptPlatform=%%%02X", byte, byte);
        values = read_parameters(text);
        assert_string_equal(values[QUERY_SIGN].text, expected);
        assert_string_equal(values[QUERY_OPT_PLATFORM].text, expected);
    }
}

TEST(fails_without_memory)
{
    struct query query;
    struct arena arena;

    arena_init(&arena, 0);
    assert_int_equal(query_read(&arena, "SdkAppid=1", &query), -ENOMEM);
    arena_finish(&arena);
}

TEST_MAIN(NULL, finish_fixture)
