// Asserts the properties that the results of the callback module must have for every input.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "callback/query.h"
#include "fuzz.h"
#include "imcallbackd/callback/signature.h"

#define REPLACEMENT "\xef\xbf\xbd"

static bool starts_with(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static bool ends_with(const char *text, const char *with)
{
    return strlen(text) >= strlen(with) && strcmp(text + strlen(text) - strlen(with), with) == 0;
}

static bool contains(const char *text, size_t length, const char *wanted)
{
    return memmem(text, length, wanted, strlen(wanted)) != NULL;
}

static void check_text(const char *text)
{
    assert(text && is_utf8(text, strlen(text)));
}

// Reads the answer as if it were a body. If the answer is a JSON object in valid text, the only fault is that the
// fields of a callback are missing.
static void check_is_object(const struct buffer *answer)
{
    struct callback callback;
    struct arena arena;

    arena_init(&arena, 1 << 20);
    fuzz_begin(&callback, &arena);
    callback.app = &fuzz_rules.apps[0];
    assert(callback_read_body(&callback, &fuzz_rules, answer->data, answer->length) == CALLBACK_RECORD_REJECTION);
    assert(callback.answer == ANSWER_BODY_FIELD_MISSING);
    arena_finish(&arena);
}

void check_answer(enum answer_code code, const char *detail)
{
    unsigned int status = answer_http_status(code);
    struct buffer answer = {0};
    char tail[64];
    long number;

    assert(answer_print(&answer, code, detail) == 0);
    assert(is_utf8(answer.data, answer.length) && strlen(answer.data) == answer.length);
    assert(starts_with(answer.data, code == ANSWER_OK ? "{\"ActionStatus\":\"OK\",\"ErrorInfo\":\""
                                                      : "{\"ActionStatus\":\"FAIL\",\"ErrorInfo\":\""));
    number = strtol(strrchr(answer.data, ':') + 1, NULL, 10);
    assert(code == ANSWER_OK ? number == 0 : number > 120000 && number <= 130000);
    (void)snprintf(tail, sizeof tail, "\",\"ErrorCode\":%ld}", number);
    assert(ends_with(answer.data, tail));
    assert((status == 200) == (code == ANSWER_OK));
    assert(code < ANSWER_CODE_COUNT && *answer_name(code));
    check_is_object(&answer);
    buffer_finish(&answer);
}

// A query for an app with a token passes only with a valid signature and a request time within the window.
static void check_signed(const struct callback *callback, const struct query *query)
{
    const struct callback_app *app = callback->app;
    const struct query_value *sign = &query->values[QUERY_SIGN];
    const struct query_value *request_time = &query->values[QUERY_REQUEST_TIME];
    char hex[SIGNATURE_HEX_LENGTH + 1];
    bool matches = false;

    assert(sign->text && !sign->repeated && request_time->text && !request_time->repeated);
    for (size_t i = 0; i < app->token_count; i++) {
        assert(signature_compute(app->tokens[i], request_time->text, hex) == 0);
        matches = matches || strcmp(hex, sign->text) == 0;
    }
    assert(matches && callback->clock_skew_known);
    assert(callback->clock_skew_s >= -app->request_time_window_s &&
           callback->clock_skew_s <= app->request_time_window_s);
}

// A query passes only if neither the app nor the command is repeated. A query without the app must be signed, because
// only the signature shows that such a query is genuine. A query without the command must be signed, too, unless the
// rules acknowledge other commands.
static void check_passed(const struct callback *callback, const char *text)
{
    const struct query_value *sdk_appid, *command;
    struct query query;

    assert(query_read(callback->arena, text, &query) == 0);
    sdk_appid = &query.values[QUERY_SDK_APPID];
    command = &query.values[QUERY_CALLBACK_COMMAND];
    assert(!sdk_appid->repeated && !command->repeated);
    assert(sdk_appid->text ? strtoll(sdk_appid->text, NULL, 10) == callback->app->sdk_appid
                           : callback->query_fault == ANSWER_SDK_APPID_MISSING);
    if (callback->query_fault != ANSWER_OK) {
        assert(!sdk_appid->text || (!command->text && callback->query_fault == ANSWER_COMMAND_MISSING));
        assert(callback->app->token_count > 0);
    }
    if (callback->app->token_count > 0)
        check_signed(callback, &query);
}

void check_after_query(const struct callback *callback, const struct callback_rules *rules, const char *query,
                       enum callback_verdict verdict)
{
    switch (verdict) {
    case CALLBACK_REFUSE:
        assert(answer_http_status(callback->answer) == 400 || answer_http_status(callback->answer) == 403);
        break;
    case CALLBACK_ACKNOWLEDGE:
        assert(rules->acknowledge_other_commands && callback->query_fault == ANSWER_OK);
        break;
    case CALLBACK_READ_BODY:
        assert(callback->group.sdk_appid == callback->app->sdk_appid);
        check_text(callback->group.client_ip);
        check_text(callback->group.opt_platform);
        break;
    case CALLBACK_RECORD:
    case CALLBACK_RECORD_REJECTION:
    case CALLBACK_URL_CHECK:
        abort(); // these verdicts require a body
    }
    if (verdict != CALLBACK_REFUSE)
        check_passed(callback, query);
    check_answer(callback->answer, callback->detail);
}

static bool has_comment(const char *body, size_t length)
{
    return contains(body, length, "//") || contains(body, length, "/*");
}

// Returns true if invalid text must have been replaced: a field contains U+FFFD, but the body has neither U+FFFD nor an
// escape that could stand for it, or the body is not valid UTF-8 and has no comments, in which any byte is allowed.
static bool has_replaced_text(const struct destroyed_group *group)
{
    const char *body = group->body;
    size_t length = group->body_length;
    bool shown = strstr(group->group_id, REPLACEMENT) || strstr(group->name, REPLACEMENT) ||
                 strstr(group->type, REPLACEMENT) || strstr(group->owner_account, REPLACEMENT) ||
                 strstr(group->operator_account, REPLACEMENT);

    for (size_t i = 0; i < group->member_count; i++)
        shown = shown || strstr(group->members[i], REPLACEMENT);
    if (shown && !contains(body, length, REPLACEMENT) && !memmem(body, length, "\\u", 2))
        return true;
    return !is_utf8(body, length) && !has_comment(body, length);
}

// Returns true if the body has the escape of a NUL. Returns false if this is uncertain: a comment may hide the escape,
// and an escaped backslash may precede the digits.
static bool has_escaped_nul(const char *body, size_t length)
{
    return contains(body, length, "\\u0000") && !contains(body, length, "\\\\") && !has_comment(body, length);
}

static void check_group(const struct destroyed_group *group, const char *body, size_t length)
{
    const char *const texts[] = {group->group_id,         group->type, group->owner_account,
                                 group->operator_account, group->name, group->remote_address};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        check_text(texts[i]);
    assert(*group->group_id);
    assert(group->has_event_time ? group->event_time_ms >= 0 && group->event_time_ms < INT64_C(1) << 53
                                 : group->keep_body);
    assert(group->has_member_list || group->member_count == 0);
    assert(group->member_count == 0 || group->members);
    for (size_t i = 0; i < group->member_count; i++) {
        check_text(group->members[i]);
        assert(*group->members[i]);
    }
    assert(group->body == body && group->body_length == length);
    assert(group->keep_body || !has_replaced_text(group));
    assert(has_comment(body, length) || !memchr(body, '\0', length));
    assert(group->keep_body || !has_escaped_nul(body, length));
}

// Returns true if the body has the key GroupId. In valid JSON without escapes and comments, this name in quotes before
// a colon can only be the key.
static bool has_group_id(const char *body, size_t length)
{
    static const char key[] = "\"GroupId\"";
    const char *end = body + length;

    for (const char *at = body; (at = memmem(at, (size_t)(end - at), key, strlen(key)));) {
        at += strlen(key);
        while (at < end && (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n'))
            at++;
        if (at < end && *at == ':')
            return true;
    }
    return false;
}

// A body that is answered OK without being recorded has no key GroupId and no NUL. Bodies with escapes or comments are
// not checked.
static void check_no_event(const char *body, size_t length)
{
    if (contains(body, length, "\\") || has_comment(body, length))
        return;
    assert(!has_group_id(body, length));
    assert(!memchr(body, '\0', length));
}

void check_after_body(const struct callback *callback, const char *body, size_t length, enum callback_verdict verdict)
{
    switch (verdict) {
    case CALLBACK_RECORD:
        assert(callback->answer == ANSWER_OK && callback->query_fault == ANSWER_OK);
        check_group(&callback->group, body, length);
        break;
    case CALLBACK_RECORD_REJECTION:
        assert(answer_http_status(callback->answer) == 400 && callback->query_fault == ANSWER_OK);
        check_text(callback->rejected.reason);
        assert(starts_with(callback->rejected.reason, answer_name(callback->answer)));
        assert(callback->rejected.body == body && callback->rejected.body_length == length);
        assert(callback->rejected.sdk_appid == callback->app->sdk_appid);
        break;
    case CALLBACK_URL_CHECK:
        assert(callback->answer == ANSWER_OK && callback->query_fault != ANSWER_OK);
        check_no_event(body, length);
        break;
    case CALLBACK_REFUSE:
        assert(callback->answer == (callback->query_fault ? callback->query_fault : ANSWER_COMMAND_DIFFERS));
        break;
    case CALLBACK_READ_BODY:
    case CALLBACK_ACKNOWLEDGE:
        abort(); // these verdicts are only for the query
    }
    check_answer(callback->answer, callback->detail);
}
