// Where the rooms meet: takes requests from the HTTP server, has them understood by the callback room and recorded by
// the store, and answers them.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/http/server.h"
#include "imcallbackd/store/store.h"
#include "settings.h"

struct receiver;

// What receivers count; ends with NULL.
extern const struct metric *const receiver_metrics[];

// Keeps a reference of its own to the settings.
int receiver_create(struct settings *settings, struct receiver **ret_receiver, struct error *error) MUST_CHECK;

// Requests that begin from now on are judged by these settings. Any thread may call.
void receiver_use(struct receiver *receiver, struct settings *settings);

// What the HTTP server calls; for http_server_create.
const struct http_handler *receiver_handler(const struct receiver *receiver);

// What the store calls when commits are done; context is the receiver.
void receiver_on_committed(void *receiver, struct commit *finished);

// Before the first request and before the first commit.
void receiver_connect(struct receiver *receiver, struct store *store, struct http_server *server);

// One log line with what was received since the start.
void receiver_log_totals(void);

void receiver_destroy(struct receiver *receiver);
