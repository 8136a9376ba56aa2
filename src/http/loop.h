// Declares the event loop: a thread with its own instance of libmicrohttpd and its own connections. Other threads reach
// the loop through its inbox and its flags; http_loop_wake_if_queued and http_loop_wake make the loop check both.
#pragma once

#include "connection.h"
#include "imcallbackd/base/error.h"

struct http_loop;

#define HTTP_LOOP_FILES 2 // descriptors that a loop opens besides its connections

int http_loop_start(struct http_shared *shared, struct http_loop **ret_loop, struct error *error) MUST_CHECK;

// Ends the thread after all pending requests are completed. The caller calls this once, after setting shared.stopping.
// NULL is allowed.
void http_loop_stop(struct http_loop *loop);

// Closes all connections and frees the loop. Requires a previous http_loop_stop. NULL is allowed.
void http_loop_destroy(struct http_loop *loop);

// Any thread may call the functions below.

// Queues an admitted connection, which then belongs to the loop.
void http_loop_add(struct http_loop *loop, struct http_connection *connection);

// Queues a call of http_set_evict_reserve on the loop's thread.
void http_loop_evict_reserve(struct http_loop *loop);

// Wakes the loop if a connection, an eviction or a completed request was queued since the previous call.
void http_loop_wake_if_queued(struct http_loop *loop);

// Makes the loop read the shared limits again, and wakes it.
void http_loop_reconfigure(struct http_loop *loop);

// Wakes the loop, so that it sees that `draining` or `stopping` is set.
void http_loop_wake(struct http_loop *loop);

// The counts include connections that are still queued.
unsigned int http_loop_connection_count(const struct http_loop *loop);
unsigned int http_loop_unverified_count(const struct http_loop *loop); // connections without a verified request
