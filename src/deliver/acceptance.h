// Decides what an answer of the endpoint means, without side effects.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"

// How one request ended. All values except OUTCOME_ACCEPTED are failures; imcallbackd_deliver_retries_total counts each
// of them under its own cause.
enum outcome {
    OUTCOME_ACCEPTED,
    OUTCOME_REFUSED,      // the endpoint itself refuses this event: 3xx, or 4xx other than 408, 425 and 429
    OUTCOME_FAIL,         // 2xx with ActionStatus FAIL
    OUTCOME_THROTTLED,    // 408, 425 or 429
    OUTCOME_SERVER_ERROR, // any other status
    OUTCOME_CONNECT,      // no connection: name not found, refused, unreachable
    OUTCOME_TLS,          // no TLS connection, or a certificate that cannot be verified
    OUTCOME_TIMEOUT,
    OUTCOME_BROKEN, // any other failure, such as a lost connection or an answer that is not HTTP
    OUTCOME_COUNT,
};

#define ANSWER_MAX_BYTES ((size_t)65536) // size of the part of an answer's body that is read

// Judges an answer by its status and by the first `length` bytes of its body, at most ANSWER_MAX_BYTES. A 2xx answer
// reports a failure only if these bytes start with a complete JSON object whose ActionStatus is FAIL; with any other
// body, the status alone decides. If memory is exhausted, returns OUTCOME_SERVER_ERROR, so that the event is sent
// again.
enum outcome acceptance_judge(int status, const char *body, size_t length);
