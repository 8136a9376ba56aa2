// Turns a body into a struct destroyed_group, or reports why the body is invalid. Also recognizes the body of a URL
// check.
#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "imcallbackd/base/parse.h"
#include "imcallbackd/base/utf8.h"
#include "imcallbackd/callback/callback.h"
#include "json_text.h"
#include "json_tree.h"

#define EVENT_TIME_MAX ((UINT64_C(1) << 53) - 1) // up to here, a double holds every integer exactly

// Sets answer and detail, and returns false, so that a failing function can `return fail(...)`.
PRINTF_LIKE(3, 4) static bool fail(struct callback *callback, enum answer_code code, const char *format, ...)
{
    va_list arguments;

    assert(code != ANSWER_OK);
    callback->answer = code;
    va_start(arguments, format);
    (void)vsnprintf(callback->detail, sizeof callback->detail, format, arguments);
    va_end(arguments);
    return false;
}

// Reports that the arena returned NULL. The body is at fault only if the arena reached its limit.
static bool fail_memory(struct callback *callback, const struct arena *arena)
{
    if (arena->out_of_memory)
        return fail(callback, ANSWER_OVERLOADED, "The server is out of memory.");
    return fail(callback, ANSWER_BODY_TOO_COMPLEX, "Parsing the body takes more memory than one body may use.");
}

static bool fail_scan(struct callback *callback, const struct json_text_report *report)
{
    switch (report->fault) {
    case JSON_TEXT_NUL:
        return fail(callback, ANSWER_BODY_NUL, "The NUL is at byte %zu.", report->position);
    case JSON_TEXT_CONTROL:
        return fail(callback, ANSWER_BODY_NOT_JSON, "There is a control character at byte %zu.", report->position);
    case JSON_TEXT_BAD_ESCAPE:
        return fail(callback, ANSWER_BODY_NOT_JSON, "\\u is not followed by four hexadecimal digits at byte %zu.",
                    report->position);
    case JSON_TEXT_BAD_NUMBER:
        return fail(callback, ANSWER_BODY_NOT_JSON, "The number at byte %zu has an invalid form.", report->position);
    case JSON_TEXT_UNTERMINATED:
        return fail(callback, ANSWER_BODY_NOT_JSON, "The string or comment that starts at byte %zu has no end.",
                    report->position);
    case JSON_TEXT_TOO_DEEP:
        return fail(callback, ANSWER_BODY_TOO_COMPLEX, "At byte %zu, the nesting is deeper than %d levels.",
                    report->position, JSON_TEXT_MAX_DEPTH);
    case JSON_TEXT_TOO_MANY:
        return fail(callback, ANSWER_BODY_TOO_COMPLEX, "At byte %zu, the body has more than %zu values.",
                    report->position, json_text_max_values(callback->group.body_length));
    case JSON_TEXT_NO_FAULT:
        break;
    }
    return true;
}

static bool is_white_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static size_t white_space_length(const char *text, size_t left)
{
    size_t length = 0;

    while (length < left && is_white_space(text[length]))
        length++;
    return length;
}

// Parses a text in which json_text_scan() found no fault. Calls fail() and returns NULL if the text is not valid JSON,
// or if the arena has no memory left.
static cJSON *parse(struct callback *callback, struct arena *scratch, const char *text, size_t length)
{
    const char *end;
    bool is_full;
    cJSON *tree = json_tree_parse(scratch, text, length, &end, &is_full);

    if (is_full) {
        fail_memory(callback, scratch);
        return NULL;
    }
    if (!tree) {
        fail(callback, ANSWER_BODY_NOT_JSON, length == 0 ? "The body is empty." : "The syntax error is near byte %zu.",
             (size_t)(end - text));
        return NULL;
    }
    end += white_space_length(end, length - (size_t)(end - text));
    if (end < text + length) {
        fail(callback, ANSWER_BODY_NOT_JSON, "Other text follows the JSON value at byte %zu.", (size_t)(end - text));
        return NULL;
    }
    return tree;
}

