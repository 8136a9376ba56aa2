// The answers of the daemon. Every answer has the three-field JSON body of the protocol. Each cause of a rejection has
// an ErrorCode, which never changes, from the range 120001 to 130000 that the service reserves for backends of apps.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

enum answer_code {
    ANSWER_OK = 0,
    // The server rejects the HTTP request.
    ANSWER_BAD_FRAMING = 120001,
    ANSWER_PATH_UNKNOWN = 120002,
    ANSWER_METHOD_NOT_ALLOWED = 120003,
    ANSWER_BODY_TOO_LARGE = 120004,
    ANSWER_CONTENT_ENCODED = 120005,
    ANSWER_PEER_NOT_ALLOWED = 120006,
    ANSWER_OVERLOADED = 120007,
    // The query does not belong to a genuine callback of a configured app, or names another command.
    ANSWER_SDK_APPID_MISSING = 120101,
    ANSWER_SDK_APPID_REPEATED = 120102,
    ANSWER_SDK_APPID_UNKNOWN = 120103,
    ANSWER_SIGN_MISSING = 120111,
    ANSWER_SIGN_REPEATED = 120112,
    ANSWER_SIGN_MALFORMED = 120113,
    ANSWER_SIGN_WRONG = 120114,
    ANSWER_REQUEST_TIME_MISSING = 120121,
    ANSWER_REQUEST_TIME_REPEATED = 120122,
    ANSWER_REQUEST_TIME_MALFORMED = 120123,
    ANSWER_REQUEST_TIME_STALE = 120124,
    ANSWER_COMMAND_MISSING = 120131,
    ANSWER_COMMAND_REPEATED = 120132,
    ANSWER_COMMAND_NOT_HANDLED = 120133,
    ANSWER_COMMAND_DIFFERS = 120134,
    // The body is invalid. The detail names the field or the position.
    ANSWER_BODY_NOT_JSON = 120201,
    ANSWER_BODY_FIELD_MISSING = 120202,
    ANSWER_BODY_FIELD_TYPE = 120203,
    ANSWER_BODY_FIELD_REPEATED = 120204,
    ANSWER_BODY_NUL = 120205,
    ANSWER_BODY_TOO_COMPLEX = 120206,
    // The event is not on disk.
    ANSWER_STORE_UNAVAILABLE = 120301,
};

#define ANSWER_CODE_COUNT 30

// Maps the codes to the indexes 0 to ANSWER_CODE_COUNT - 1 of a table, and back. A value that is not a code counts as
// ANSWER_STORE_UNAVAILABLE in all functions of this header, so that it never counts as a success.
size_t answer_index(enum answer_code code);
enum answer_code answer_at(size_t index);

// Returns the HTTP status of the code: 200, 400, 403, 404, 405, 413, 415 or 503.
unsigned int answer_http_status(enum answer_code code);

// Returns the short name for logs and metrics, such as "sign_wrong".
const char *answer_name(enum answer_code code);

// Appends the JSON body. ErrorInfo is the sentence of the code, followed by detail, which may be NULL or "". Returns 0
// or -ENOMEM.
int answer_print(struct buffer *body, enum answer_code code, const char *detail) MUST_CHECK;

#define ANSWER_QUOTE_BYTES 132 // maximum size of what answer_quote() writes, with its NUL

// Quotes a client's text for a detail, so that no byte of the text can do harm in a log, on a terminal or in an answer:
// writes 'text' with \xXX for every byte except printable ASCII, and for quotes and backslashes. A long text ends with
// "...".
void answer_quote(const char *text, char ret_quoted[ANSWER_QUOTE_BYTES]);
