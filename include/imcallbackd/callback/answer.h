// Defines the daemon's answers to callbacks. Each answer has the three-field JSON body of the protocol. Each cause of a
// rejection has an ErrorCode (in answer.c), which never changes, from the range 120001 to 130000 that the service
// reserves for backends of apps.
#pragma once

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

enum answer_code {
    ANSWER_OK,
    // The HTTP request is rejected, or the server is overloaded or out of memory.
    ANSWER_BAD_FRAMING,
    ANSWER_PATH_UNKNOWN,
    ANSWER_METHOD_NOT_ALLOWED,
    ANSWER_BODY_TOO_LARGE,
    ANSWER_CONTENT_ENCODED,
    ANSWER_PEER_NOT_ALLOWED,
    ANSWER_OVERLOADED,
    // The query does not belong to a genuine callback of a configured app, or the command is missing, repeated or not
    // handled, or the body has another command.
    ANSWER_SDK_APPID_MISSING,
    ANSWER_SDK_APPID_REPEATED,
    ANSWER_SDK_APPID_UNKNOWN,
    ANSWER_SIGN_MISSING,
    ANSWER_SIGN_REPEATED,
    ANSWER_SIGN_MALFORMED,
    ANSWER_SIGN_WRONG,
    ANSWER_REQUEST_TIME_MISSING,
    ANSWER_REQUEST_TIME_REPEATED,
    ANSWER_REQUEST_TIME_MALFORMED,
    ANSWER_REQUEST_TIME_STALE,
    ANSWER_COMMAND_MISSING,
    ANSWER_COMMAND_REPEATED,
    ANSWER_COMMAND_NOT_HANDLED,
    ANSWER_COMMAND_DIFFERS,
    // The body is not a valid callback. The detail describes the fault, with its field or position if there is one.
    ANSWER_BODY_NOT_JSON,
    ANSWER_BODY_FIELD_MISSING,
    ANSWER_BODY_FIELD_TYPE,
    ANSWER_BODY_FIELD_REPEATED,
    ANSWER_BODY_NUL,
    ANSWER_BODY_TOO_COMPLEX,
    // The store did not confirm that the event is on disk. This is also the answer if no memory is left for another
    // answer.
    ANSWER_STORE_UNAVAILABLE,
    ANSWER_CODE_COUNT,
};

// A value that is not a code counts as ANSWER_STORE_UNAVAILABLE in the functions below, so that it never counts as a
// success.

// Returns the HTTP status of the code: 200, 400, 403, 404, 405, 413, 415 or 503.
unsigned int answer_http_status(enum answer_code code);

// Returns the short name for logs and metrics, such as "sign_wrong".
const char *answer_name(enum answer_code code);

// Returns the ErrorCode of the code; 0 for ANSWER_OK.
int answer_error_code(enum answer_code code);

// Returns the sentence for ErrorInfo, which says what is wrong and, after a semicolon, how to fix it if there is a
// remedy; "" for ANSWER_OK.
const char *answer_sentence(enum answer_code code);

// Appends the JSON body. ErrorInfo is the sentence of the code, followed by detail, which may be NULL or "". Returns 0
// or -ENOMEM. After -ENOMEM, part of the body may have been appended.
int answer_print(struct buffer *body, enum answer_code code, const char *detail) MUST_CHECK;

#define ANSWER_QUOTE_BYTES 132 // maximum size of what answer_quote() writes, with its NUL

// Quotes a client's text for a detail, so that no byte of the text can do harm in a log, on a terminal or in an answer:
// writes 'text' in single quotes, with \xXX for each single quote, each backslash and each byte that is not printable
// ASCII. A long text is cut and ends with "...".
void answer_quote(const char *text, char ret_quoted[ANSWER_QUOTE_BYTES]);