enum field {
    FIELD_CALLBACK_COMMAND,
    FIELD_GROUP_ID,
    FIELD_TYPE,
    FIELD_OWNER_ACCOUNT,
    FIELD_OPERATOR_ACCOUNT,
    FIELD_NAME,
    FIELD_MEMBER_LIST,
    FIELD_EVENT_TIME,
    FIELD_COUNT
};

static const char *const field_names[FIELD_COUNT] = { // indexed by enum field
    "CallbackCommand", "GroupId", "Type", "Owner_Account", "Operator_Account", "Name", "MemberList", "EventTime"};

// Finds the known fields. Calls fail() and returns false if a field is repeated. A field that is absent stays NULL.
static bool collect_fields(struct callback *callback, const cJSON *tree, const cJSON *fields[static FIELD_COUNT])
{
    const cJSON *item;

    cJSON_ArrayForEach(item, tree)
    {
        for (size_t i = 0; i < FIELD_COUNT; i++) {
            if (strcmp(item->string, field_names[i]) != 0)
                continue;
            if (fields[i])
                return fail(callback, ANSWER_BODY_FIELD_REPEATED, "The field is %s.", field_names[i]);
            fields[i] = item;
        }
    }
    return true;
}

static bool has_nul(const cJSON *item)
{
    return cJSON_IsString(item) && strstr(item->valuestring, JSON_TEXT_NUL_MARK);
}

// Copies a string of the tree into the arena, which outlives the tree, with U+FFFD in place of a NUL. Calls fail() and
// returns NULL if the arena has no memory left.
static const char *copy_text(struct callback *callback, const cJSON *item)
{
    const char *copy = arena_copy(callback->arena, item->valuestring, strlen(item->valuestring));

    if (copy && has_nul(item))
        copy = utf8_sanitize(callback->arena, copy);
    if (!copy)
        fail_memory(callback, callback->arena);
    return copy;
}

// These texts identify neither a group nor a user, so the event is recorded even if they contain a NUL.
static bool may_have_nul(enum field field)
{
    return field == FIELD_TYPE || field == FIELD_NAME;
}

// Reads a string that may be absent or null; the result is then "".
static bool read_optional_text(struct callback *callback, const cJSON *fields[static FIELD_COUNT], enum field field,
                               const char **ret_text)
{
    const cJSON *item = fields[field];

    *ret_text = "";
    if (!item || cJSON_IsNull(item))
        return true;
    if (!cJSON_IsString(item))
        return fail(callback, ANSWER_BODY_FIELD_TYPE, "%s is not a string.", field_names[field]);
    if (has_nul(item) && !may_have_nul(field))
        return fail(callback, ANSWER_BODY_NUL, "The field is %s.", field_names[field]);
    *ret_text = copy_text(callback, item);
    return *ret_text != NULL;
}

// Reads a string that must be present and not empty.
static bool read_required_text(struct callback *callback, const cJSON *fields[static FIELD_COUNT], enum field field,
                               const char **ret_text)
{
    if (!read_optional_text(callback, fields, field, ret_text))
        return false;
    return **ret_text || fail(callback, ANSWER_BODY_FIELD_MISSING, "The field is %s.", field_names[field]);
}

// Reads milliseconds since 1970. The value is a number in some editions of the documentation and a string of digits in
// others. The value may also be absent or null.
static bool read_event_time(struct callback *callback, const cJSON *item)
{
    struct destroyed_group *group = &callback->group;
    uint64_t ms = 0;

    if (!item || cJSON_IsNull(item))
        return true;
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble <= (double)EVENT_TIME_MAX)
        ms = (uint64_t)item->valuedouble;
    if (cJSON_IsString(item) ? parse_decimal(item->valuestring, strlen(item->valuestring), EVENT_TIME_MAX, &ms) < 0
                             : !cJSON_IsNumber(item) || (double)ms != item->valuedouble)
        return fail(callback, ANSWER_BODY_FIELD_TYPE, "EventTime is not a time in milliseconds since 1970.");
    group->has_event_time = true;
    group->event_time_ms = (int64_t)ms;
    return true;
}

