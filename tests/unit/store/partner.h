// A process beside the test's that has to do with the same database. SQLite shares its locks and the index of the log
// within a process, so what happens between two needs two. To be started before the store, whose lock and thread it
// would inherit.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "fixture.h"

struct partner {
    pid_t process;
    int fd;
};

typedef void partner_act(struct fixture *fixture, const char *message);

// Does act() with each message. What fails there is told and ends it with status 1.
static inline struct partner partner_start(struct fixture *fixture, partner_act *act)
{
    struct partner partner;
    char message[256];
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    (void)fflush(NULL);
    partner.process = fork();
    assert_true(partner.process >= 0);
    if (partner.process == 0) {
        close(ends[0]);
        while (recv(ends[1], message, sizeof message, 0) > 0) {
            act(fixture, message);
            if (send(ends[1], "", 1, MSG_NOSIGNAL) != 1)
                break;
        }
        _exit(0);
    }
    close(ends[1]);
    partner.fd = ends[0];
    return partner;
}

static inline void partner_send(const struct partner *partner, const char *message)
{
    assert_int_equal(send(partner->fd, message, strlen(message) + 1, 0), (ssize_t)strlen(message) + 1);
}

static inline void partner_await(const struct partner *partner)
{
    char done;

    assert_int_equal(recv(partner->fd, &done, 1, 0), 1);
}

static inline void partner_tell(const struct partner *partner, const char *message)
{
    partner_send(partner, message);
    partner_await(partner);
}

static inline void partner_stop(const struct partner *partner)
{
    int status;

    (void)shutdown(partner->fd, SHUT_RDWR); // also of the copies that other processes have inherited
    close(partner->fd);
    assert_int_equal(waitpid(partner->process, &status, 0), partner->process);
    assert_int_equal(status, 0);
}

static inline void partner_check(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "the partner: %s\n", what);
    _exit(1);
}

// To act so: the message is SQL, for a connection that stays open from the first one on.
static inline void partner_runs_sql(struct fixture *fixture, const char *sql)
{
    static sqlite3 *connection;

    partner_check(connection || sqlite3_open(fixture->database, &connection) == SQLITE_OK, "cannot open the database");
    (void)sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    (void)sqlite3_wal_autocheckpoint(connection, 0);
    partner_check(sqlite3_exec(connection, sql, NULL, NULL, NULL) == SQLITE_OK, sqlite3_errmsg(connection));
}
