// Several threads call these functions. The event loops call on_head, on_body and on_end, any thread of the server may
// call on_refusal, the writer thread calls receiver_on_committed, and the main thread replaces the settings on a
// reload. A struct call belongs to its event loop, except from store_submit until http_request_complete, when it
// belongs to the store.
#include "receiver.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/callback/callback.h"
#include "imcallbackd/callback/parameter_names.h"

const struct metric receiver_results = {METRIC_COUNTERS("imcallbackd_callbacks_total", "Callbacks by result.", "result",
                                                        "recorded", "repeated", "conflict", "set_aside", "acknowledged",
                                                        "url_check", "refused", "failed")};
static const char *cause_names[ANSWER_CODE_COUNT]; // indexed by enum answer_code; filled in by receiver_create
const struct metric receiver_rejected = {
    METRIC_VALUES(METRIC_TYPE_COUNTER, "imcallbackd_rejected_total",
                  "Requests that were not answered OK, by cause; some are closed without an answer.",
                  ANSWER_CODE_COUNT),
    .label = "cause", .label_texts = cause_names};
static const struct metric members = {
    METRIC_COUNTER("imcallbackd_members_recorded_total", "Members of recorded groups.")};
const struct metric receiver_clock_skew = {
    METRIC_GAUGE("imcallbackd_clock_skew_seconds",
                 "This machine's clock minus RequestTime of the last call with a valid signature.")};

const struct metric *const receiver_metrics[] = {&receiver_results, &receiver_rejected, &members, &receiver_clock_skew,
                                                 NULL};

// Large enough for " (and 4294967295 more since the last such line)" with its NUL.
#define SUPPRESSED_TEXT_BYTES 56

struct receiver {
    pthread_mutex_t lock; // guards settings
    struct settings *settings;
    struct refusals refusals;                       // for the status page
    atomic_int_fast64_t recorded_ms, skew_window_s; // see struct receiver_activity
    atomic_bool skew_known;
    struct log_rate_limit refusal_limits[ANSWER_CODE_COUNT];
    struct log_rate_limit conflicts, set_asides, url_checks;
    struct store *store;
    struct http_server *server;
    struct http_handler handler;
    struct http_response *answers[ANSWER_CODE_COUNT]; // without a detail
};

// One request in progress, allocated from the request's arena.
struct call {
    struct http_request *request;
    struct settings *settings; // a counted reference, so that a reload does not change the rules for this call
    struct callback callback;
    struct commit commit;
    bool committing; // the store owns the commit
};

static const enum answer_code code_of_refusal[HTTP_REFUSE_COUNT] = {
    [HTTP_REFUSE_FRAMING] = ANSWER_BAD_FRAMING,       [HTTP_REFUSE_PATH] = ANSWER_PATH_UNKNOWN,
    [HTTP_REFUSE_METHOD] = ANSWER_METHOD_NOT_ALLOWED, [HTTP_REFUSE_TOO_LARGE] = ANSWER_BODY_TOO_LARGE,
    [HTTP_REFUSE_ENCODED] = ANSWER_CONTENT_ENCODED,   [HTTP_REFUSE_OVERLOADED] = ANSWER_OVERLOADED,
    [HTTP_REFUSE_PEER] = ANSWER_PEER_NOT_ALLOWED,     [HTTP_REFUSE_TOO_MANY_CONNECTIONS] = ANSWER_OVERLOADED,
};

// Returns NULL if memory is exhausted.
static struct http_response *make_answer(enum answer_code code, const char *detail, enum http_response_lifetime use)
{
    struct http_response *answer = NULL;
    struct buffer body = {0};

    if (answer_print(&body, code, detail) == 0)
        answer = http_response_create(answer_http_status(code), body.data, body.length, use);
    buffer_finish(&body);
    return answer;
}

static void count(enum receiver_result result)
{
    metric_add(&receiver_results, result, 1);
}

static void count_accepted(struct receiver *receiver, enum receiver_result result)
{
    count(result);
    refusals_note_accepted(&receiver->refusals, clock_realtime_ms());
}

static void count_rejected(enum receiver_result result, enum answer_code code)
{
    count(result);
    metric_add(&receiver_rejected, code, 1);
}

// Returns true if the caller should write a line for this cause. Then `more` is the part of the line that reports how
// many similar lines were suppressed, or "" if none were.
static bool may_log(struct log_rate_limit *limit, char more[static SUPPRESSED_TEXT_BYTES])
{
    unsigned int suppressed;

    if (!log_rate_limit_allows(limit, &suppressed))
        return false;
    more[0] = '\0';
    if (suppressed > 0)
        (void)snprintf(more, SUPPRESSED_TEXT_BYTES, " (and %u more since the last such line)", suppressed);
    return true;
}