static bool read_member(struct callback *callback, const cJSON *member, size_t index, const char **ret_account)
{
    const cJSON *account = NULL, *item;

    if (!cJSON_IsObject(member))
        return fail(callback, ANSWER_BODY_FIELD_TYPE, "MemberList[%zu] is not an object.", index);
    cJSON_ArrayForEach(item, member)
    {
        if (strcmp(item->string, "Member_Account") != 0)
            continue;
        if (account)
            return fail(callback, ANSWER_BODY_FIELD_REPEATED, "The field is MemberList[%zu].Member_Account.", index);
        account = item;
    }
    if (!account || cJSON_IsNull(account) || (cJSON_IsString(account) && !*account->valuestring))
        return fail(callback, ANSWER_BODY_FIELD_MISSING, "The field is MemberList[%zu].Member_Account.", index);
    if (!cJSON_IsString(account))
        return fail(callback, ANSWER_BODY_FIELD_TYPE, "MemberList[%zu].Member_Account is not a string.", index);
    if (has_nul(account))
        return fail(callback, ANSWER_BODY_NUL, "The field is MemberList[%zu].Member_Account.", index);
    *ret_account = copy_text(callback, account);
    return *ret_account != NULL;
}

static bool read_member_list(struct callback *callback, const cJSON *list)
{
    struct destroyed_group *group = &callback->group;
    const char **members;
    const cJSON *member;
    size_t count = 0;

    if (!list || cJSON_IsNull(list))
        return true;
    if (!cJSON_IsArray(list))
        return fail(callback, ANSWER_BODY_FIELD_TYPE, "MemberList is not an array.");
    cJSON_ArrayForEach(member, list) count++;
    members = arena_alloc(callback->arena, count * sizeof *members);
    if (!members)
        return fail_memory(callback, callback->arena);
    group->members = members;
    group->has_member_list = true;
    cJSON_ArrayForEach(member, list)
    {
        if (!read_member(callback, member, group->member_count, &members[group->member_count]))
            return false;
        group->member_count++;
    }
    assert(group->member_count == count);
    return true;
}

static bool read_fields(struct callback *callback, const cJSON *tree)
{
    struct destroyed_group *group = &callback->group;
    const cJSON *fields[FIELD_COUNT] = {NULL};
    const char *command;
    char quoted[ANSWER_QUOTE_BYTES];

    if (!cJSON_IsObject(tree))
        return fail(callback, ANSWER_BODY_NOT_JSON, "The JSON value is not an object.");
    if (!collect_fields(callback, tree, fields) ||
        !read_required_text(callback, fields, FIELD_CALLBACK_COMMAND, &command))
        return false;
    if (strcmp(command, CALLBACK_COMMAND) != 0) {
        answer_quote(command, quoted);
        return fail(callback, ANSWER_COMMAND_DIFFERS, "The body has %s.", quoted);
    }
    return read_required_text(callback, fields, FIELD_GROUP_ID, &group->group_id) &&
           read_optional_text(callback, fields, FIELD_TYPE, &group->type) &&
           read_optional_text(callback, fields, FIELD_OWNER_ACCOUNT, &group->owner_account) &&
           read_optional_text(callback, fields, FIELD_OPERATOR_ACCOUNT, &group->operator_account) &&
           read_optional_text(callback, fields, FIELD_NAME, &group->name) &&
           read_event_time(callback, fields[FIELD_EVENT_TIME]) && read_member_list(callback, fields[FIELD_MEMBER_LIST]);
}

// Checks the body and parses it into the scratch arena. Sets *ret_sanitized to true if the body has invalid text, which
// U+FFFD replaces. Calls fail() and returns NULL if the body is not valid JSON, if it is too complex, or if the arena
// has no memory left.
static const cJSON *parse_body(struct callback *callback, struct arena *scratch, bool *ret_sanitized)
{
    const char *text = callback->group.body;
    size_t length = callback->group.body_length;
    struct json_text_report report = json_text_scan(text, length);

    *ret_sanitized = report.has_invalid_text;
    if (!fail_scan(callback, &report))
        return NULL;
    if (report.has_comments || report.has_invalid_text) {
        text = json_text_sanitize(scratch, text, length, &length);
        if (!text) {
            fail_memory(callback, scratch);
            return NULL;
        }
    }
    return parse(callback, scratch, text, length);
}

