// Implements the HTTPS server on top of libmicrohttpd. The server handles connections, requests and responses; the
// handler decides what a request means.

// The server has one acceptor thread and settings.threads event loops, each with its own thread. A connection stays on
// one loop until it is closed, and the server calls on_head, on_body and on_end on that loop's thread. A handler that
// needs time returns NULL from on_body. Later, any thread calls http_request_complete and http_server_wake.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/http/handler.h"

// The metrics of the HTTP server; the list ends with NULL.
extern const struct metric *const http_metrics[];

struct http_server;
struct http_credentials; // certificate chain and private key, see http/credentials.h

// Creates the server without starting it. The server takes its own reference to the credentials. The array
// settings->listen_fds must outlive the server.
int http_server_create(const struct http_settings *settings, const struct http_limits *limits,
                       struct http_credentials *credentials, const struct http_handler *handler,
                       struct http_server **ret_server, struct error *error) MUST_CHECK;

// Changes the limits of all connections and the credentials of new connections while the server runs. Returns 0, or
// -ENOMEM without a change.
int http_server_reconfigure(struct http_server *server, const struct http_limits *limits,
                            struct http_credentials *credentials, struct error *error) MUST_CHECK;

// Starts the threads and accepts connections. After a failure, the caller must call http_server_stop.
int http_server_start(struct http_server *server, struct error *error) MUST_CHECK;

// Wakes each loop for which completed requests or new connections were queued since the previous call. A caller that
// completes several requests in a row calls this once after the last one.
void http_server_wake(struct http_server *server);

// Stops accepting connections. If listening_is_ours, the server first accepts those that the kernel has queued. Answers
// the requests on open connections with Connection: close, and closes idle connections after 1 s. Returns when all
// connections are closed, or after timeout_ms at the latest. Returns the number of connections that are still open.
unsigned int http_server_drain(struct http_server *server, int timeout_ms);

// Refuses new requests, waits until the handler has completed all pending requests, and ends the threads. Requires a
// previous call of http_server_start, which may have failed. Afterwards no request is pending, and http_server_wake has
// no effect.
void http_server_stop(struct http_server *server);

// Closes every connection. Requires a previous http_server_stop unless the server was never started. NULL is allowed.
void http_server_destroy(struct http_server *server);