// Notes a request that was not answered OK for the status page. A body that has another command quotes it in the
// detail, and the page shows nothing of a body.
static void note_refusal(struct receiver *receiver, enum answer_code code, const char *remote_address,
                         const char *detail)
{
    refusals_add(&receiver->refusals, clock_realtime_ms(), code, remote_address,
                 code == ANSWER_COMMAND_DIFFERS ? "" : detail);
}

static void log_refusal(struct receiver *receiver, enum answer_code code, const char *remote_address,
                        const char *detail)
{
    char more[SUPPRESSED_TEXT_BYTES];

    if (may_log(&receiver->refusal_limits[code], more))
        log_info("refused %s from %s%s%s%s", answer_name(code), remote_address, more, *detail ? ": " : "", detail);
}

// The signature is valid, so one of the two clocks is wrong, or the request is a replay. If this machine's clock is
// wrong, the daemon also refuses further signed callbacks, so the line is a warning.
static void log_stale(struct receiver *receiver, const struct callback *callback)
{
    int64_t skew_s = callback->clock_skew_s;
    char more[SUPPRESSED_TEXT_BYTES];

    if (may_log(&receiver->refusal_limits[callback->answer], more))
        log_warning("refused %s from %s%s: the signature is valid, but RequestTime is %" PRId64
                    " s %s this machine's clock; synchronize the clock (see timedatectl) unless the call is a replay",
                    answer_name(callback->answer), callback->remote_address, more, skew_s < 0 ? -skew_s : skew_s,
                    skew_s < 0 ? "behind" : "ahead of");
}

static struct http_response *refuse(struct receiver *receiver, const struct callback *callback)
{
    struct http_response *answer = make_answer(callback->answer, callback->detail, HTTP_RESPONSE_ONCE);

    count_rejected(RESULT_REFUSED, callback->answer);
    note_refusal(receiver, callback->answer, callback->remote_address, callback->detail);
    if (callback->answer == ANSWER_REQUEST_TIME_STALE)
        log_stale(receiver, callback);
    else
        log_refusal(receiver, callback->answer, callback->remote_address, callback->detail);
    return answer ? answer : receiver->answers[ANSWER_STORE_UNAVAILABLE];
}

static struct settings *current_settings(struct receiver *receiver)
{
    struct settings *settings;

    pthread_mutex_lock(&receiver->lock);
    settings = settings_ref(receiver->settings);
    pthread_mutex_unlock(&receiver->lock);
    return settings;
}

static void note_clock_skew(struct receiver *receiver, const struct callback *callback)
{
    metric_set(&receiver_clock_skew, 0, -callback->clock_skew_s);
    receiver->skew_window_s = callback->app->request_time_window_s;
    receiver->skew_known = true;
}

static struct http_response *on_head(void *context, struct http_request *request)
{
    struct receiver *receiver = context;
    struct call *call = arena_alloc(&request->arena, sizeof *call);
    enum callback_verdict verdict;

    assert(!request->context);
    if (!call) {
        count_rejected(RESULT_REFUSED, ANSWER_STORE_UNAVAILABLE);
        note_refusal(receiver, ANSWER_STORE_UNAVAILABLE, request->remote_address, "");
        return receiver->answers[ANSWER_STORE_UNAVAILABLE];
    }
    memset(call, 0, sizeof *call);
    call->request = request;
    call->settings = current_settings(receiver);
    call->callback.arena = &request->arena;
    call->callback.remote_address = request->remote_address;
    call->callback.received_at_ms = request->received_at_ms;
    request->context = call;
    verdict = callback_read_query(&call->callback, &call->settings->rules, request->query);
    if (call->callback.clock_skew_known)
        note_clock_skew(receiver, &call->callback);
    request->verified = verdict != CALLBACK_REFUSE && call->callback.app->token_count > 0;
    if (verdict == CALLBACK_READ_BODY)
        return NULL;
    if (verdict == CALLBACK_ACKNOWLEDGE) {
        count_accepted(receiver, RESULT_ACKNOWLEDGED);
        return receiver->answers[ANSWER_OK];
    }
    assert(verdict == CALLBACK_REFUSE);
    return refuse(receiver, &call->callback);
}

