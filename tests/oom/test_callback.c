// If an allocation fails, the module either answers 503 or returns the same result as without the failure. The failure
// never makes the module reject a callback as wrongly signed or invalid, or return a part of an event.
#include <stdio.h>
#include <string.h>

#include "../unit/unit.h"
#include "heap_fault.h"
#include "imcallbackd/base/file.h"
#include "imcallbackd/callback/callback.h"

#include <openssl/err.h>

// The example in the documentation of the callback service.
#define SIGNED "Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061&RequestTime=1669872112"
#define NOW_MS (INT64_C(1669872112) * 1000)

static const struct callback_app app = {
    .sdk_appid = 1400000001, .tokens = {"an-old-one", "xxxxyyyy"}, .token_count = 2, .request_time_window_s = 60};
static const struct callback_rules rules = {.apps = &app, .app_count = 1};
static const char query[] = "SdkAppid=1400000001&CallbackCommand=" CALLBACK_COMMAND
                            "&contenttype=json&ClientIP=203.0.113.7&OptPlatform=%ff%e7%a4%be&" SIGNED;

struct call {
    const char *query; // NULL: the query of a callback
    struct buffer body;
    struct arena arena;
    struct callback callback;
    enum callback_verdict verdict;
    struct buffer outcome; // the result without a fault
};

static void start_call(void *context)
{
    struct call *call = context;

    arena_init(&call->arena, (size_t)64 << 20);
    call->callback = (struct callback){.arena = &call->arena, .remote_address = "192.0.2.1", .received_at_ms = NOW_MS};
}

static void read_call(void *context)
{
    struct call *call = context;

    call->verdict = callback_read_query(&call->callback, &rules, call->query ? call->query : query);
    if (call->verdict == CALLBACK_READ_BODY)
        call->verdict = callback_read_body(&call->callback, &rules, buffer_text(&call->body), call->body.length);
}

static void describe(const struct call *call, struct buffer *text)
{
    const struct destroyed_group *group = &call->callback.group;
    int r = buffer_print(text, "%d ", (int)call->verdict);

    if (call->verdict == CALLBACK_RECORD_REJECTION)
        r |= buffer_print(text, "%s", call->callback.rejected.reason);
    if (call->verdict == CALLBACK_RECORD)
        r |= buffer_print(text, "%s %d %lld %s %s %s %s %d %s %s %d", group->group_id, group->has_event_time,
                          (long long)group->event_time_ms, group->type, group->owner_account, group->operator_account,
                          group->name, group->has_member_list, group->opt_platform, group->client_ip, group->keep_body);
    for (size_t i = 0; i < group->member_count; i++)
        r |= buffer_print(text, " %s", group->members[i]);
    assert_int_equal(r, 0);
}

static void judge(void *context, bool met)
{
    struct call *call = context;
    struct buffer outcome = {0};

    if (call->verdict == CALLBACK_REFUSE) {
        assert_true(met);
        assert_int_equal(answer_http_status(call->callback.answer), 503);
    } else {
        describe(call, &outcome);
        if (!call->outcome.data)
            assert_int_equal(buffer_append(&call->outcome, outcome.data, outcome.length), 0);
        assert_string_equal(outcome.data, call->outcome.data);
    }
    buffer_finish(&outcome);
    arena_finish(&call->arena);
    ERR_clear_error(); // libcrypto keeps the last errors of each thread in memory
}

static void run_faults(const char *name, struct call *call, enum callback_verdict verdict)
{
    const struct fault_scenario scenario = {name, start_call, read_call, judge, false};

    fault_run(&scenario, call);
    assert_int_equal(call->outcome.data[0] - '0', verdict);
    buffer_finish(&call->outcome);
    buffer_finish(&call->body);
}

TEST(samples_are_read_or_refused)
{
    static const char *const names[] = {"as-documented.txt", "community-no-member-list.json", "documented.json",
                                        "old-edition-no-event-time.json", "sorted-integer-time.json"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct call call = {0};
        struct error error;
        char path[1024];

        (void)snprintf(path, sizeof path, SAMPLES "/%s", names[i]);
        assert_int_equal(file_read(path, 65536, &call.body, &error), 0);
        run_faults(names[i], &call, CALLBACK_RECORD);
    }
}

// The members need several blocks of the arena. The comment, the NUL and the invalid UTF-8 in the name require a copy
// of the body, and the NUL also requires a second copy of the name.
TEST(many_members_are_read_or_refused)
{
    struct call call = {0};
    int r = buffer_print(&call.body,
                         "{\"CallbackCommand\":\"%s\", // a comment\n\"GroupId\":\"g\",\"Name\":\"\\u0000\xe7\xa4\","
                         "\"EventTime\":\"1\",\"MemberList\":[{\"Member_Account\":\"first\"}",
                         CALLBACK_COMMAND);

    for (int i = 0; i < 1000; i++)
        r |= buffer_print(&call.body, ",{\"Member_Account\":\"member %d\"}", i);
    r |= buffer_print(&call.body, "]}");
    assert_int_equal(r, 0);
    run_faults("many members", &call, CALLBACK_RECORD);
}

TEST(invalid_bodies_are_rejected_or_refused)
{
    static const char *const bodies[] = {"", "[", "{\"CallbackCommand\":\"" CALLBACK_COMMAND "\"}"};

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct call call = {0};

        assert_int_equal(buffer_append(&call.body, bodies[i], strlen(bodies[i])), 0);
        run_faults("rejected body", &call, CALLBACK_RECORD_REJECTION);
    }
}

TEST(url_checks_are_answered_or_refused)
{
    static const char *const bodies[] = {"", "{\"CallbackCommand\":\"Other\", // a comment\n\"a\":\"\\u0000\"}"};

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct call call = {.query = SIGNED "&ClientIP=%ff"};

        assert_int_equal(buffer_append(&call.body, bodies[i], strlen(bodies[i])), 0);
        run_faults("URL check", &call, CALLBACK_URL_CHECK);
    }
}

struct print {
    struct buffer text;
    enum answer_code code;
    int result;
    char complete[1024]; // the body without a fault
};

static void print_answer(void *context)
{
    struct print *print = context;

    print->result = answer_print(&print->text, print->code,
                                 "At \"byte\" 7, in a detail that does not fit into the first allocation: "
                                 "\"\xe7\xa4\xbe\xe7\xa4\xbe\xe7\xa4\xbe\xe7\xa4\xbe\".");
}

static void judge_answer(void *context, bool met)
{
    struct print *print = context;

    assert_true(print->result == 0 || (met && print->result < 0));
    if (!*print->complete)
        (void)snprintf(print->complete, sizeof print->complete, "%s", buffer_text(&print->text));
    if (print->result == 0)
        assert_string_equal(buffer_text(&print->text), print->complete);
    buffer_finish(&print->text);
}

TEST(answers_are_printed_completely_or_fail)
{
    const struct fault_scenario scenario = {"answer", NULL, print_answer, judge_answer, false};
    struct print print = {.code = ANSWER_BODY_NOT_JSON};

    fault_run(&scenario, &print);
    assert_non_null(strstr(print.complete, "ErrorCode\":120201}"));
}

TEST_MAIN(NULL, NULL)
