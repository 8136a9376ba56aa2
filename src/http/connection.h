// Declares connections, the stages they go through and the deadlines of these stages. Each loop has one
// http_connection_set.

//   accept ─► HANDSHAKE ─► IDLE ─► HEAD ─► BODY ─► HELD ─► ANSWER ─► IDLE …
//
// A response that does not wait for the handler skips HELD. A request that is aborted leads to IDLE from any stage.
//
// HANDSHAKE, HEAD, BODY and ANSWER must each end within request_timeout_ms, no matter how many bytes arrive. IDLE ends
// after idle_timeout_ms. HELD, while the handler has the request, has no deadline. A set and its connections belong to
// the loop's thread, unless a comment says otherwise.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "imcallbackd/base/address.h"
#include "shared.h"

struct http_connection;
struct http_exchange;
struct MHD_Connection;
struct MHD_Daemon;

enum http_stage {
    HTTP_STAGE_HANDSHAKE,
    HTTP_STAGE_IDLE, // between two requests, or before the first one
    HTTP_STAGE_HEAD,
    HTTP_STAGE_BODY,
    HTTP_STAGE_HELD, // until the handler completes the request
    HTTP_STAGE_ANSWER,
};

// The position within the TLS records that the client sends.
struct http_record_parser {
    unsigned char header[5];
    size_t header_length;
    size_t payload_left;
};

// How the server identifies the client of a connection. All values but the first belong to connections of trusted
// proxies.
enum http_client {
    HTTP_CLIENT_IS_PEER,       // the peer is not a trusted proxy
    HTTP_CLIENT_UNDECIDED,     // no PROXY header was accepted, and no other bytes have arrived
    HTTP_CLIENT_FROM_HEADER,   // the PROXY header named the client
    HTTP_CLIENT_IS_PROXY,      // the PROXY header named no client
    HTTP_CLIENT_FROM_REQUESTS, // no PROXY header: X-Forwarded-For of each request, or else the proxy itself
};

// The socket of a connection, the client behind it, and the state of the TLS session.
struct http_transport {
    int fd;
    struct sockaddr_storage socket_address;
    socklen_t socket_address_length;
    enum http_client client;
    struct address address;                  // of the peer, or of the client that the PROXY header named
    struct address network;                  // of `address`, for the limit connections_per_address
    char remote_address[ADDRESS_TEXT_BYTES]; // `address` as text
    size_t header_bytes;                     // size of an incomplete PROXY header that is still in the kernel's buffer
    struct http_credentials *credentials;    // a reference
    struct http_record_parser records;
    size_t handshake_bytes;  // received before the handshake was complete
    size_t unsent_bytes;     // at most this many bytes wait in the kernel to be sent or acknowledged
    size_t max_unsent_bytes; // while fewer bytes wait, the kernel takes a response at once
    bool has_received;       // at least one byte of TLS was received
    bool is_gathering;       // GnuTLS gathers the response until tls_end_response
    bool is_uncorked;        // TCP_CORK, which libmicrohttpd sets for the first response, was reset
    bool receive_closed; // the server has shut down the receiving side; the next response announces Connection: close
    bool closing;        // shut down by http_connection_close; libmicrohttpd has not noticed yet
    bool pull_disabled;  // the pull function reads nothing, so that GnuTLS sees only what it has received before
};

// State that the detection of stalled connections in mhd_quirks.c keeps between two checks.
struct http_stall {
    size_t undelivered_bytes; // received, and not read by libmicrohttpd: decrypted by GnuTLS, or read ahead
    bool has_unread_input;    // there was input to read, and no byte has arrived since
};

// The adapter suspends the connection of a held request after this time. Until then, the library calls back for the
// request in each iteration of the loop. A suspension costs two calls of epoll_ctl, and at each resumption the library
// walks all suspended connections, so the adapter suspends a connection only if the commit takes unusually long.
#define HELD_POLL_MS 5

struct http_connection_list {
    struct http_connection *first, *last;
};

struct http_deadline {
    enum http_stage stage;
    int64_t since_ms;                        // monotonic time at which the stage started
    struct http_connection_list *list;       // the list of `stage`; NULL: in no list
    struct http_connection *previous, *next; // in `list`; `next` alone links queues of new connections
};

struct http_connection {
    struct http_shared *shared;
    struct http_connection_set *set;
    struct MHD_Connection *mhd; // NULL until libmicrohttpd has started the connection, and once it has closed the
                                // connection and the descriptor while a request was pending
    struct http_transport transport;
    struct http_deadline deadline;
    struct http_exchange *exchange; // the current request; NULL: none
    enum http_limit exceeded_limit; // if set, the server accepts only a verified request, and closes the connection
                                    // after the response
    bool is_verified;               // a verified request arrived
    bool fault_reported;            // the refusal that ends the connection was counted and logged
    bool has_ended_request;         // at least one request has ended
    bool is_closed_by_mhd;          // closed and not yet removed by libmicrohttpd, see mhd_quirk_after_send
    struct http_stall stall;
};

