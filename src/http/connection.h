// Connections and the deadlines of their stages. A loop has one `struct http_connections`; all of it belongs to the
// loop's thread, except for making and freeing a connection.
//
//   accept ─► HANDSHAKE ─► IDLE ─► HEAD ─► BODY ─► HELD ─► ANSWER ─► IDLE …
//
// HANDSHAKE, HEAD, BODY and ANSWER each end `request_timeout` after they began, however much drips in meanwhile; IDLE
// ends after `idle_timeout`; HELD (with the handler) has no end of its own.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/http/server.h"

struct http_loop;
struct http_exchange;
struct MHD_Connection;

enum http_stage {
    HTTP_STAGE_HANDSHAKE,
    HTTP_STAGE_IDLE,
    HTTP_STAGE_HEAD,
    HTTP_STAGE_BODY,
    HTTP_STAGE_HELD,
    HTTP_STAGE_ANSWER,
};

enum http_limit {
    HTTP_LIMIT_NONE,
    HTTP_LIMIT_CONNECTIONS,
    HTTP_LIMIT_PER_ADDRESS,
};

// Where in its records what comes over TLS is.
struct http_records {
    unsigned char header[5];
    size_t header_length;
    size_t payload_left;
};

struct http_connection {
    struct http_server *server;
    struct http_loop *loop;
    struct http_credentials *identity; // a reference
    struct MHD_Connection *mhd;        // NULL before it begins
    int fd;
    struct sockaddr_storage socket_address;
    socklen_t socket_address_length;
    struct address address;
    char remote_address[ADDRESS_TEXT_BYTES];

    enum http_stage stage;
    int64_t since_ms;               // when the stage began
    struct http_exchange *exchange; // of the request under way; the loop's own
    enum http_limit limit_reached;  // when it came, and nobody could be shed: only verified calls are taken on it
    struct http_records records;
    size_t handshake_bytes; // that came before the handshake was done
    bool greeted;           // a byte came on it
    bool proven;            // a verified call came on it
    bool body_follows;      // what is sent next is the head of an answer
    bool ending;            // was shut down; MHD will see it
    bool reading_ended;     // for good; what is read already is still answered
    size_t untaken;         // bytes that GnuTLS had for MHD when it was last looked
    bool unheard;           // it had more to say when it was last looked at, and nothing has come since
    bool fault_told;        // in the log; the connection ends for it
    struct http_connection *previous, *next; // in its list; in the inbox of a loop, next alone
};

// A request that is in the kernel's buffer already is still read and answered before MHD sees the end.
void http_connection_end_reading(struct http_connection *connection);

// For an idle connection, the same; else at once.
void http_connection_end(struct http_connection *connection);

struct http_connection_list {
    struct http_connection *first, *last;
};

// Each list is in the order of since_ms, because a connection that enters a stage goes to the end.
struct http_connections {
    struct http_connection_list timed; // stages that end after request_timeout
    struct http_connection_list idle;
    struct http_connection_list held;
};

void http_connections_add(struct http_connections *connections, struct http_connection *connection, int64_t now_ms);
void http_connections_remove(struct http_connections *connections, struct http_connection *connection);
void http_connections_enter(struct http_connections *connections, struct http_connection *connection,
                            enum http_stage stage, int64_t now_ms);

// Ends what is over time; whose bytes wait unread after a pause of the whole process has his time anew. Returns how
// long until the next one is, in ms; -1 when there is none.
int64_t http_connections_sweep(struct http_connections *connections, const struct http_limits *limits, int64_t now_ms);

// Ends the connection of this loop that has proven least and idled longest, to make room for another; of one caller's
// when `caller` is given. False when each is in the middle of something that may still come to a callback.
bool http_connections_shed(struct http_connections *connections, const struct address *caller, int64_t now_ms);

// Among those that were let in beyond a limit: ends all that have not come to a verified call in good time.
void http_connections_shed_beyond_limit(struct http_connections *connections, int64_t now_ms);

// Ends all that are between two requests, or before the first.
void http_connections_end_idle(struct http_connections *connections);
