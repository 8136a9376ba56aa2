// The input is a body. The target reads the body as that of an event and as that of a URL check, each with plenty of
// memory and with very little. If the body gives a group, the body that is printed for this group must give the same
// group.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "imcallbackd/callback/print_body.h"

#define PLENTY_BYTES ((size_t)4 << 20)
#define SCARCE_BYTES ((size_t)8 << 10)

static void need(bool condition)
{
    if (!condition)
        abort();
}

static void need_same_group(const struct destroyed_group *one, const struct destroyed_group *other)
{
    need(strcmp(one->group_id, other->group_id) == 0);
    need(strcmp(one->type, other->type) == 0);
    need(strcmp(one->owner_account, other->owner_account) == 0);
    need(strcmp(one->operator_account, other->operator_account) == 0);
    need(strcmp(one->name, other->name) == 0);
    need(one->has_event_time == other->has_event_time && one->event_time_ms == other->event_time_ms);
    need(one->has_member_list == other->has_member_list && one->member_count == other->member_count);
    for (size_t i = 0; i < one->member_count; i++)
        need(strcmp(one->members[i], other->members[i]) == 0);
}

static void print_and_read(const struct destroyed_group *group)
{
    struct buffer body = {0};
    struct callback callback;
    struct arena arena;

    need(callback_print_body(&body, group) == 0);
    need(is_utf8(body.data, body.length));
    arena_init(&arena, 2 * PLENTY_BYTES); // the printed text may take more memory than the original
    fuzz_begin(&callback, &arena);
    callback.app = &fuzz_rules.apps[0];
    need(callback_read_body(&callback, &fuzz_rules, body.data, body.length) == CALLBACK_RECORD);
    need_same_group(group, &callback.group);
    arena_finish(&arena);
    buffer_finish(&body);
}

static enum callback_verdict read_body(const char *body, size_t length, enum answer_code query_fault,
                                       size_t arena_bytes)
{
    enum callback_verdict verdict;
    struct callback callback;
    struct arena arena;

    arena_init(&arena, arena_bytes);
    fuzz_begin(&callback, &arena);
    callback.app = &fuzz_rules.apps[0];
    callback.query_fault = query_fault;
    callback.group.remote_address = callback.remote_address;
    verdict = callback_read_body(&callback, &fuzz_rules, body, length);
    check_after_body(&callback, body, length, verdict);
    if (verdict == CALLBACK_RECORD)
        print_and_read(&callback.group);
    arena_finish(&arena);
    return verdict;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum callback_verdict verdict, check;
    char *body = fuzz_copy(data, size);

    verdict = read_body(body, size, ANSWER_OK, PLENTY_BYTES);
    (void)read_body(body, size, ANSWER_OK, SCARCE_BYTES);
    check = read_body(body, size, ANSWER_SDK_APPID_MISSING, PLENTY_BYTES);
    assert(verdict != CALLBACK_RECORD || check != CALLBACK_URL_CHECK); // a URL check answers OK without recording
    (void)read_body(body, size, ANSWER_COMMAND_MISSING, SCARCE_BYTES);
    free(body);
    return 0;
}
