// Tests the printed body of an event. The fuzz target `body` tests that every printed body is read as the same event.
#include "../unit.h"
#include "imcallbackd/callback/print_body.h"

#define EMPTY .type = "", .owner_account = "", .operator_account = "", .name = ""
#define HEAD  "{\"CallbackCommand\":\"Group.CallbackAfterGroupDestroyed\",\"GroupId\":"

static const char *const members[] = {"a", "\xe7\xbe\xa4\"\\"};

static const struct {
    const char *expectation;
    struct destroyed_group group;
    const char *body;
} groups[] = {
    {"leaves out what the event does not have", {EMPTY, .group_id = "g"}, HEAD "\"g\"}"},
    {"prints all fields in the order of the reference page",
     {.group_id = "@TGS#1",
      .type = "Public",
      .owner_account = "o",
      .operator_account = "p",
      .name = "n",
      .has_member_list = true,
      .member_count = 1,
      .members = members,
      .has_event_time = true,
      .event_time_ms = 1670574414123},
     HEAD "\"@TGS#1\",\"Type\":\"Public\",\"Owner_Account\":\"o\",\"Operator_Account\":\"p\",\"Name\":\"n\","
          "\"MemberList\":[{\"Member_Account\":\"a\"}],\"EventTime\":\"1670574414123\"}"},
    {"keeps an empty list", {EMPTY, .group_id = "g", .has_member_list = true}, HEAD "\"g\",\"MemberList\":[]}"},
    {"keeps the time 0", {EMPTY, .group_id = "g", .has_event_time = true}, HEAD "\"g\",\"EventTime\":\"0\"}"},
    {"escapes text",
     {EMPTY, .group_id = "\"\\\n\x01", .has_member_list = true, .member_count = 2, .members = members},
     HEAD "\"\\\"\\\\\\u000a\\u0001\",\"MemberList\":[{\"Member_Account\":\"a\"},"
          "{\"Member_Account\":\"\xe7\xbe\xa4\\\"\\\\\"}]}"},
};

TEST(prints_the_fields_of_the_protocol)
{
    for (size_t i = 0; i < COUNT(groups); i++) {
        struct buffer body = {0};

        print_message("%s\n", groups[i].expectation);
        assert_int_equal(callback_print_body(&body, &groups[i].group), 0);
        assert_string_equal(buffer_text(&body), groups[i].body);
        buffer_finish(&body);
    }
}

TEST_MAIN(NULL, NULL)
