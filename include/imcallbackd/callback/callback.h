// Implements the protocol as a pure function in two steps: the query shows whether a callback is genuine and for a
// configured app; the body describes the event. Nothing here uses a socket, a file, a thread or a clock: all input
// comes as arguments.

// The console of the service checks a callback URL with a signed request, whose query may lack SdkAppid or
// CallbackCommand. Such a request is answered OK only if its body is blank, or valid JSON without an event, because OK
// for an event means that the event was recorded.

//   callback_read_query ── CALLBACK_REFUSE ─► send callback->answer
//         │      └───────── CALLBACK_ACKNOWLEDGE ─► discard the body, answer OK/0
//   CALLBACK_READ_BODY
//         ▼
//   callback_read_body ── CALLBACK_RECORD ─► record callback->group, answer OK/0
//         │      ├─────── CALLBACK_RECORD_REJECTION ─► record callback->rejected, send callback->answer
//         │      └─────── CALLBACK_URL_CHECK ─► record nothing, answer OK/0
//         └────────────── CALLBACK_REFUSE ─► send callback->answer
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/arena.h"
#include "imcallbackd/callback/answer.h"
#include "imcallbackd/callback/event.h"

#define CALLBACK_MAX_TOKENS 2 // the old and the new token while the operator rotates them

struct callback_app {
    int64_t sdk_appid;
    const char *tokens[CALLBACK_MAX_TOKENS];
    size_t token_count; // 0: no signature is required
    int64_t request_time_window_s;
};

// The apps that may call, and what happens to their callbacks. Threads may share the rules, because no function here
// changes them.
struct callback_rules {
    const struct callback_app *apps;
    size_t app_count;
    bool acknowledge_other_commands;
    bool keep_body;
};

enum callback_verdict {
    CALLBACK_READ_BODY,
    CALLBACK_ACKNOWLEDGE,
    CALLBACK_RECORD,
    CALLBACK_RECORD_REJECTION,
    CALLBACK_URL_CHECK,
    CALLBACK_REFUSE,
};

// One callback and the results of the checks so far. The caller sets arena, remote_address and received_at_ms and
// zeroes the rest.
struct callback {
    struct arena *arena; // holds everything that the functions below allocate, except the parsed tree
    const char *remote_address;
    int64_t received_at_ms;

    const struct callback_app *app; // set once the query has named a configured app, or was signed with its token
    enum answer_code query_fault;   // if the request may be a URL check: the code of the missing parameter, with which
                                    // the request is refused if its body may be an event; otherwise ANSWER_OK
    bool clock_skew_known;          // the signature is genuine, regardless of its age
    int64_t clock_skew_s;           // RequestTime minus received_at_ms
    enum answer_code answer;
    char detail[256];                  // for answer and log: the fault and its place; the client's text is escaped
    struct destroyed_group group;      // with CALLBACK_RECORD
    struct rejected_callback rejected; // with CALLBACK_RECORD_REJECTION
};

// Returns the version of cJSON, such as "1.7.15".
const char *callback_cjson_version(void);

// Judges the query, which is the raw text after the '?' of the request target, or "" if the target has no '?'.
enum callback_verdict callback_read_query(struct callback *callback, const struct callback_rules *rules,
                                          const char *query);

// Reads the body, after callback_read_query() has returned CALLBACK_READ_BODY. The parsed tree is allocated separately,
// up to the limit of the arena, and freed before the function returns. The arena keeps only copies of texts and one
// pointer per member. The body must live as long as the callback, because group and rejected point into it.
enum callback_verdict callback_read_body(struct callback *callback, const struct callback_rules *rules,
                                         const char *body, size_t length);
