// The input is the query, up to the first NUL. The same text also serves as the detail of an answer.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "callback/query.h"
#include "fuzz.h"
#include "imcallbackd/callback/parameter_names.h"

static void check_values(const char *text)
{
    struct arena arena;
    struct query query;

    arena_init(&arena, 1 << 20);
    assert(query_read(&arena, text, &query) == 0);
    for (size_t i = 0; i < QUERY_NAMES; i++) {
        const struct query_value *value = &query.values[i];

        assert(value->text ? strlen(value->text) <= strlen(text) : !value->repeated && !value->malformed);
    }
    arena_finish(&arena);
}

static void check_names(const char *text)
{
    static const char harmless[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.?, ";
    char names[PARAMETER_NAMES_BYTES];

    memset(names, 'x', sizeof names);
    parameter_names_print(text, names);
    assert(memchr(names, '\0', sizeof names));
    assert(strspn(names, harmless) == strlen(names));
}

static void read_query(const char *text, bool acknowledge)
{
    struct callback_rules rules = fuzz_rules;
    struct callback callback;
    struct arena arena;

    rules.acknowledge_other_commands = acknowledge;
    arena_init(&arena, 1 << 20);
    fuzz_begin(&callback, &arena);
    check_after_query(&callback, &rules, text, callback_read_query(&callback, &rules, text));
    arena_finish(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_copy(data, strnlen((const char *)data, size));

    check_values(text);
    check_names(text);
    read_query(text, false);
    read_query(text, true);
    check_answer(ANSWER_COMMAND_NOT_HANDLED, text);
    free(text);
    return 0;
}
