// The input is a body. The target reads the body as that of an event and as that of a URL check, each with plenty of
// memory and with very little.
#include <assert.h>
#include <stdlib.h>

#include "fuzz.h"

#define PLENTY_BYTES ((size_t)4 << 20)
#define SCARCE_BYTES ((size_t)8 << 10)

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
    assert(verdict != CALLBACK_RECORD || check != CALLBACK_URL_CHECK); // OK means that the event was recorded
    (void)read_body(body, size, ANSWER_COMMAND_MISSING, SCARCE_BYTES);
    free(body);
    return 0;
}
