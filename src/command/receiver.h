// Connects the modules: takes requests from the HTTP server, lets the callback module parse them and the store record
// them, and answers them.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/http/server.h"
#include "imcallbackd/status/refusals.h"
#include "imcallbackd/store/store.h"
#include "settings.h"

struct receiver;

// The values of receiver_results.
enum receiver_result {
    RESULT_RECORDED,
    RESULT_REPEATED,
    RESULT_CONFLICT,
    RESULT_SET_ASIDE,
    RESULT_ACKNOWLEDGED,
    RESULT_URL_CHECK,
    RESULT_REFUSED,
    RESULT_FAILED,
};

// Callbacks by enum receiver_result, rejected requests by enum answer_code, and the clock skew in seconds.
extern const struct metric receiver_results, receiver_rejected, receiver_clock_skew;

// The metrics of all receivers; the list ends with NULL.
extern const struct metric *const receiver_metrics[];

// Takes its own reference to the settings. Returns -ENOMEM if memory is exhausted.
int receiver_create(struct settings *settings, struct receiver **ret_receiver, struct error *error) MUST_CHECK;

// Sets the store and the server. The caller calls this once, before the first request and the first commit.
void receiver_connect(struct receiver *receiver, struct store *store, struct http_server *server);

// Applies the settings to requests that start from now on; requests in progress keep their settings. Takes its own
// reference to the settings. Any thread may call this function.
void receiver_set_settings(struct receiver *receiver, struct settings *settings);

// Returns the handler to pass to http_server_create. The handler lives as long as the receiver.
const struct http_handler *receiver_handler(const struct receiver *receiver);

// Answers the requests of finished commits. The store's `done` callback calls this function.
void receiver_on_committed(void *receiver, struct commit *finished);

// What the metrics do not tell about the calls since the start.
struct receiver_activity {
    int64_t recorded_ms;    // Unix time of the last recorded event; 0: none
    bool clock_skew_known;  // there was a call with a valid signature
    int64_t clock_window_s; // request_time_window of that call's app
    struct refusals_view refusals;
};

// Any thread may call this function.
void receiver_copy_activity(struct receiver *receiver, struct receiver_activity *ret_activity);

// Logs one line with the number of callbacks received since the start, by result.
void receiver_log_totals(void);

// The caller must have destroyed the HTTP server and closed the store. NULL is allowed.
void receiver_destroy(struct receiver *receiver);
