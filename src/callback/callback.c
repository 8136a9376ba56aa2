// Judges the query in the order app, signature, age, command, so that the sender of a forged request learns nothing
// about later checks. Without an app in the query, the signature alone shows whether the request is genuine.
#include "imcallbackd/callback/callback.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "imcallbackd/base/parse.h"
#include "imcallbackd/base/utf8.h"
#include "imcallbackd/callback/signature.h"
#include "query.h"

#define REQUEST_TIME_MAX_DIGITS 11

static enum callback_verdict refuse(struct callback *callback, enum answer_code code)
{
    assert(code != ANSWER_OK);
    callback->answer = code;
    return CALLBACK_REFUSE;
}

static enum answer_code find_app(struct callback *callback, const struct callback_rules *rules,
                                 const struct query_value *sdk_appid)
{
    char quoted[ANSWER_QUOTE_BYTES];
    bool is_number;
    uint64_t number;

    if (sdk_appid->repeated)
        return ANSWER_SDK_APPID_REPEATED;
    is_number = !sdk_appid->malformed && sdk_appid->text[0] != '0' &&
                parse_decimal(sdk_appid->text, strlen(sdk_appid->text), INT64_MAX, &number) == 0;
    for (size_t i = 0; i < rules->app_count && is_number; i++) {
        if (rules->apps[i].sdk_appid == (int64_t)number) {
            callback->app = &rules->apps[i];
            return ANSWER_OK;
        }
    }
    answer_quote(sdk_appid->text, quoted);
    (void)snprintf(callback->detail, sizeof callback->detail, "The query has %s.", quoted);
    return ANSWER_SDK_APPID_UNKNOWN;
}

static enum answer_code check_request_time(struct callback *callback, const struct query_value *request_time)
{
    uint64_t seconds;
    size_t length;

    if (!request_time->text)
        return ANSWER_REQUEST_TIME_MISSING;
    if (request_time->repeated)
        return ANSWER_REQUEST_TIME_REPEATED;
    length = strlen(request_time->text);
    if (request_time->malformed || length > REQUEST_TIME_MAX_DIGITS ||
        parse_decimal(request_time->text, length, UINT64_MAX, &seconds) < 0)
        return ANSWER_REQUEST_TIME_MALFORMED;

    callback->clock_skew_s = (int64_t)seconds - callback->received_at_ms / 1000;
    return ANSWER_OK;
}

static enum answer_code check_sign_format(const struct query_value *sign)
{
    if (!sign->text)
        return ANSWER_SIGN_MISSING;
    if (sign->repeated)
        return ANSWER_SIGN_REPEATED;
    if (sign->malformed || strlen(sign->text) != SIGNATURE_HEX_LENGTH ||
        strspn(sign->text, "0123456789abcdef") != SIGNATURE_HEX_LENGTH)
        return ANSWER_SIGN_MALFORMED;
    return ANSWER_OK;
}

// Checks the form of Sign and RequestTime, and computes clock_skew_s, which must not be trusted before the signature is
// compared.
static enum answer_code check_signature_format(struct callback *callback, const struct query *query)
{
    enum answer_code code = check_sign_format(&query->values[QUERY_SIGN]);

    return code == ANSWER_OK ? check_request_time(callback, &query->values[QUERY_REQUEST_TIME]) : code;
}

// Compares the signature with all tokens of the app, even after a match, so that the duration does not reveal which
// token matches. Returns a negative errno value if libcrypto fails, which is not the client's fault, so the answer must
// not be "sign_wrong".
static int signed_with_token(const struct callback_app *app, const struct query *query, bool *ret_matches)
{
    const char *request_time = query->values[QUERY_REQUEST_TIME].text, *sign = query->values[QUERY_SIGN].text;

    assert(app->token_count <= CALLBACK_MAX_TOKENS);
    *ret_matches = false;
    for (size_t i = 0; i < app->token_count; i++) {
        bool matches;
        int r = signature_matches(app->tokens[i], request_time, sign, &matches);

        if (r < 0)
            return r;
        *ret_matches |= matches;
    }
    return 0;
}

// The signature must have matched before this call, because clock_skew_s can be trusted only if the request is genuine.
static enum answer_code check_age(struct callback *callback)
{
    int64_t window_s = callback->app->request_time_window_s, skew_s = callback->clock_skew_s;

    callback->clock_skew_known = true;
    if (skew_s <= window_s && skew_s >= -window_s)
        return ANSWER_OK;
    (void)snprintf(callback->detail, sizeof callback->detail,
                   "RequestTime is %" PRId64 " s %s the clock of this server.", skew_s < 0 ? -skew_s : skew_s,
                   skew_s < 0 ? "behind" : "ahead of");
    return ANSWER_REQUEST_TIME_STALE;
}

