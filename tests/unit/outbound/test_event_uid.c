// Tests the identities of rows. The expected values were computed with sha256sum. They must never change, because
// existing destinations contain them.
#include <stdio.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/outbound/event_uid.h"

#define GROUP_WITH_TIME                                                                                                \
    .sdk_appid = 1400000001, .group_id = "@TGS#1", .has_event_time = true, .event_time_ms = 1670574414123
#define RECEIVED_AT_MS 1700000000000

static const struct {
    const char *expectation;
    enum stream stream;
    struct recorded_row row;
    const char *receiver, *hex;
} rows[] = {
    {"an event with a time",
     STREAM_GROUPS,
     {.id = 7, .event.group = {GROUP_WITH_TIME}},
     "a",
     "d0315d9312ee04b867a72e91341910c969a5e778db835b00b6906161d0ebb592"},
    {"the same event through another receiver has the same key",
     STREAM_GROUPS,
     {.id = 9, .received_at_ms = 5, .event.group = {GROUP_WITH_TIME, .received_at_ms = 5}},
     "b",
     "d0315d9312ee04b867a72e91341910c969a5e778db835b00b6906161d0ebb592"},
    {"an event without a time",
     STREAM_GROUPS,
     {.id = 7, .received_at_ms = RECEIVED_AT_MS, .event.group = {.sdk_appid = 1, .group_id = "g"}},
     "a",
     "c1fde4e86d84598b2d1d0d6bbd258cc4055a00addbe39bd83d8ce85679db3411"},
    {"an event without a time has another key through another receiver",
     STREAM_GROUPS,
     {.id = 7, .received_at_ms = RECEIVED_AT_MS, .event.group = {.sdk_appid = 1, .group_id = "g"}},
     "b",
     "83fb9153658d3e4b7886dd2e941374c5fdd964d66d79e41fef0da7ebdb3e94c5"},
    {"an event without a time has another key with another id",
     STREAM_GROUPS,
     {.id = 8, .received_at_ms = RECEIVED_AT_MS, .event.group = {.sdk_appid = 1, .group_id = "g"}},
     "a",
     "812720e5845fcb1eb9540457a7fbac87f076d2ee6b0765cb57d14d0187f884b0"},
    {"a rejected callback",
     STREAM_REJECTIONS,
     {.id = 7, .received_at_ms = RECEIVED_AT_MS},
     "a",
     "9d5237aa2ac43ac0b6d97231c2a4b37533d814079a94c6ea877160604a5f7916"},
};

TEST(derives_the_documented_keys)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        unsigned char uid[UID_BYTES];
        char hex[2 * UID_BYTES + 1];

        assert_int_equal(row_uid(rows[i].stream, &rows[i].row, rows[i].receiver, uid), 0);
        for (size_t at = 0; at < UID_BYTES; at++)
            (void)snprintf(hex + 2 * at, 3, "%02x", uid[at]);
        if (strcmp(hex, rows[i].hex) != 0)
            fail_msg("%s: %s", rows[i].expectation, hex);
    }
}

TEST_MAIN(NULL, NULL)
