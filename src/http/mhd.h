// Adapts libmicrohttpd to the module: each loop has its own instance of the library. The adapter translates the
// library's callbacks into calls of request.c, and carries out the verdicts. Only admin.c, which has its own instance
// of the library, handles requests without the adapter.
#pragma once

#include "connection.h"
#include "imcallbackd/base/error.h"

// Starts the library for an empty set, and installs the process-wide handler for its fatal errors. Returns -EIO on
// failure. All functions of this file run on the thread that owns the set, or on another thread before that thread
// starts or after it ends.
int mhd_adapter_start(struct http_connection_set *set, struct error *error) MUST_CHECK;

// Stops the library, and closes and frees all connections. Does nothing if the library was not started.
void mhd_adapter_stop(struct http_connection_set *set);

// Returns the epoll descriptor, which becomes readable when the library has something to do.
int mhd_adapter_epoll_fd(const struct http_connection_set *set);

// Returns the milliseconds until the library has to run even if its descriptor is not readable, or -1 if there is no
// timeout.
int64_t mhd_adapter_timeout_ms(const struct http_connection_set *set);

// Runs the library once, or more often after a TLS key update. The library calls the adapter back for everything that
// is ready.
void mhd_adapter_run(struct http_connection_set *set);

// Starts an expected connection. Takes ownership of the connection and its descriptor, even on failure.
void mhd_adapter_add(struct http_connection *connection);

// Takes back a request that the handler has completed. The library calls the adapter back for the response the next
// time it runs. If the library has closed the connection meanwhile, frees the request and the connection.
void mhd_adapter_complete(struct http_exchange *exchange);