// The state of the workarounds in mhd_quirks.h for one instance of libmicrohttpd.
struct mhd_quirks {
    bool has_length_fault;          // DEBIAN 12, see mhd_quirk_on_log
    bool has_logged;                // the library has logged a message since mhd_quirk_remove_closed last ran
    bool is_recorded;               // stall.undelivered_bytes was recorded after the previous iteration of the loop
    bool has_idle_input;            // an idle connection may have undelivered bytes
    unsigned int closed;            // the number of connections with is_closed_by_mhd
    struct http_connection *reread; // see mhd_quirk_on_key_update; a connection or NULL, only within mhd_adapter_run
};

// Bytes that were received for one connection before GnuTLS has asked for them. GnuTLS asks for the 5 bytes of a
// record's header first and then for its payload, and reading ahead saves the second system call. One buffer is enough
// for a loop, because GnuTLS usually takes all bytes before the loop turns to another connection. While a connection
// has bytes here, the other connections are read without reading ahead. tls.c fills and empties the buffer; the adapter
// drops the bytes of a connection that the library has closed.
struct http_read_ahead {
    struct http_connection *owner; // NULL: no bytes
    size_t start, end;             // of the bytes within `data`
    unsigned char data[(size_t)16 << 10];
};

// The connections of one loop, in lists by the kind of deadline. Each list is sorted by since_ms, because a connection
// that enters a stage goes to the end.
struct http_connection_set {
    struct http_shared *shared;
    struct http_connection_list timed; // connections in HANDSHAKE, HEAD, BODY or ANSWER
    struct http_connection_list idle;
    struct http_connection_list held;
    struct http_limits limits; // the loop's copy
    int64_t now_ms;            // monotonic time, updated before and after the loop sleeps
    bool has_progress;         // this iteration of the loop has received, sent or processed something
    unsigned int pending;      // requests that the handler has to complete
    unsigned int polled;       // those of them whose connection the adapter has not suspended
    unsigned int handshakes;   // handshakes that the current call of MHD_run may still start
    struct http_read_ahead read_ahead;
    struct MHD_Daemon *daemon;        // libmicrohttpd's instance; NULL: not started
    struct http_connection *starting; // the connection that MHD_add_connection starts at the moment; NULL: none
    struct mhd_quirks quirks;
    bool has_owner;  // the loop's thread runs, so no other thread may use the set
    pthread_t owner; // that thread

    // Any thread may read the counters below. The counters include connections that the loop has not added to its lists
    // yet.
    atomic_uint connection_count;
    atomic_uint unverified_count; // connections on which no verified request arrived
};

// Assigns a new connection to the set and counts the connection, before the loop adds it with http_set_add. Any thread
// may call this.
void http_set_expect(struct http_connection_set *set, struct http_connection *connection);

// Adds an expected connection in stage HANDSHAKE.
void http_set_add(struct http_connection_set *set, struct http_connection *connection);

// Removes the connection from its list. The connection stays counted until http_connection_destroy.
void http_set_remove(struct http_connection *connection);

// Closes connections whose stage has timed out. After the whole process was suspended, a connection with unread data
// gets a fresh deadline instead, unless it is in stage ANSWER or already closing. Returns the milliseconds until the
// next deadline, or -1 if there is none.
int64_t http_set_close_expired(struct http_connection_set *set);

// Closes one connection to make room for another. The first choice is an unverified connection in stage HANDSHAKE,
// HEAD, BODY or ANSWER, the second an unverified idle one, and the third a verified idle one. In each group, the
// connection that has been in its stage longest comes first. Connections beyond a limit and connections that are
// already closing do not qualify. Neither do connections that entered their stage less than 2 s ago, unless they are
// unverified and idle. If `network` is not NULL, only connections of that client network qualify. Returns false if no
// connection qualifies.
bool http_set_evict(struct http_connection_set *set, const struct address *network);

// Tries to evict another connection for this one, which is beyond a limit. At the limit per address, the other
// connection must be of the same network. If that succeeds, this connection counts as within the limit.
void http_connection_make_room(struct http_connection *connection);

// Closes all connections beyond a limit on which no verified request has arrived, and which entered their stage at
// least 2 s ago. Connections in stage HELD stay open.
void http_set_evict_reserve(struct http_connection_set *set);

// Closes all connections that are between two requests or before the first request.
void http_set_close_idle(struct http_connection_set *set);

// Returns a connection without a descriptor and without a set, or NULL if memory is exhausted. Any thread may call
// this.
struct http_connection *http_connection_create(struct http_shared *shared);

// Frees the connection, releases its credentials, and undoes the counts of http_shared_admit, http_shared_admit_client
// and http_set_expect. The connection must have left its list and have no request. Does not close the descriptor. NULL
// is allowed.
void http_connection_destroy(struct http_connection *connection);

// Moves the connection to a stage that may follow the current one, and starts the deadline of that stage, if it has
// one.
void http_connection_enter(struct http_connection *connection, enum http_stage stage);

// Records that a verified request arrived, so that the loop evicts unverified connections before this one.
void http_connection_mark_verified(struct http_connection *connection);

// Stops receiving. libmicrohttpd still reads and answers a request that is already in the kernel's buffer.
void http_connection_close_receive(struct http_connection *connection);

// Closes an idle connection like http_connection_close_receive, and any other connection at once.
void http_connection_close(struct http_connection *connection);
