// The test sends one character at a time over a socket, and the reader process answers with a bool.
#include "reader_process.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

static bool execute(sqlite3 **connection, const char *database, char sign)
{
    const char *sql = sign == '(' ? "BEGIN; SELECT count(*) FROM destroyed_group" : "ROLLBACK";
    char uri[300];

    (void)snprintf(uri, sizeof uri, "file:%s?readonly_shm=1", database);
    return (*connection ||
            sqlite3_open_v2(uri, connection, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, "unix") == SQLITE_OK) &&
           sqlite3_exec(*connection, sql, NULL, NULL, NULL) == SQLITE_OK;
}

int reader_process_start(const char *database)
{
    sqlite3 *connection = NULL;
    int ends[2];
    pid_t child;
    char sign;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
        abort();
    (void)fflush(NULL);
    child = fork();
    assert(child >= 0);
    if (child > 0) {
        close(ends[1]);
        return ends[0];
    }
    close(ends[0]);
    while (read(ends[1], &sign, 1) == 1) {
        bool done = execute(&connection, database, sign);

        if (write(ends[1], &done, sizeof done) != sizeof done)
            break;
    }
    _exit(0);
}

bool reader_process_send(int fd, char sign)
{
    bool done = false;

    return write(fd, &sign, 1) == 1 && read(fd, &done, sizeof done) == sizeof done && done;
}

void reader_process_stop(int fd)
{
    close(fd);
    (void)wait(NULL);
}