static enum answer_code check_signature(struct callback *callback, const struct query *query)
{
    enum answer_code code = check_signature_format(callback, query);
    bool matches;

    if (code != ANSWER_OK)
        return code;
    if (signed_with_token(callback->app, query, &matches) < 0)
        return ANSWER_OVERLOADED;
    return matches ? check_age(callback) : ANSWER_SIGN_WRONG;
}

static bool has_token(const struct callback_rules *rules)
{
    for (size_t i = 0; i < rules->app_count; i++) {
        if (rules->apps[i].token_count > 0)
            return true;
    }
    return false;
}

// Finds the app whose token has signed a query without SdkAppid. If several apps have this token, chooses the app with
// the largest request_time_window.
static enum answer_code find_signer(struct callback *callback, const struct callback_rules *rules,
                                    const struct query *query)
{
    enum answer_code code;

    if (!query->values[QUERY_SIGN].text || !has_token(rules))
        return ANSWER_SDK_APPID_MISSING;
    code = check_signature_format(callback, query);
    if (code != ANSWER_OK)
        return code;
    for (size_t i = 0; i < rules->app_count; i++) {
        const struct callback_app *app = &rules->apps[i];
        bool matches;

        if (signed_with_token(app, query, &matches) < 0)
            return ANSWER_OVERLOADED;
        if (matches && (!callback->app || app->request_time_window_s > callback->app->request_time_window_s))
            callback->app = app;
    }
    if (!callback->app)
        return ANSWER_SIGN_WRONG;
    callback->query_fault = ANSWER_SDK_APPID_MISSING;
    return check_age(callback);
}

// Finds the app, and checks that the query is signed if the app has a token.
static enum answer_code check_origin(struct callback *callback, const struct callback_rules *rules,
                                     const struct query *query)
{
    enum answer_code code;

    if (!query->values[QUERY_SDK_APPID].text)
        return find_signer(callback, rules, query);
    code = find_app(callback, rules, &query->values[QUERY_SDK_APPID]);
    return code == ANSWER_OK && callback->app->token_count > 0 ? check_signature(callback, query) : code;
}

static enum callback_verdict check_command(struct callback *callback, const struct callback_rules *rules,
                                           const struct query_value *command)
{
    char quoted[ANSWER_QUOTE_BYTES];

    if (command->repeated)
        return refuse(callback, ANSWER_COMMAND_REPEATED);
    if (!command->text && callback->app->token_count > 0 && callback->query_fault == ANSWER_OK)
        callback->query_fault = ANSWER_COMMAND_MISSING;
    if (callback->query_fault != ANSWER_OK)
        return CALLBACK_READ_BODY;
    if (command->text && !command->malformed && strcmp(command->text, CALLBACK_COMMAND) == 0)
        return CALLBACK_READ_BODY;
    if (rules->acknowledge_other_commands)
        return CALLBACK_ACKNOWLEDGE;
    if (!command->text)
        return refuse(callback, ANSWER_COMMAND_MISSING);
    answer_quote(command->text, quoted);
    (void)snprintf(callback->detail, sizeof callback->detail, "The query has %s.", quoted);
    return refuse(callback, ANSWER_COMMAND_NOT_HANDLED);
}

// Returns the value as valid UTF-8, or "" if the query has none. The daemon does not interpret these values, so invalid
// UTF-8 is no reason to refuse the callback. Returns NULL if the arena has no memory left.
static const char *sanitized(struct arena *arena, const struct query_value *value)
{
    return value->text ? utf8_sanitize(arena, value->text) : "";
}

enum callback_verdict callback_read_query(struct callback *callback, const struct callback_rules *rules,
                                          const char *text)
{
    struct query query;
    enum answer_code code;

    assert(callback->arena && callback->remote_address && !callback->app);
    if (query_read(callback->arena, text, &query) < 0)
        return refuse(callback, ANSWER_OVERLOADED);
    code = check_origin(callback, rules, &query);
    if (code != ANSWER_OK)
        return refuse(callback, code);
    assert(callback->app->token_count == 0 || callback->clock_skew_known);
    callback->group.sdk_appid = callback->app->sdk_appid;
    callback->group.remote_address = callback->remote_address;
    callback->group.client_ip = sanitized(callback->arena, &query.values[QUERY_CLIENT_IP]);
    callback->group.opt_platform = sanitized(callback->arena, &query.values[QUERY_OPT_PLATFORM]);
    if (!callback->group.client_ip || !callback->group.opt_platform)
        return refuse(callback, ANSWER_OVERLOADED);
    return check_command(callback, rules, &query.values[QUERY_CALLBACK_COMMAND]);
}
