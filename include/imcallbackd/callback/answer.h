// The answers of the daemon. Every answer has the protocol's three-field JSON body; the ErrorCode is stable for ever,
// one a cause, out of the range 120001 to 130000 that the service leaves to app backends.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

enum answer_code {
    ANSWER_OK = 0,
    // The request as HTTP.
    ANSWER_BAD_FRAMING = 120001,
    ANSWER_PATH_UNKNOWN = 120002,
    ANSWER_METHOD_NOT_ALLOWED = 120003,
    ANSWER_BODY_TOO_LARGE = 120004,
    ANSWER_CONTENT_ENCODED = 120005,
    ANSWER_PEER_NOT_ALLOWED = 120006,
    ANSWER_OVERLOADED = 120007,
    // Whether it is for us and genuine.
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
    // Whether it is understood. The detail names the field or the position.
    ANSWER_BODY_NOT_JSON = 120201,
    ANSWER_BODY_FIELD_MISSING = 120202,
    ANSWER_BODY_FIELD_TYPE = 120203,
    ANSWER_BODY_FIELD_REPEATED = 120204,
    ANSWER_BODY_NUL = 120205,
    ANSWER_BODY_TOO_COMPLEX = 120206,
    // Whether it is on disk.
    ANSWER_STORE_UNAVAILABLE = 120301,
};

#define ANSWER_CODE_COUNT 30

// Numbers the codes from 0 to ANSWER_CODE_COUNT - 1, for tables, and back.
size_t answer_index(enum answer_code code);
enum answer_code answer_at(size_t index);

// The HTTP status that belongs to the code: 200, 400, 403, 404, 405, 413, 415 or 503.
unsigned int answer_http_status(enum answer_code code);

// A short name for logs and metrics, such as "sign_wrong".
const char *answer_name(enum answer_code code);

// Appends the JSON body. detail goes into ErrorInfo behind the code's sentence; NULL or "" for none.
int answer_print(struct buffer *body, enum answer_code code, const char *detail) MUST_CHECK;
