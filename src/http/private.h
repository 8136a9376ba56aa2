// What the files of this room share. A connection belongs to one loop and is touched by that loop's thread alone, from
// the moment it is taken out of the inbox.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "connection.h"
#include "framing.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/http/server.h"
#include "peers.h"

#include <microhttpd.h>

struct http_acceptor;
struct http_loop;

enum http_phase {
    HTTP_PHASE_TARGET,  // the request line came
    HTTP_PHASE_BODY,    // the head was accepted, or refused with the body to be dropped
    HTTP_PHASE_PENDING, // suspended: the handler will complete it
    HTTP_PHASE_ANSWERED,
};

// One request and its answer.
struct http_exchange {
    struct http_request request; // first, so that the handler's view leads back here
    struct http_connection *connection;
    enum http_phase phase;
    bool handled;           // handler.on_head saw it, so handler.on_end must
    struct framing framing; // what the head said
    int64_t complete_us;    // when the last byte of the body came; 0: it did not, or nobody was asked about it

    bool closing;          // the answer closes the connection whatever it is
    size_t body_in_flight; // bytes of the server's body_in_flight that this one has
    const char *target;
    struct http_response *answer; // decided, not queued yet
    struct http_exchange *next;   // in the loop's inbox
};

struct http_server {
    struct http_settings settings;
    char *path; // what settings.path points to
    struct http_handler handler;
    struct http_loop **loops; // settings.threads of them
    struct http_acceptor *acceptor;
    atomic_bool draining;
    atomic_bool stopping;     // nothing new is handed to the handler any more
    int64_t drain_idle_at_ms; // from then on idle connections are ended; written before draining is set
    atomic_uint connections;
    atomic_size_t body_in_flight;     // bytes of bodies that are held in memory
    struct log_rate_limit handshakes; // that failed

    pthread_mutex_t lock; // guards what follows
    struct http_limits limits;
    struct address_block *allow_from;  // limits.allow_from, the server's own copy
    struct http_credentials *identity; // a reference, for connections to come
    struct peers *peers;
    pthread_cond_t all_gone; // the last connection of a drain is closed
};

// metrics.c
enum http_handshake { HTTP_HANDSHAKE_FULL, HTTP_HANDSHAKE_RESUMED, HTTP_HANDSHAKE_FAILED };
extern const struct metric http_connections_open, http_requests_waiting, http_handshakes, http_answer_seconds;

// loop.c: one thread with its own MHD daemon.
#define HTTP_LOOP_FILES 3 // that a loop has open besides its connections
int http_loop_start(struct http_server *server, struct http_loop **ret_loop, struct error *error) MUST_CHECK;
void http_loop_add(struct http_loop *loop, struct http_connection *connection); // any thread; takes the connection over
void http_loop_complete(struct http_loop *loop, struct http_exchange *exchange); // any thread
void http_loop_wake(struct http_loop *loop);        // any thread; only when something was added or completed since
void http_loop_tell_crowd(struct http_loop *loop);  // any thread; a wake has to follow
void http_loop_reconfigure(struct http_loop *loop); // any thread: the server's limits have changed
const struct http_limits *http_loop_limits(const struct http_loop *loop); // the loop's thread
// The loop's thread: true once, when libmicrohttpd is about to answer by itself what it would answer twice.
bool http_loop_must_not_send(struct http_connection *connection);
void http_loop_enter(struct http_connection *connection, enum http_stage stage); // the loop's thread
void http_loop_moved(struct http_loop *loop); // the loop's thread: something was received or sent, or has ended
void http_loop_suspend(struct http_loop *loop, struct http_exchange *exchange); // the loop's thread: it is pending now
void http_loop_nudge(struct http_loop *loop);                                   // any thread; always
unsigned int http_loop_connections(const struct http_loop *loop);               // any thread
unsigned int http_loop_unproven(const struct http_loop *loop);                  // any thread
void http_loop_prove(struct http_connection *connection); // the loop's thread: a verified call came on it
void http_loop_stop(struct http_loop *loop);              // ends the thread once nothing is pending
void http_loop_destroy(struct http_loop *loop);

// server.c
void http_connection_free(struct http_connection *connection); // also closes the books on it; not the descriptor

// acceptor.c: the thread that accepts and deals connections out to the loops.
// Beyond a limit a few more are let in, because the next call may be a verified one; they are answered 503 otherwise.
unsigned int http_with_spare(unsigned int limit);
int http_acceptor_start(struct http_server *server, struct http_acceptor **ret_acceptor,
                        struct error *error) MUST_CHECK;
void http_acceptor_stop(struct http_acceptor *acceptor);

// request.c: MHD's callbacks for requests.
bool http_library_is_old(void); // before 1.0, with faults in how it reads heads
void *http_request_on_target(void *server, const char *target, struct MHD_Connection *mhd);
enum MHD_Result http_request_on_data(void *server, struct MHD_Connection *mhd, const char *url, const char *method,
                                     const char *version, const char *data, size_t *length, void **exchange);
void http_request_on_over(void *server, struct MHD_Connection *mhd, void **exchange,
                          enum MHD_RequestTerminationCode how);
// Ends the connection's request, if there is one. When a connection closes, too: libmicrohttpd 0.9.75 does not tell of
// the end of a request that it could not read.
void http_request_end(struct http_connection *connection);
// Tells log and metrics of an answer that is MHD's own. False when there is none.
bool http_request_tell_library_answer(struct http_connection *connection);
// Of a connection that ends without our answer: why, in log and metrics. Once for a connection.
void http_request_tell_fault(struct http_connection *connection, const char *fault);

// standstill.c: MHD wants another turn, and in the one before nothing came from the sockets and nothing went. True when
// it took nothing from GnuTLS either. Who has more to say all the same is never heard again by MHD, and is ended.
bool http_connections_stand_still(struct http_connections *connections);

static inline struct http_connection *http_connection_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}
