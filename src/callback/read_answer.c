// Checks an answer with the same scanner as the body of a callback before cJSON parses it.
#include "imcallbackd/callback/read_answer.h"

#include <errno.h>
#include <string.h>

#include "json_text.h"
#include "json_tree.h"

#define MAX_TREE_BYTES ((size_t)16 << 20) // a tree can take about 32 bytes per byte of its text; see json_text.h

static bool is_fail(const cJSON *tree)
{
    const cJSON *status = cJSON_IsObject(tree) ? cJSON_GetObjectItemCaseSensitive(tree, "ActionStatus") : NULL;

    return status && cJSON_IsString(status) && strcmp(status->valuestring, "FAIL") == 0;
}

int answer_reports_failure(const char *body, size_t length, bool *ret_fails)
{
    struct json_text_report report = json_text_scan(body, length);
    struct arena arena;
    const char *end, *text = body;
    bool is_full = false;
    int r = 0;

    *ret_fails = false;
    if (length == 0 || report.fault != JSON_TEXT_NO_FAULT)
        return 0;
    arena_init(&arena, MAX_TREE_BYTES);
    if (report.has_invalid_text) // cJSON would end a string at \u0000
        text = json_text_sanitize(&arena, body, length, &length);
    if (text)
        *ret_fails = is_fail(json_tree_parse(&arena, text, length, &end, &is_full));
    if ((is_full || !text) && arena.out_of_memory)
        r = -ENOMEM;
    arena_finish(&arena);
    return r;
}
