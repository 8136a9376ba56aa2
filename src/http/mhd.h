// The adapter of libmicrohttpd: one instance of the library per loop. The adapter translates the library's callbacks
// into calls of request.c, and carries out the verdicts. No other file has callbacks of the library for requests.
#pragma once

#include "connection.h"
#include "imcallbackd/base/error.h"

struct mhd_adapter;

// Installs the process-wide handler for fatal errors of the library.
void mhd_adapter_set_panic_handler(void);

// The set must outlive the adapter. The functions below run on the thread that owns the set, or before it starts and
// after it has ended.
int mhd_adapter_create(struct http_connection_set *set, struct mhd_adapter **ret_adapter,
                       struct error *error) MUST_CHECK;

// Closes and frees all connections. NULL is allowed.
void mhd_adapter_destroy(struct mhd_adapter *adapter);

// The epoll descriptor that becomes readable when the library has something to do.
int mhd_adapter_epoll_fd(const struct mhd_adapter *adapter);

// Milliseconds until the library has to run even if its descriptor is not readable; INT_MAX at most; -1: no timeout.
int64_t mhd_adapter_timeout_ms(const struct mhd_adapter *adapter);

// Runs the library once: it calls back for everything that is ready.
void mhd_adapter_run(struct mhd_adapter *adapter);

// Sends the responses of connections that were resumed last, before the loop ends.
void mhd_adapter_run_last(struct mhd_adapter *adapter);

// Starts an expected connection. Takes ownership of the connection and its descriptor, even on failure.
void mhd_adapter_add(struct mhd_adapter *adapter, struct http_connection *connection);

// Resumes the connection of a request that the handler has completed.
void mhd_adapter_resume(struct http_exchange *exchange);
