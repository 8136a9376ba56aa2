// The keys: the values were computed by sha256sum, and are for ever, because they are in databases.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../../../src/forward/uid.h"

#include <cmocka.h>

static const struct {
    const char *what;
    struct recorded_row group;
    const char *receiver;
    const char *hex;
} groups[] = {
    {"with its time",
     {.id = 7,
      .event.group =
          {.sdk_appid = 1400000001, .group_id = "@TGS#1", .has_event_time = true, .event_time_ms = 1670574414123}},
     "a",
     "d0315d9312ee04b867a72e91341910c969a5e778db835b00b6906161d0ebb592"},
    {"through another receiver, the same",
     {.id = 9,
      .event.group = {.sdk_appid = 1400000001,
                      .group_id = "@TGS#1",
                      .has_event_time = true,
                      .event_time_ms = 1670574414123,
                      .received_at_ms = 5}},
     "b",
     "d0315d9312ee04b867a72e91341910c969a5e778db835b00b6906161d0ebb592"},
    {"without a time",
     {.id = 7, .event.group = {.sdk_appid = 1, .group_id = "g", .received_at_ms = 1700000000000}},
     "a",
     "c1fde4e86d84598b2d1d0d6bbd258cc4055a00addbe39bd83d8ce85679db3411"},
    {"without a time, through another receiver",
     {.id = 7, .event.group = {.sdk_appid = 1, .group_id = "g", .received_at_ms = 1700000000000}},
     "b",
     "83fb9153658d3e4b7886dd2e941374c5fdd964d66d79e41fef0da7ebdb3e94c5"},
    {"without a time, another id",
     {.id = 8, .event.group = {.sdk_appid = 1, .group_id = "g", .received_at_ms = 1700000000000}},
     "a",
     "812720e5845fcb1eb9540457a7fbac87f076d2ee6b0765cb57d14d0187f884b0"},
};

static void assert_uid(const unsigned char uid[UID_BYTES], const char *hex, const char *what)
{
    char text[2 * UID_BYTES + 1];

    for (size_t i = 0; i < UID_BYTES; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", uid[i]);
    if (strcmp(text, hex) != 0)
        fail_msg("%s: %s", what, text);
}

static void groups_have_their_keys(void **state)
{
    unsigned char uid[UID_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        assert_int_equal(uid_of_group(&groups[i].group, groups[i].receiver, uid), 0);
        assert_uid(uid, groups[i].hex, groups[i].what);
    }
}

static void rejections_have_their_keys(void **state)
{
    const struct recorded_row rejection = {.id = 7, .event.rejection = {.received_at_ms = 1700000000000}};
    unsigned char uid[UID_BYTES];

    (void)state;
    assert_int_equal(uid_of_rejection(&rejection, "a", uid), 0);
    assert_uid(uid, "9d5237aa2ac43ac0b6d97231c2a4b37533d814079a94c6ea877160604a5f7916", "rejected");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups_have_their_keys),
        cmocka_unit_test(rejections_have_their_keys),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
