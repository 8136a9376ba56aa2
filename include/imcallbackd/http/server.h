// The HTTPS server on top of libmicrohttpd. The server handles connections, requests and responses; the handler knows
// what a request means.

// Threads: one acceptor and `threads` loops. A connection stays on one loop until it is closed, and the server calls
// the handler on that loop's thread. A handler that needs time returns NULL from on_body. Later, any thread calls
// http_request_complete and http_server_wake.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/http/handler.h"

// The metrics of the HTTP server; the list ends with NULL.
extern const struct metric *const http_metrics[];

struct http_server;
struct http_credentials; // certificate chain and private key, see http/credentials.h

// Creates the server without starting it. The server takes its own reference to the credentials.
int http_server_create(const struct http_settings *settings, const struct http_limits *limits,
                       struct http_credentials *credentials, const struct http_handler *handler,
                       struct http_server **ret_server, struct error *error) MUST_CHECK;

// Changes the limits of all connections and the credentials of new connections while the server runs.
int http_server_reconfigure(struct http_server *server, const struct http_limits *limits,
                            struct http_credentials *credentials, struct error *error) MUST_CHECK;

// Starts the threads and accepts connections.
int http_server_start(struct http_server *server, struct error *error) MUST_CHECK;

// Wakes each loop that has received completed requests since the previous call. The caller calls this once after each
// batch.
void http_server_wake(struct http_server *server);

// Stops accepting connections. If listening_is_ours, the server first accepts those that the kernel has queued. Answers
// the requests on open connections with Connection: close and then closes idle connections. Returns when all
// connections are closed, or after timeout_ms at the latest. Returns the number of connections that are still open.
unsigned int http_server_drain(struct http_server *server, int timeout_ms);

// Refuses new requests, waits until the handler has completed all pending requests, and ends the threads. Requires a
// previous call of http_server_start, which may have failed. Afterwards http_request_complete and http_server_wake have
// no effect.
void http_server_stop(struct http_server *server);

// Closes every connection. Requires a previous http_server_stop unless the server was never started. NULL is allowed.
void http_server_destroy(struct http_server *server);
