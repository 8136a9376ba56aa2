// Defines the rules and helpers that the targets share.
#include "fuzz.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

const struct callback_rules fuzz_rules = {
    .apps =
        (const struct callback_app[]){
            {.sdk_appid = 1400000001,
             .tokens = {FUZZ_TOKEN, "the next one"},
             .token_count = 2,
             .request_time_window_s = 60},
            {.sdk_appid = 1400000002},
            {.sdk_appid = INT64_MAX, .tokens = {"t"}, .token_count = 1, .request_time_window_s = 86400},
        },
    .app_count = 3,
};

char *fuzz_copy(const void *data, size_t length)
{
    char *copy = malloc(length + 1);

    assert(copy);
    if (length > 0)
        memcpy(copy, data, length);
    copy[length] = '\0';
    return copy;
}

char *fuzz_copy_bare(const void *data, size_t length)
{
    char *copy = malloc(length > 0 ? length : 1);

    assert(copy);
    if (length > 0)
        memcpy(copy, data, length);
    return copy;
}

void fuzz_begin(struct callback *callback, struct arena *arena)
{
    *callback = (struct callback){.arena = arena, .remote_address = "192.0.2.1", .received_at_ms = FUZZ_NOW_MS};
}

bool is_utf8(const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + length;

    while (at < end) {
        static const uint32_t smallest[] = {0, 0x80, 0x800, 0x10000};
        size_t more = *at < 0x80 ? 0 : *at < 0xc0 ? 4 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : *at < 0xf8 ? 3 : 4;
        uint32_t character = *at & (0x7fU >> (more ? more + 1 : 0));

        if (more == 4 || (size_t)(end - at) <= more)
            return false;
        for (size_t i = 1; i <= more; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return false;
            character = character << 6 | (at[i] & 0x3f);
        }
        if (character < smallest[more] || character > 0x10ffff || (character >= 0xd800 && character <= 0xdfff))
            return false;
        at += more + 1;
    }
    return true;
}
