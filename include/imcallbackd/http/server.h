// The HTTPS server around libmicrohttpd. It knows requests and answers, not what they mean: that is the handler's.
//
// Threads: one acceptor and `threads` loops. A connection stays on its loop for life; the handler is called on that
// loop. A handler that needs time returns NULL and later, on any thread, calls http_request_complete and
// http_server_wake.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/base/arena.h"
#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"

// The metrics of the HTTP server; the list ends with NULL.
extern const struct metric *const http_metrics[];

struct http_server;
struct http_credentials; // certificate chain and private key, see http/credentials.h

// One answer. 4xx answers close the connection; 405 carries Allow, 503 carries Retry-After.
struct http_response;

enum http_response_lifetime {
    HTTP_RESPONSE_ONCE,   // for one request, which takes it over
    HTTP_RESPONSE_SHARED, // for any number of requests on any thread; the creator destroys it after the server
};

// Copies the body. NULL when there is no memory.
struct http_response *http_response_create(unsigned int status, const char *body, size_t length,
                                           enum http_response_lifetime use);
void http_response_destroy(struct http_response *answer);

// One request, owned by the server from the first byte of its request line until it was answered or its connection
// died.
struct http_request {
    struct arena arena;         // the handler may take from it; given back with the request
    const char *query;          // raw bytes behind '?' of the target; "" without
    const char *remote_address; // numeric, without port
    struct buffer body;         // complete when handler.on_body is called
    int64_t received_at_ms;     // when the last byte of the body came (when the head came, in handler.on_head)
    void *context;              // the handler's own
    bool verified;              // set by handler.on_head: the call is proven genuine, so it is refused last
};

// What the server refuses by itself.
enum http_refusal {
    HTTP_REFUSE_NONE,
    HTTP_REFUSE_FRAMING,
    HTTP_REFUSE_PATH,
    HTTP_REFUSE_METHOD,
    HTTP_REFUSE_TOO_LARGE,
    HTTP_REFUSE_ENCODED,
    HTTP_REFUSE_OVERLOADED,
    HTTP_REFUSE_PEER,                 // closed at once, without an answer: not in allow_from
    HTTP_REFUSE_TOO_MANY_CONNECTIONS, // closed at once, without an answer: far more connections than the limit
    HTTP_REFUSE_COUNT,
};

struct http_handler {
    // The head is there and is a POST to our path. NULL: go on and read the body. An answer: the body is read and
    // dropped before it is sent, so that the caller gets to see it; at once if the caller waits for 100 Continue.
    struct http_response *(*on_head)(void *context, struct http_request *request);
    // The body is there. NULL: http_request_complete will follow. Bodies in memory are limited in all, but not what the
    // handler leaves in the arenas of requests that wait, so that has to be of the order of the body.
    struct http_response *(*on_body)(void *context, struct http_request *request);
    // The request is over, answered or not, on its loop's thread. The last call for it.
    void (*on_end)(void *context, struct http_request *request);
    // What the server refuses by itself, and what it answers; detail is "" or an English sentence. Without a detail the
    // answer is a shared one, and not sent where connections are closed at once. Also tells of what libmicrohttpd
    // refused; then the answer is not sent. May be called on any thread.
    struct http_response *(*on_refusal)(void *context, enum http_refusal why, const char *remote_address,
                                        const char *detail);
    void *context;
};

struct http_settings {
    const int *listen_fds; // bound, listening, non-blocking; stay the caller's to close, after http_server_destroy
    size_t listen_fd_count;
    bool listening_is_ours; // nobody takes over the sockets after us, so a drain stops them from listening
    const char *path;       // copied
    unsigned int threads;
};

// What a reload can change.
struct http_limits {
    size_t body_bytes;
    unsigned int connections;
    unsigned int connections_per_address; // of an IPv4 address or an IPv6 /64
    int64_t idle_timeout_ms;
    int64_t request_timeout_ms;             // for TLS handshake, head, body and answer, each from its beginning
    const struct address_block *allow_from; // whose connections are taken; copied
    size_t allow_from_count;                // 0: anyone's
};

// Does nothing yet. The server keeps a reference of its own to the identity.
int http_server_create(const struct http_settings *settings, const struct http_limits *limits,
                       struct http_credentials *identity, const struct http_handler *handler,
                       struct http_server **ret_server, struct error *error) MUST_CHECK;

// Changes limits and identity under way: the limits for all connections, the identity for those to come.
int http_server_reconfigure(struct http_server *server, const struct http_limits *limits,
                            struct http_credentials *identity, struct error *error) MUST_CHECK;

// Starts the threads and begins to accept.
int http_server_start(struct http_server *server, struct error *error) MUST_CHECK;

// Hands a pending request back to its loop, to be answered. The request must not be touched any more. NULL as the
// answer (no memory for one) closes the connection without one.
void http_request_complete(struct http_request *request, struct http_response *answer);

// Wakes each loop that has got completed requests since the last call. Once after a batch.
void http_server_wake(struct http_server *server);

// Stops to accept (when listening_is_ours, takes those first who wait to be accepted) and answers what comes in on
// connections that are open, each with Connection: close, then ends idle ones. Returns when every connection is gone,
// or after timeout_ms at the latest; how many were still open then.
unsigned int http_server_drain(struct http_server *server, int timeout_ms);

// Ends the threads, once the handler has completed what is pending with it; refuses what else comes meanwhile. After a
// start, even one that failed. From then on requests can still be completed and the server woken, to no effect.
void http_server_stop(struct http_server *server);

// Closes every connection. After a stop, or without a start. NULL is allowed.
void http_server_destroy(struct http_server *server);
