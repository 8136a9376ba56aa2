// Defines the types that the HTTP server and its caller share: requests, responses, the handler, limits and settings.
// The files that server.c uses include this header instead of http/server.h, so that they do not depend on the server.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/base/arena.h"
#include "imcallbackd/base/buffer.h"

// A response with a JSON body. A 4xx response closes the connection. A 405 response has an Allow header, and a 503
// response has a Retry-After header.
struct http_response;

enum http_response_lifetime {
    HTTP_RESPONSE_ONCE,   // used for one request, which takes ownership
    HTTP_RESPONSE_SHARED, // for many requests on all threads; the creator destroys the response after the server
};

// Copies the body. Returns NULL if memory is exhausted.
struct http_response *http_response_create(unsigned int status, const char *body, size_t length,
                                           enum http_response_lifetime lifetime);
void http_response_destroy(struct http_response *response); // NULL is allowed

// One request. The server creates the request when the request line is complete, and frees it when the request ends,
// after handler.on_end if handler.on_head was called.
struct http_request {
    struct arena arena;         // memory for the handler; the server frees the memory with the request
    const char *query;          // raw bytes after the '?' of the target; "" if there is no '?'
    const char *remote_address; // of the client, numeric, without the port
    struct buffer body;         // complete when the server calls handler.on_body
    int64_t received_at_ms;     // time of the last byte of the body; in handler.on_head, time of the head
    void *context;              // for the handler's use
    bool verified; // handler.on_head sets this if the request is genuine; at a limit, such a request has priority
};

// Hands a pending request back to its loop, which sends the response after http_server_wake. The caller must not use
// the request afterwards. If the response is NULL, which means that memory is exhausted, the loop closes the connection
// without a response. Any thread may call this.
void http_request_complete(struct http_request *request, struct http_response *response);

// Why the server itself refuses a request or a connection.
enum http_refusal {
    HTTP_REFUSE_NONE,
    HTTP_REFUSE_FRAMING,
    HTTP_REFUSE_PATH,
    HTTP_REFUSE_METHOD,
    HTTP_REFUSE_TOO_LARGE,
    HTTP_REFUSE_ENCODED,
    HTTP_REFUSE_OVERLOADED,
    HTTP_REFUSE_PEER, // the client is not in allow_from or its address is unknown; the server closes the connection
                      // without a response, unless it has already read the head of a request from a trusted proxy
    HTTP_REFUSE_TOO_MANY_CONNECTIONS, // at the hard limit or out of memory; the server closes the connection without a
                                      // response
    HTTP_REFUSE_COUNT,
};

struct http_handler {
    // The server calls this when the head of a POST to the configured path is complete, unless the server itself
    // refuses the request. If the function returns NULL, the server reads the body; on a connection beyond a limit,
    // however, the server refuses a request that is not verified. If the function returns a response, the server reads
    // and drops the body before it sends the response, so that the client receives the response. If the client waits
    // for 100 Continue or announces a body of more than 64 MiB, the server sends the response at once.
    struct http_response *(*on_head)(void *context, struct http_request *request);
    // The server calls this when the body is complete and there is no response yet. If the function returns NULL, a
    // thread must call http_request_complete later. The server limits the total size of the bodies in memory, but not
    // the memory that the handler uses in the arenas of pending requests. That memory must be proportional to the size
    // of the bodies.
    struct http_response *(*on_body)(void *context, struct http_request *request);
    // The server calls this last for each request that it passed to on_head, answered or not, on the same thread.
    void (*on_end)(void *context, struct http_request *request);
    // Counts and logs a refusal, and returns the response for it. `detail` is "" or an English sentence. If `detail` is
    // "", the response must be a shared one. The server does not send the response if it closes the connection at once,
    // or if libmicrohttpd has refused the request itself. Any thread may call this.
    struct http_response *(*on_refusal)(void *context, enum http_refusal why, const char *remote_address,
                                        const char *detail);
    void *context;
};

struct http_settings {
    const int *listen_fds;  // bound, listening, non-blocking; the caller closes the sockets after http_server_destroy
    size_t listen_fd_count; // at least 1
    bool listening_is_ours; // no other process has the sockets, so a drain stops them from listening
    const char *path;       // copied
    unsigned int threads;   // number of loops, at least 1
};

// The settings that a reload can change.
struct http_limits {
    size_t body_bytes;
    unsigned int connections;
    unsigned int connections_per_address; // for an IPv4 address or an IPv6 /64
    int64_t idle_timeout_ms;
    int64_t request_timeout_ms;             // separately for the TLS handshake, the head, the body and the response
    const struct address_block *allow_from; // networks whose clients are accepted; copied
    size_t allow_from_count;                // 0: all networks
    const struct address_block *trusted_proxies; // the peers that may name another client; copied
    size_t trusted_proxy_count;
};
