#include "imcallbackd/callback/answer.h"

#include <assert.h>
#include <string.h>

#include "imcallbackd/base/utf8.h"

static const struct answer {
    enum answer_code code;
    unsigned int http_status;
    const char *name;
    const char *sentence;
} answers[] = {
    {ANSWER_OK, 200, "ok", ""},
    {ANSWER_BAD_FRAMING, 400, "bad_framing",
     "The request cannot be read in one way only; send one Host, and either one Content-Length or chunked."},
    {ANSWER_PATH_UNKNOWN, 404, "path_unknown", "There is nothing at this path; use the path of the callback URL."},
    {ANSWER_METHOD_NOT_ALLOWED, 405, "method_not_allowed",
     "This receiver of callbacks is running; only POST is answered here."},
    {ANSWER_BODY_TOO_LARGE, 413, "body_too_large",
     "The body is larger than this receiver takes; raise [limits] body if it is a real one."},
    {ANSWER_CONTENT_ENCODED, 415, "content_encoded", "The body is compressed or otherwise encoded; send it as it is."},
    {ANSWER_PEER_NOT_ALLOWED, 403, "peer_not_allowed", "This address may not call; add it to [callback] allow_from."},
    {ANSWER_OVERLOADED, 503, "overloaded", "There is too much to do at the moment; try again."},
    {ANSWER_SDK_APPID_MISSING, 403, "sdk_appid_missing",
     "SdkAppid is missing in the query; the service adds it to the callback URL."},
    {ANSWER_SDK_APPID_REPEATED, 403, "sdk_appid_repeated", "SdkAppid stands in the query more than once."},
    {ANSWER_SDK_APPID_UNKNOWN, 403, "sdk_appid_unknown",
     "SdkAppid is none of the apps of this receiver; add an [app SDKAPPID] section if it should be."},
    {ANSWER_SIGN_MISSING, 403, "sign_missing",
     "Sign is missing in the query; switch on token authentication in the console."},
    {ANSWER_SIGN_REPEATED, 403, "sign_repeated", "Sign stands in the query more than once."},
    {ANSWER_SIGN_MALFORMED, 403, "sign_malformed", "Sign is not 64 lower-case hexadecimal digits."},
    {ANSWER_SIGN_WRONG, 403, "sign_wrong",
     "Sign does not fit RequestTime; the token in the console and the one in token_file differ."},
    {ANSWER_REQUEST_TIME_MISSING, 403, "request_time_missing", "RequestTime is missing in the query."},
    {ANSWER_REQUEST_TIME_REPEATED, 403, "request_time_repeated", "RequestTime stands in the query more than once."},
    {ANSWER_REQUEST_TIME_MALFORMED, 403, "request_time_malformed",
     "RequestTime is not a time in unix seconds, 1 to 11 digits."},
    {ANSWER_REQUEST_TIME_STALE, 403, "request_time_stale",
     "RequestTime is too far from now; the clock of the caller or of this receiver is wrong, or the call is an old "
     "one."},
    {ANSWER_COMMAND_MISSING, 400, "command_missing", "CallbackCommand is missing in the query."},
    {ANSWER_COMMAND_REPEATED, 400, "command_repeated", "CallbackCommand stands in the query more than once."},
    {ANSWER_COMMAND_NOT_HANDLED, 400, "command_not_handled",
     "This receiver records Group.CallbackAfterGroupDestroyed alone; switch other callbacks off in the console, or set "
     "[callback] other_commands = acknowledge."},
    {ANSWER_COMMAND_DIFFERS, 400, "command_differs", "CallbackCommand in the body differs from the one in the query."},
    {ANSWER_BODY_NOT_JSON, 400, "body_not_json", "The body is not JSON."},
    {ANSWER_BODY_FIELD_MISSING, 400, "body_field_missing", "A field is missing or empty in the body."},
    {ANSWER_BODY_FIELD_TYPE, 400, "body_field_type", "A field of the body has the wrong type or form."},
    {ANSWER_BODY_FIELD_REPEATED, 400, "body_field_repeated", "A field stands in the body more than once."},
    {ANSWER_BODY_NUL, 400, "body_nul", "The body holds a NUL character, which no field may have."},
    {ANSWER_BODY_TOO_COMPLEX, 400, "body_too_complex", "The body is nested too deeply or has too many values."},
    {ANSWER_STORE_UNAVAILABLE, 503, "store_unavailable", "The event cannot be recorded at the moment; send it again."},
};

static_assert(sizeof answers / sizeof answers[0] == ANSWER_CODE_COUNT, "ANSWER_CODE_COUNT counts the table");

static const struct answer *find(enum answer_code code)
{
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        if (answers[i].code == code)
            return &answers[i];
    }
    return find(ANSWER_STORE_UNAVAILABLE);
}

size_t answer_index(enum answer_code code)
{
    return (size_t)(find(code) - answers);
}

enum answer_code answer_at(size_t index)
{
    return answers[index].code;
}

unsigned int answer_http_status(enum answer_code code)
{
    return find(code)->http_status;
}

const char *answer_name(enum answer_code code)
{
    return find(code)->name;
}

// Appends text as the inside of a JSON string; what is not UTF-8 becomes U+FFFD.
static int print_json_text(struct buffer *body, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t left = strlen(text);

    while (left > 0) {
        size_t length = utf8_length(at, left);
        int r;

        if (length == 0) {
            length = utf8_invalid_length(at, left);
            r = buffer_append(body, UTF8_REPLACEMENT, strlen(UTF8_REPLACEMENT));
        } else if (*at < 0x20) {
            r = buffer_print(body, "\\u%04x", *at);
        } else if (*at == '"' || *at == '\\') {
            r = buffer_print(body, "\\%c", *at);
        } else {
            r = buffer_append(body, at, length);
        }
        if (r < 0)
            return r;
        at += length;
        left -= length;
    }
    return 0;
}

int answer_print(struct buffer *body, enum answer_code code, const char *detail)
{
    const struct answer *answer = find(code);
    int r;

    r = buffer_print(body, "{\"ActionStatus\":\"%s\",\"ErrorInfo\":\"", code == ANSWER_OK ? "OK" : "FAIL");
    if (r == 0)
        r = print_json_text(body, answer->sentence);
    if (r == 0 && detail && *detail) {
        r = buffer_append(body, " ", 1);
        if (r == 0)
            r = print_json_text(body, detail);
    }
    if (r == 0)
        r = buffer_print(body, "\",\"ErrorCode\":%d}", (int)code);
    return r;
}
