// The protocol as one pure function in two steps: the query decides whether a call is for us and genuine, the body says
// what happened. No socket, no disk, no thread, no clock: everything comes in as an argument.
//
//   callback_read_query ── CALLBACK_REFUSE ─► answer
//         │      └───────── CALLBACK_ACKNOWLEDGE ─► drop the body, answer OK/0
//   CALLBACK_READ_BODY
//         ▼
//   callback_read_body ── CALLBACK_RECORD ─► callback->group
//                └─────── CALLBACK_RECORD_REJECTION ─► callback->rejected, then the answer; CALLBACK_REFUSE ─► answer
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/arena.h"
#include "imcallbackd/callback/answer.h"
#include "imcallbackd/callback/event.h"

#define CALLBACK_MAX_TOKENS 2 // the old one and the new one, while a token is rotated

struct callback_app {
    int64_t sdk_appid;
    const char *tokens[CALLBACK_MAX_TOKENS];
    size_t token_count; // 0: no signature is asked for
    int64_t request_time_window_s;
};

// Who may call and what is done with what comes. Read only while calls are read, so threads may share it.
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
    CALLBACK_REFUSE,
};

// One call on its way. The caller sets arena, remote_address and received_at_ms and zeroes the rest.
struct callback {
    struct arena *arena; // all text below lives here
    const char *remote_address;
    int64_t received_at_ms;

    const struct callback_app *app;
    bool clock_skew_known; // the signature is genuine, whatever its age
    int64_t clock_skew_s;  // RequestTime minus our clock
    enum answer_code answer;
    char detail[256];             // for the answer and the log: what is wrong, where; no secret; untrusted text escaped
    struct destroyed_group group; // with CALLBACK_RECORD
    struct rejected_callback rejected; // with CALLBACK_RECORD_REJECTION
};

// query: what stands behind '?' in the request target, as raw bytes; "" for none.
enum callback_verdict callback_read_query(struct callback *callback, const struct callback_rules *rules,
                                          const char *query);

// After CALLBACK_READ_BODY. While it runs it takes up to the arena's limit once more, for the parsed tree; what it
// leaves in the arena is the text that is recorded and a pointer for each member. The body must live as long as the
// callback: group and rejected point into it.
enum callback_verdict callback_read_body(struct callback *callback, const struct callback_rules *rules,
                                         const char *body, size_t length);