// The service may never send this event again, so the log line may be the only copy of the event. The manual page has a
// script that parses this line.
static void log_lost(const struct call *call)
{
    const struct destroyed_group *group = &call->callback.group;

    log_write_data(
        LOG_LEVEL_CRIT, call->request->body.data, call->request->body.length,
        "not recorded: a callback of app %" PRId64 " from %s at %" PRId64 " ms, ClientIP %s, OptPlatform %s: ",
        group->sdk_appid, group->remote_address, group->received_at_ms, group->client_ip, group->opt_platform);
}

// The documentation does not say what the console sends, so the log line names the parameters, but not their values,
// which may be secret.
static struct http_response *answer_url_check(struct receiver *receiver, const struct call *call)
{
    const struct callback *callback = &call->callback;
    char more[SUPPRESSED_TEXT_BYTES], names[PARAMETER_NAMES_BYTES];

    count_accepted(receiver, RESULT_URL_CHECK);
    if (may_log(&receiver->url_checks, more)) {
        parameter_names_print(call->request->query, names);
        log_info("answered OK to a check of the URL from %s%s: it is signed with the token of app %" PRId64
                 ", the parameters are %s, and the body has %zu bytes",
                 callback->remote_address, more, callback->app->sdk_appid, names, call->request->body.length);
    }
    return receiver->answers[ANSWER_OK];
}

static struct http_response *on_body(void *context, struct http_request *request)
{
    struct receiver *receiver = context;
    struct call *call = request->context;
    enum callback_verdict verdict;

    assert(call && !call->committing);
    call->callback.received_at_ms = request->received_at_ms;
    verdict =
        callback_read_body(&call->callback, &call->settings->rules, buffer_text(&request->body), request->body.length);
    if (verdict == CALLBACK_REFUSE) {
        if (call->callback.answer == ANSWER_OVERLOADED)
            log_lost(call);
        return refuse(receiver, &call->callback);
    }
    if (verdict == CALLBACK_URL_CHECK)
        return answer_url_check(receiver, call);
    assert(verdict == CALLBACK_RECORD || verdict == CALLBACK_RECORD_REJECTION);
    if (verdict == CALLBACK_RECORD)
        call->commit.group = &call->callback.group;
    else
        call->commit.rejected = &call->callback.rejected;
    call->commit.give_up_at_ms = clock_monotonic_ms() + call->settings->store_wait_ms;
    call->committing = true;
    assert(receiver->store);
    store_submit(receiver->store, &call->commit);
    return NULL;
}

// Releases the resources that are not in the request's arena. request->context is NULL if on_head ran out of memory.
static void on_end(void *context, struct http_request *request)
{
    struct call *call = request->context;

    (void)context;
    if (!call)
        return;
    assert(call->request == request && !call->committing);
    settings_unref(call->settings);
    request->context = NULL;
}

static struct http_response *on_refusal(void *context, enum http_refusal why, const char *remote_address,
                                        const char *detail)
{
    struct receiver *receiver = context;
    struct http_response *detailed;
    enum answer_code code;

    assert(why > HTTP_REFUSE_NONE && why < HTTP_REFUSE_COUNT);
    code = code_of_refusal[why];
    count_rejected(RESULT_REFUSED, code);
    note_refusal(receiver, code, remote_address, detail);
    log_refusal(receiver, code, remote_address, detail);
    detailed = *detail ? make_answer(code, detail, HTTP_RESPONSE_ONCE) : NULL;
    return detailed ? detailed : receiver->answers[code];
}

static struct http_response *answer_conflict(struct receiver *receiver, const struct callback *callback)
{
    char more[SUPPRESSED_TEXT_BYTES];

    count_accepted(receiver, RESULT_CONFLICT);
    if (may_log(&receiver->conflicts, more))
        log_warning("group '%s' of app %" PRId64 " was received again with different content%s; see rejected_callback",
                    callback->group.group_id, callback->app->sdk_appid, more);
    return receiver->answers[ANSWER_OK];
}

static struct http_response *answer_set_aside(struct receiver *receiver, const struct callback *callback)
{
    char more[SUPPRESSED_TEXT_BYTES];

    count_rejected(RESULT_SET_ASIDE, callback->answer);
    note_refusal(receiver, callback->answer, callback->remote_address, callback->detail);
    if (may_log(&receiver->set_asides, more))
        log_warning("set aside a callback of app %" PRId64 " from %s%s: %s; see rejected_callback",
                    callback->app->sdk_appid, callback->remote_address, more, callback->rejected.reason);
    return make_answer(callback->answer, callback->detail, HTTP_RESPONSE_ONCE);
}

