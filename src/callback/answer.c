// Holds the table of all answers. An operator's tools rely on the numbers and names, so they never change.
#include "imcallbackd/callback/answer.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define ESCAPE_BYTES 4               // \xXX
#define TAIL_BYTES   (sizeof "...'") // the longest end of the quoted text, with its NUL

// clang-format off
static const struct answer {
    int error_code;
    unsigned int http_status;
    const char *name;
    const char *sentence;
} answers[ANSWER_CODE_COUNT] = {
    [ANSWER_OK] = {0, 200, "ok", ""},
    [ANSWER_BAD_FRAMING] = {120001, 400, "bad_framing",
        "The request can be read in more than one way; send one Host header, and either one Content-Length or "
        "Transfer-Encoding: chunked."},
    [ANSWER_PATH_UNKNOWN] = {120002, 404, "path_unknown",
        "This path is not [listen] path; use the same path in the callback URL and in [listen] path."},
    [ANSWER_METHOD_NOT_ALLOWED] = {120003, 405, "method_not_allowed",
        "The method is not POST; imcallbackd runs here and answers only POST requests."},
    [ANSWER_BODY_TOO_LARGE] = {120004, 413, "body_too_large",
        "The body is larger than [limits] body; raise this limit if the service sent the body."},
    [ANSWER_CONTENT_ENCODED] = {120005, 415, "content_encoded",
        "The body has a Content-Encoding; send the body without compression or any other encoding."},
    [ANSWER_PEER_NOT_ALLOWED] = {120006, 403, "peer_not_allowed",
        "The client's address is not in [callback] allow_from; add the address if this client may call."},
    [ANSWER_OVERLOADED] = {120007, 503, "overloaded",
        "The server has too many connections or waiting requests, or is out of memory; send the request again later."},
    [ANSWER_SDK_APPID_MISSING] = {120101, 403, "sdk_appid_missing",
        "SdkAppid is missing from the query, and this is not a signed check of the URL; if the console sent the "
        "request, switch on token authentication there."},
    [ANSWER_SDK_APPID_REPEATED] = {120102, 403, "sdk_appid_repeated",
        "SdkAppid appears more than once in the query; remove SdkAppid from the URL in the console."},
    [ANSWER_SDK_APPID_UNKNOWN] = {120103, 403, "sdk_appid_unknown",
        "The configuration has no app with this SdkAppid; add an [app SDKAPPID] section if the app is yours."},
    [ANSWER_SIGN_MISSING] = {120111, 403, "sign_missing",
        "Sign is missing from the query; switch on token authentication in the console."},
    [ANSWER_SIGN_REPEATED] = {120112, 403, "sign_repeated",
        "Sign appears more than once in the query; remove Sign from the URL in the console."},
    [ANSWER_SIGN_MALFORMED] = {120113, 403, "sign_malformed", "Sign is not 64 lower-case hexadecimal digits."},
    [ANSWER_SIGN_WRONG] = {120114, 403, "sign_wrong",
        "Sign does not match RequestTime; write the token of the console into token_file."},
    [ANSWER_REQUEST_TIME_MISSING] = {120121, 403, "request_time_missing",
        "RequestTime is missing from the query; send the time that was signed."},
    [ANSWER_REQUEST_TIME_REPEATED] = {120122, 403, "request_time_repeated",
        "RequestTime appears more than once in the query; remove RequestTime from the URL in the console."},
    [ANSWER_REQUEST_TIME_MALFORMED] = {120123, 403, "request_time_malformed",
        "RequestTime is not a Unix time in seconds, which has 1 to 11 digits."},
    [ANSWER_REQUEST_TIME_STALE] = {120124, 403, "request_time_stale",
        "RequestTime is outside request_time_window: the clock of the client or of this server is wrong, or the "
        "request is an old one."},
    [ANSWER_COMMAND_MISSING] = {120131, 400, "command_missing",
        "CallbackCommand is missing from the query; the service adds CallbackCommand, and every other client must "
        "do so too."},
    [ANSWER_COMMAND_REPEATED] = {120132, 400, "command_repeated",
        "CallbackCommand appears more than once in the query; remove CallbackCommand from the URL in the console."},
    [ANSWER_COMMAND_NOT_HANDLED] = {120133, 400, "command_not_handled",
        "Only Group.CallbackAfterGroupDestroyed is recorded; switch off other callbacks in the console, or set "
        "[callback] other_commands = acknowledge."},
    [ANSWER_COMMAND_DIFFERS] = {120134, 400, "command_differs",
        "CallbackCommand of the body differs from CallbackCommand of the query."},
    [ANSWER_BODY_NOT_JSON] = {120201, 400, "body_not_json", "The body is not a JSON object."},
    [ANSWER_BODY_FIELD_MISSING] = {120202, 400, "body_field_missing",
        "A required field of the body is missing or empty."},
    [ANSWER_BODY_FIELD_TYPE] = {120203, 400, "body_field_type", "A field of the body has the wrong type or format."},
    [ANSWER_BODY_FIELD_REPEATED] = {120204, 400, "body_field_repeated", "A field appears more than once in the body."},
    [ANSWER_BODY_NUL] = {120205, 400, "body_nul",
        "The body contains a NUL character as a byte, or in a field that may not contain it."},
    [ANSWER_BODY_TOO_COMPLEX] = {120206, 400, "body_too_complex",
        "The body is nested too deeply or has too many values."},
    [ANSWER_STORE_UNAVAILABLE] = {120301, 503, "store_unavailable",
        "The store cannot record the event at the moment; send the event again."},
};
// clang-format on

static const struct answer *find(enum answer_code code)
{
    return &answers[(unsigned int)code < ANSWER_CODE_COUNT ? code : ANSWER_STORE_UNAVAILABLE];
}

unsigned int answer_http_status(enum answer_code code)
{
    return find(code)->http_status;
}

const char *answer_name(enum answer_code code)
{
    return find(code)->name;
}

int answer_error_code(enum answer_code code)
{
    return find(code)->error_code;
}

const char *answer_sentence(enum answer_code code)
{
    return find(code)->sentence;
}

int answer_print(struct buffer *body, enum answer_code code, const char *detail)
{
    const struct answer *answer = find(code);
    int r = buffer_print(body, "{\"ActionStatus\":\"%s\",\"ErrorInfo\":\"", code == ANSWER_OK ? "OK" : "FAIL");

    if (r == 0)
        r = buffer_append_json(body, answer->sentence, strlen(answer->sentence));
    if (r == 0 && detail && *detail)
        r = buffer_append(body, " ", 1);
    if (r == 0 && detail)
        r = buffer_append_json(body, detail, strlen(detail));
    return r < 0 ? r : buffer_print(body, "\",\"ErrorCode\":%d}", answer->error_code);
}

void answer_quote(const char *text, char ret_quoted[ANSWER_QUOTE_BYTES])
{
    char *to = ret_quoted, *last = ret_quoted + ANSWER_QUOTE_BYTES - TAIL_BYTES - ESCAPE_BYTES;

    *to++ = '\'';
    for (; *text && to <= last; text++) {
        if (*text >= ' ' && *text <= '~' && *text != '\\' && *text != '\'')
            *to++ = *text;
        else
            to += sprintf(to, "\\x%02x", (unsigned char)*text);
    }
    (void)sprintf(to, *text ? "...'" : "'");
    assert(strlen(ret_quoted) < ANSWER_QUOTE_BYTES);
}
