// The input is a body. The target reads the body twice, first with plenty of memory, then with very little.
#include <stdlib.h>

#include "fuzz.h"

#define PLENTY_BYTES ((size_t)4 << 20)
#define SCARCE_BYTES ((size_t)8 << 10)

static void read_body(const char *body, size_t length, size_t arena_bytes)
{
    struct callback callback;
    struct arena arena;

    arena_init(&arena, arena_bytes);
    fuzz_begin(&callback, &arena);
    callback.app = &fuzz_rules.apps[0];
    callback.group.remote_address = callback.remote_address;
    check_after_body(&callback, body, length, callback_read_body(&callback, &fuzz_rules, body, length));
    arena_finish(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *body = fuzz_copy(data, size);

    read_body(body, size, PLENTY_BYTES);
    read_body(body, size, SCARCE_BYTES);
    free(body);
    return 0;
}