// Returns NULL if memory is exhausted.
static struct http_response *answer_committed(struct receiver *receiver, const struct call *call)
{
    const struct commit *commit = &call->commit;

    assert(!commit->group != !commit->rejected);
    switch (commit->result) {
    case COMMIT_FAILED:
        count_rejected(RESULT_FAILED, ANSWER_STORE_UNAVAILABLE);
        note_refusal(receiver, ANSWER_STORE_UNAVAILABLE, call->callback.remote_address, "");
        log_lost(call);
        return receiver->answers[ANSWER_STORE_UNAVAILABLE];
    case COMMIT_CONFLICT:
        return answer_conflict(receiver, &call->callback);
    case COMMIT_REPEATED:
        count_accepted(receiver, RESULT_REPEATED);
        return receiver->answers[ANSWER_OK];
    case COMMIT_RECORDED:
        break;
    }
    if (commit->rejected)
        return answer_set_aside(receiver, &call->callback);
    count_accepted(receiver, RESULT_RECORDED);
    receiver->recorded_ms = clock_realtime_ms();
    metric_add(&members, 0, (int64_t)commit->group->member_count);
    return receiver->answers[ANSWER_OK];
}

void receiver_on_committed(void *context, struct commit *finished)
{
    struct receiver *receiver = context;

    while (finished) {
        struct call *call = (struct call *)((char *)finished - offsetof(struct call, commit));
        struct http_response *answer;

        assert(call->committing);
        finished = finished->next; // after http_request_complete, the server may free the call
        answer = answer_committed(receiver, call);
        call->committing = false;
        http_request_complete(call->request, answer ? answer : receiver->answers[ANSWER_STORE_UNAVAILABLE]);
    }
    http_server_wake(receiver->server);
}

int receiver_create(struct settings *settings, struct receiver **ret_receiver, struct error *error)
{
    struct receiver *receiver = calloc(1, sizeof *receiver);
    bool complete = true;

    if (!receiver)
        return error_set(error, ENOMEM, "out of memory");
    pthread_mutex_init(&receiver->lock, NULL);
    refusals_init(&receiver->refusals);
    receiver->settings = settings_ref(settings);
    receiver->handler = (struct http_handler){
        .on_head = on_head, .on_body = on_body, .on_end = on_end, .on_refusal = on_refusal, .context = receiver};
    for (enum answer_code code = 0; code < ANSWER_CODE_COUNT; code++) {
        cause_names[code] = code == ANSWER_OK ? NULL : answer_name(code);
        receiver->answers[code] = make_answer(code, NULL, HTTP_RESPONSE_SHARED);
        complete = complete && receiver->answers[code];
    }
    if (!complete) {
        receiver_destroy(receiver);
        return error_set(error, ENOMEM, "out of memory");
    }
    *ret_receiver = receiver;
    return 0;
}

void receiver_set_settings(struct receiver *receiver, struct settings *settings)
{
    struct settings *old;

    pthread_mutex_lock(&receiver->lock);
    old = receiver->settings;
    receiver->settings = settings_ref(settings);
    pthread_mutex_unlock(&receiver->lock);
    settings_unref(old);
}

const struct http_handler *receiver_handler(const struct receiver *receiver)
{
    return &receiver->handler;
}

void receiver_connect(struct receiver *receiver, struct store *store, struct http_server *server)
{
    assert(store && server && !receiver->store && !receiver->server);
    receiver->store = store;
    receiver->server = server;
}

void receiver_copy_activity(struct receiver *receiver, struct receiver_activity *ret_activity)
{
    ret_activity->recorded_ms = receiver->recorded_ms;
    ret_activity->clock_skew_known = receiver->skew_known;
    ret_activity->clock_window_s = receiver->skew_window_s;
    refusals_copy(&receiver->refusals, &ret_activity->refusals);
}

void receiver_log_totals(void)
{
    struct buffer text = {0};
    int r = 0;

    for (size_t i = 0; i < receiver_results.count && r == 0; i++)
        r = buffer_print(&text, " %s=%" PRId64, receiver_results.label_texts[i], metric_value(&receiver_results, i));
    log_info("received since the start:%s", buffer_text(&text));
    buffer_finish(&text);
}

void receiver_destroy(struct receiver *receiver)
{
    if (!receiver)
        return;
    for (size_t i = 0; i < ANSWER_CODE_COUNT; i++)
        http_response_destroy(receiver->answers[i]);
    settings_unref(receiver->settings);
    refusals_finish(&receiver->refusals);
    pthread_mutex_destroy(&receiver->lock);
    free(receiver);
}
