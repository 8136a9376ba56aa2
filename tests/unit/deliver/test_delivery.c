// Tests the request that is built for an event: URL, body, identity and signature.
#include <string.h>

#include "../unit.h"
#include "deliver/delivery.h"

#define NOW_S  INT64_C(1669872112)
#define PREFIX "https://app.example.com/cb"

static const struct deliver_app apps[] = {{1400000001, "xxxxyyyy"}, {1400000002, NULL}};
static const struct deliver_settings settings = {
    .url = PREFIX, .receiver = "a", .apps = apps, .app_count = COUNT(apps)};
static const struct webhook_secrets no_secrets;

static struct recorded_row event(int64_t sdk_appid)
{
    return (struct recorded_row){.id = 7,
                                 .received_at_ms = 1700000000000,
                                 .event.group = {.sdk_appid = sdk_appid,
                                                 .group_id = "@TGS#1",
                                                 .has_event_time = true,
                                                 .event_time_ms = 1670574414123,
                                                 .type = "Public",
                                                 .owner_account = "",
                                                 .operator_account = "",
                                                 .name = "",
                                                 .opt_platform = "iOS",
                                                 .client_ip = "192.0.2.1",
                                                 .received_at_ms = 1700000000000}};
}

static struct delivery built(const struct deliver_settings *with, const struct recorded_row *row)
{
    struct delivery delivery = {0};
    struct error error;

    assert_int_equal(delivery_build(&delivery, with, &no_secrets, row, NOW_S, &error), 0);
    return delivery;
}

static void assert_url(const struct deliver_settings *with, const struct recorded_row *row, const char *expected)
{
    struct delivery delivery = built(with, row);

    assert_string_equal(buffer_text(&delivery.url), expected);
    delivery_finish(&delivery);
}

// The expected Sign is that of the example in the documentation of the service.
TEST(signs_the_query_with_the_token_of_the_app)
{
    const struct recorded_row row = event(1400000001);

    assert_url(&settings, &row,
               PREFIX "?SdkAppid=1400000001&CallbackCommand=Group.CallbackAfterGroupDestroyed&contenttype=json"
                      "&ClientIP=192.0.2.1&OptPlatform=iOS&RequestTime=1669872112"
                      "&Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061");
}

TEST(sends_no_sign_for_an_app_without_a_token_or_without_a_section)
{
    const struct recorded_row rows[] = {event(1400000002), event(3)};

    assert_url(&settings, &rows[0],
               PREFIX "?SdkAppid=1400000002&CallbackCommand=Group.CallbackAfterGroupDestroyed&contenttype=json"
                      "&ClientIP=192.0.2.1&OptPlatform=iOS");
    assert_url(&settings, &rows[1],
               PREFIX "?SdkAppid=3&CallbackCommand=Group.CallbackAfterGroupDestroyed&contenttype=json"
                      "&ClientIP=192.0.2.1&OptPlatform=iOS");
}

TEST(encodes_what_callers_sent_and_keeps_the_query_of_the_url)
{
    struct deliver_settings with = settings;
    struct recorded_row row = event(3);

    with.url = "https://h/?tenant=a";
    row.event.group.client_ip = "a&Sign=1#\x7f ";
    row.event.group.opt_platform = "\xe7\xbe\xa4~.-_";
    assert_url(&with, &row,
               "https://h/?tenant=a&SdkAppid=3&CallbackCommand=Group.CallbackAfterGroupDestroyed&contenttype=json"
               "&ClientIP=a%26Sign%3D1%23%7F%20&OptPlatform=%E7%BE%A4~.-_");
}

TEST(sends_the_raw_body_if_it_was_kept_and_else_an_equivalent_one)
{
    struct recorded_row row = event(3);
    struct delivery delivery = built(&settings, &row);

    assert_string_equal(buffer_text(&delivery.body),
                        "{\"CallbackCommand\":\"Group.CallbackAfterGroupDestroyed\",\"GroupId\":\"@TGS#1\","
                        "\"Type\":\"Public\",\"EventTime\":\"1670574414123\"}");
    delivery_finish(&delivery);
    row.event.group.keep_body = true;
    row.event.group.body = "{ \0 }";
    row.event.group.body_length = 5;
    delivery = built(&settings, &row);
    assert_int_equal(delivery.body.length, 5);
    assert_memory_equal(delivery.body.data, "{ \0 }", 5);
    delivery_finish(&delivery);
}

// The expected ids are the keys that `imcallbackd forward` writes; see tests/unit/outbound/test_event_uid.c.
TEST(identifies_the_event_as_forward_does)
{
    struct recorded_row row = event(1400000001);
    struct delivery delivery = built(&settings, &row);

    assert_string_equal(buffer_text(&delivery.id), "d0315d9312ee04b867a72e91341910c969a5e778db835b00b6906161d0ebb592");
    assert_string_equal(buffer_text(&delivery.timestamp), "1669872112");
    assert_string_equal(buffer_text(&delivery.signature), "");
    row.event.group.sdk_appid = 1;
    row.event.group.group_id = "g";
    row.event.group.has_event_time = false;
    delivery_finish(&delivery);
    delivery = built(&settings, &row);
    assert_string_equal(buffer_text(&delivery.id), "c1fde4e86d84598b2d1d0d6bbd258cc4055a00addbe39bd83d8ce85679db3411");
    delivery_finish(&delivery);
}

TEST(uses_its_buffers_again)
{
    const struct recorded_row rows[] = {event(1400000001), event(1400000002)};
    struct webhook_secrets secrets = {.count = 1};
    struct delivery delivery = {0};
    struct buffer first_signature = {0};
    struct error error;

    secrets.secrets[0].length = 24;
    assert_int_equal(delivery_build(&delivery, &settings, &secrets, &rows[0], NOW_S, &error), 0);
    assert_int_equal(buffer_append(&first_signature, delivery.signature.data, delivery.signature.length), 0);
    assert_int_equal(delivery_build(&delivery, &settings, &secrets, &rows[1], NOW_S, &error), 0);
    assert_int_equal(delivery_build(&delivery, &settings, &secrets, &rows[0], NOW_S, &error), 0);
    assert_string_equal(buffer_text(&delivery.signature), buffer_text(&first_signature));
    assert_int_equal(delivery.id.length, 64);
    delivery_finish(&delivery);
    buffer_finish(&first_signature);
}

TEST_MAIN(NULL, NULL)
