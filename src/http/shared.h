// Declares the state that the acceptor, the loops and the server share: the handler, flags, counters, limits,
// credentials and the number of connections per client network. This file is at the bottom of the module, so that
// nothing below the server needs a pointer to the server.
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/http/credentials.h"
#include "imcallbackd/http/handler.h"
#include "imcallbackd/http/http_metrics.h"

// The limit that a new connection exceeds.
enum http_limit {
    HTTP_LIMIT_NONE,
    HTTP_LIMIT_CONNECTIONS,
    HTTP_LIMIT_PER_ADDRESS,
};

struct http_shared {
    struct http_handler handler;
    char *path; // the only path that is served
    atomic_bool draining;
    atomic_bool stopping;     // the handler gets no new requests
    int64_t drain_idle_at_ms; // monotonic time from which a drain closes idle connections; written before `draining`
    atomic_uint connection_count; // number of connections of all loops
    atomic_size_t body_in_flight; // bytes of request bodies in memory
    struct log_rate_limit failed_handshakes, malformed_proxy_headers;

    pthread_mutex_t lock; // guards the fields below
    struct http_limits limits;
    struct address_block *blocks;         // the copies that limits.allow_from and limits.trusted_proxies point to
    struct http_credentials *credentials; // a reference, for new connections
    void *networks;                       // the client networks with open connections, a tree of tsearch(3)
    pthread_cond_t all_closed;            // signalled when connection_count becomes 0
};

// Returns the hard limit that belongs to a limit. Between the two limits, the server still accepts connections, because
// their first request may be a verified one. On such a reserve connection, the server accepts one verified request and
// no other.
unsigned int http_hard_limit(unsigned int limit);

// Takes a reference to the credentials and copies the rest. Returns -ENOMEM on failure. The caller must call
// http_shared_finish, even after a failure.
int http_shared_init(struct http_shared *shared, const char *path, const struct http_handler *handler,
                     const struct http_limits *limits, struct http_credentials *credentials) MUST_CHECK;
void http_shared_finish(struct http_shared *shared);

// Replaces limits and credentials. Returns -ENOMEM and changes nothing on failure.
int http_shared_reconfigure(struct http_shared *shared, const struct http_limits *limits,
                            struct http_credentials *credentials) MUST_CHECK;

// Copies the limits without allow_from and trusted_proxies, which only the functions below use.
void http_shared_copy_limits(struct http_shared *shared, struct http_limits *ret_limits);

struct http_admission {
    bool is_trusted_proxy;
    enum http_limit exceeded_limit;
    struct http_credentials *credentials; // a new reference; NULL: the connection is refused
};

// Decides whether a connection from this peer may stay. Returns HTTP_REFUSE_NONE, HTTP_REFUSE_PEER or
// HTTP_REFUSE_TOO_MANY_CONNECTIONS. On HTTP_REFUSE_NONE the connection is counted until http_shared_release, also for
// `network`, which is address_client_network(peer). A trusted proxy is admitted regardless of allow_from, and is not
// counted for its network.
enum http_refusal http_shared_admit(struct http_shared *shared, const struct address *peer,
                                    const struct address *network, struct http_admission *ret_admission);

// Decides whether an admitted connection of a trusted proxy may stay, now that the proxy has named the client. On
// HTTP_REFUSE_NONE the connection is counted for `network`, which is address_client_network(client), until
// http_shared_release, and *ret_exceeded is HTTP_LIMIT_NONE or HTTP_LIMIT_PER_ADDRESS. Otherwise returns
// HTTP_REFUSE_PEER or HTTP_REFUSE_TOO_MANY_CONNECTIONS.
enum http_refusal http_shared_admit_client(struct http_shared *shared, const struct address *client,
                                           const struct address *network, enum http_limit *ret_exceeded);

// Returns true if allow_from admits the client. NULL stands for an unknown address, which only an empty allow_from
// admits.
bool http_shared_allows(struct http_shared *shared, const struct address *client);

// Undoes the counts of http_shared_admit and http_shared_admit_client. `network` is NULL if the connection is not
// counted for a network.
void http_shared_release(struct http_shared *shared, const struct address *network);

// Waits until no connection is left, or until the monotonic clock reaches until_ms. Returns the number of connections
// that are left.
unsigned int http_shared_wait_until_empty(struct http_shared *shared, int64_t until_ms);
