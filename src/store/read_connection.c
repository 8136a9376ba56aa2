// Opens the database and starts read transactions. While the daemon starts, SQLite can return temporary errors, so the
// start of a transaction is retried for up to 5 s.
#include "read_connection.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "database.h"
#include "imcallbackd/base/clock.h"
#include "schema.h"
#include "sqlite_error.h"

#define BEGIN_TIMEOUT_MS 5000
#define RETRY_DELAY_MS   10

static int check_file(const struct read_connection *connection, struct error *error)
{
    struct stat status;

    if (stat(connection->path, &status) < 0)
        return error_set(error, errno, "%s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(error, EINVAL, "not a regular file; set another path");
    if (faccessat(AT_FDCWD, connection->path, R_OK, AT_EACCESS) < 0)
        return error_set(error, errno, "cannot be read: %s; become a member of the group that owns the file",
                         strerror(errno));
    return 0;
}

int read_connection_open(struct read_connection *connection, const char *path, struct error *error)
{
    int r = 0;

    *connection = (struct read_connection){.path = realpath(path, NULL)};
    if (!connection->path)
        r = error_set(error, errno, "%s%s", strerror(errno),
                      errno == ENOENT   ? "; the daemon creates the database at its first start"
                      : errno == EACCES ? "; become a member of the group that owns the file"
                                        : "");
    if (r == 0)
        r = check_file(connection, error);
    if (r == 0)
        r = side_file_check(connection->path, SIDE_FILE_JOURNAL, error);
    if (r == 0) {
        // Record the files before SQLite opens them, so that a later check detects a replacement in between.
        database_files_record(&connection->files, connection->path);
        r = database_open_readonly(connection->path, connection->files.inodes[2] ? "readonly_shm=1" : "",
                                   &connection->sqlite, error);
    }
    if (r < 0) {
        error_wrap(error, "%s", path);
        read_connection_close(connection);
    }
    return r;
}

// Returns whether SQLite can return this code temporarily while the daemon starts: while the daemon recovers the log,
// or before it has created the log and its index.
static bool is_temporary(int code)
{
    int primary = code & 0xff;

    return primary == SQLITE_BUSY || primary == SQLITE_CANTOPEN || primary == SQLITE_PROTOCOL ||
           code == SQLITE_READONLY_RECOVERY || code == SQLITE_READONLY_CANTINIT || code == SQLITE_READONLY_CANTLOCK;
}

static int try_begin(struct read_connection *connection, struct error *error)
{
    int version, r;

    if (sqlite3_exec(connection->sqlite, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        return sqlite_error(connection->sqlite, error);
    // BEGIN does not read. The first read determines which state of the database the transaction sees.
    r = schema_inspect(connection->sqlite, &version, error);
    if (r == 0 && version == 0)
        r = error_set(error, ENODATA, "the database is empty; the daemon creates the tables at its first start");
    return r;
}

int read_connection_begin(struct read_connection *connection, struct error *error)
{
    int64_t deadline_ms = clock_monotonic_ms() + BEGIN_TIMEOUT_MS;

    for (;;) {
        int r = try_begin(connection, error), code = sqlite3_extended_errcode(connection->sqlite);

        if (r == 0)
            return 0;
        read_connection_end(connection);
        if (!is_temporary(code) || clock_monotonic_ms() >= deadline_ms) {
            error_wrap(error, "%s", connection->path);
            return r;
        }
        (void)poll(NULL, 0, RETRY_DELAY_MS);
    }
}

void read_connection_end(struct read_connection *connection)
{
    if (!sqlite3_get_autocommit(connection->sqlite))
        (void)sqlite3_exec(connection->sqlite, "ROLLBACK", NULL, NULL, NULL);
}

int read_connection_failed(struct read_connection *connection, struct error *error)
{
    int r = sqlite_error(connection->sqlite, error);

    error_wrap(error, "%s", connection->path);
    return r;
}

void read_connection_close(struct read_connection *connection)
{
    int code = sqlite3_close(connection->sqlite);

    assert(code == SQLITE_OK); // all statements were finalized
    free(connection->path);
    *connection = (struct read_connection){0};
}
