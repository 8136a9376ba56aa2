// Runs a second process that works on the test's database. The connections of one process share SQLite's locks and its
// mapping of the log's index, so a test of the interaction of two processes needs two processes. Start the peer before
// the store; otherwise the peer inherits the store's lock without the store's thread.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include "store_fixture.h"

struct peer {
    pid_t process;
    int fd;
};

typedef void peer_handler(struct fixture *fixture, const char *message);

// Starts a process that calls the handler with each message that peer_send() sends. The caller ends the process with
// peer_stop().
static inline struct peer peer_start(struct fixture *fixture, peer_handler *handle)
{
    struct peer peer;
    char message[256];
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    peer.process = start_child();
    if (peer.process == 0) {
        close(ends[0]);
        while (recv(ends[1], message, sizeof message, 0) > 0) {
            handle(fixture, message);
            if (send(ends[1], "", 1, MSG_NOSIGNAL) != 1)
                break;
        }
        _exit(0);
    }
    close(ends[1]);
    peer.fd = ends[0];
    return peer;
}

static inline void peer_send(const struct peer *peer, const char *message)
{
    assert_int_equal(send(peer->fd, message, strlen(message) + 1, 0), (ssize_t)strlen(message) + 1);
}

// Waits until the handler has returned from the oldest message for which no call has waited yet.
static inline void peer_await(const struct peer *peer)
{
    char done;

    assert_int_equal(recv(peer->fd, &done, 1, 0), 1);
}

static inline void peer_call(const struct peer *peer, const char *message)
{
    peer_send(peer, message);
    peer_await(peer);
}

static inline void peer_stop(const struct peer *peer)
{
    (void)shutdown(peer->fd, SHUT_RDWR); // reaches the copies of the descriptor that other processes inherited, too
    close(peer->fd);
    assert_int_equal(child_status(peer->process), 0);
}

// Ends the peer with status 1 if the condition is false, which makes peer_stop() fail. Only handlers may call this.
static inline void peer_check(bool condition, const char *what)
{
    if (condition)
        return;
    (void)fprintf(stderr, "peer process: %s\n", what);
    _exit(1);
}

// This handler executes each message as SQL, on one connection that the first message opens.
static inline void peer_executes_sql(struct fixture *fixture, const char *sql)
{
    static sqlite3 *connection;

    peer_check(connection || sqlite3_open(fixture->database, &connection) == SQLITE_OK, "cannot open the database");
    (void)sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    (void)sqlite3_wal_autocheckpoint(connection, 0);
    peer_check(sqlite3_exec(connection, sql, NULL, NULL, NULL) == SQLITE_OK, sqlite3_errmsg(connection));
}
