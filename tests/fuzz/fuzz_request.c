// The input is a complete request. The request goes through the same steps as in the daemon: framing, query, body and
// answer.
#include <string.h>

#include "fuzz.h"
#include "request_head.h"

static void receive(const struct head *head)
{
    const char *mark = strchr(head->target, '?');
    const char *query = mark ? mark + 1 : "";
    enum callback_verdict verdict;
    struct callback callback;
    struct arena arena;

    arena_init(&arena, (size_t)4 << 20);
    fuzz_begin(&callback, &arena);
    verdict = callback_read_query(&callback, &fuzz_rules, query);
    check_after_query(&callback, &fuzz_rules, query, verdict);
    if (verdict == CALLBACK_READ_BODY) {
        verdict = callback_read_body(&callback, &fuzz_rules, head->body, head->body_length);
        check_after_body(&callback, head->body, head->body_length, verdict);
    }
    arena_finish(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct head head;
    const char *fault;

    head_init(&head, data, size);
    fault = head_judge(&head, false);
    if (fault)
        check_answer(ANSWER_BAD_FRAMING, fault);
    else
        receive(&head);
    head_finish(&head);
    return 0;
}