// A tree takes many times the memory of its text, and a request may wait for the disk for a long time. This function
// therefore copies the text to be recorded and frees the tree before it returns, so that each thread has at most one
// tree.
static bool read_event(struct callback *callback, bool *ret_sanitized)
{
    const cJSON *tree;
    struct arena scratch;
    bool is_read;

    arena_init(&scratch, callback->arena->limit_bytes);
    tree = parse_body(callback, &scratch, ret_sanitized);
    is_read = tree && read_fields(callback, tree);
    arena_finish(&scratch);
    return is_read;
}

static bool is_named(const cJSON *item, enum field field)
{
    return item->string && strcmp(item->string, field_names[field]) == 0;
}

// Searches all levels, so that an event inside a list or another object is found, too.
static bool has_event(const cJSON *tree)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, tree)
    {
        if (is_named(item, FIELD_GROUP_ID) || has_event(item))
            return true;
        if (is_named(item, FIELD_CALLBACK_COMMAND) && cJSON_IsString(item) &&
            strcmp(item->valuestring, CALLBACK_COMMAND) == 0)
            return true;
    }
    return false;
}

// A body that cannot be parsed may be an event, so only a blank body and valid JSON without an event belong to a URL
// check.
static enum callback_verdict read_url_check(struct callback *callback)
{
    const struct destroyed_group *group = &callback->group;
    const cJSON *tree;
    struct arena scratch;
    bool is_json, is_event, sanitized;

    if (white_space_length(group->body, group->body_length) == group->body_length)
        return CALLBACK_URL_CHECK;
    arena_init(&scratch, callback->arena->limit_bytes);
    tree = parse_body(callback, &scratch, &sanitized);
    is_json = tree != NULL;
    is_event = tree && has_event(tree);
    arena_finish(&scratch);
    if (is_json && !is_event)
        return CALLBACK_URL_CHECK;
    if (callback->answer != ANSWER_OVERLOADED)
        fail(callback, callback->query_fault, "The body %s, so this is not a check of the URL.",
             is_event ? "has an event" : "is not understood");
    return CALLBACK_REFUSE;
}

// The reason starts with the name of the answer, which unlike the detail never changes between versions. Returns NULL
// if the arena has no memory left.
static const char *print_reason(struct callback *callback)
{
    char reason[sizeof callback->detail + 64];

    (void)snprintf(reason, sizeof reason, "%s: %s", answer_name(callback->answer), callback->detail);
    return arena_copy(callback->arena, reason, strlen(reason));
}

enum callback_verdict callback_read_body(struct callback *callback, const struct callback_rules *rules,
                                         const char *body, size_t length)
{
    struct destroyed_group *group = &callback->group;
    bool sanitized;

    assert(callback->app && callback->answer == ANSWER_OK);
    assert(body || length == 0);
    group->received_at_ms = callback->received_at_ms;
    group->body = body;
    group->body_length = length;
    if (callback->query_fault != ANSWER_OK)
        return read_url_check(callback);
    if (read_event(callback, &sanitized)) {
        group->keep_body = rules->keep_body || !group->has_event_time || sanitized;
        return CALLBACK_RECORD;
    }
    if (callback->answer == ANSWER_COMMAND_DIFFERS || callback->answer == ANSWER_OVERLOADED)
        return CALLBACK_REFUSE;
    assert(answer_http_status(callback->answer) == 400);
    callback->rejected = (struct rejected_callback){
        .received_at_ms = callback->received_at_ms,
        .remote_address = callback->remote_address,
        .sdk_appid = callback->app->sdk_appid,
        .callback_command = CALLBACK_COMMAND,
        .reason = print_reason(callback),
        .body = body,
        .body_length = length,
    };
    if (!callback->rejected.reason)
        callback->rejected.reason = answer_name(callback->answer);
    return CALLBACK_RECORD_REJECTION;
}

const char *callback_cjson_version(void)
{
    return cJSON_Version();
}
