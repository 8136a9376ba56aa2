#include "observer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "database.h"
#include "imcallbackd/base/clock.h"
#include "schema.h"
#include "side_file.h"
#include "sqlite_error.h"

#define PATIENCE_MS 5000
#define PAUSE_MS    10

static const char *const suffixes[OBSERVER_FILES] = {"", SIDE_FILE_LOG, SIDE_FILE_INDEX};

static int check_file(struct observer *observer, struct error *error)
{
    struct stat status;

    for (size_t i = 0; i < OBSERVER_FILES; i++) {
        bool there = side_file_status(observer->path, suffixes[i], &status);

        observer->inodes[i] = there ? status.st_ino : 0;
        if (i > 0)
            continue;
        if (!there)
            return error_set(error, errno, "%s", strerror(errno));
        if (!S_ISREG(status.st_mode))
            return error_set(error, EINVAL, "this is not a file; set another path");
        if (faccessat(AT_FDCWD, observer->path, R_OK, AT_EACCESS) < 0)
            return error_set(error, errno, "it cannot be read: %s; become a member of the group that it belongs to",
                             strerror(errno));
        observer->device = status.st_dev;
    }
    return 0;
}

int observer_open(struct observer *observer, const char *path, struct error *error)
{
    int r = 0;

    *observer = (struct observer){.path = realpath(path, NULL)};
    if (!observer->path)
        r = error_set(error, errno, "%s%s", strerror(errno),
                      errno == ENOENT   ? "; the daemon makes it at its first start"
                      : errno == EACCES ? "; become a member of the group that it belongs to"
                                        : "");
    if (r == 0)
        r = check_file(observer, error);
    if (r == 0)
        r = database_open_readonly(observer->path, observer->inodes[2] ? "readonly_shm=1" : "", &observer->connection,
                                   error);
    if (r < 0) {
        error_wrap(error, "%s", path);
        observer_close(observer);
    }
    return r;
}

// What SQLite says while the daemon starts: it recovers the log, makes its index, or has just opened the file.
static bool may_pass(int code)
{
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_CANTOPEN:
    case SQLITE_PROTOCOL:
        return true;
    default:
        return code == SQLITE_READONLY_RECOVERY || code == SQLITE_READONLY_CANTINIT || code == SQLITE_READONLY_CANTLOCK;
    }
}

static int try_begin(struct observer *observer, struct error *error)
{
    int version, r;

    if (sqlite3_exec(observer->connection, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
        return sqlite_error(observer->connection, error);
    // The first look is what fixes the state that is seen.
    r = schema_inspect(observer->connection, &version, error);
    if (r == 0 && version == 0)
        r = error_set(error, ENODATA, "it is empty; the daemon fills it at its first start");
    return r;
}

int observer_begin(struct observer *observer, struct error *error)
{
    int64_t give_up_at_ms = clock_monotonic_ms() + PATIENCE_MS;

    for (;;) {
        int r = try_begin(observer, error), code = sqlite3_extended_errcode(observer->connection);

        if (r == 0)
            return 0;
        observer_end(observer);
        if (!may_pass(code) || clock_monotonic_ms() >= give_up_at_ms) {
            error_wrap(error, "%s", observer->path);
            return r;
        }
        (void)poll(NULL, 0, PAUSE_MS);
    }
}

void observer_end(struct observer *observer)
{
    if (!sqlite3_get_autocommit(observer->connection))
        (void)sqlite3_exec(observer->connection, "ROLLBACK", NULL, NULL, NULL);
}

int observer_failed(struct observer *observer, struct error *error)
{
    int r = sqlite_error(observer->connection, error);

    error_wrap(error, "%s", observer->path);
    return r;
}

enum observer_place observer_place(const struct observer *observer)
{
    enum observer_place place = OBSERVER_IN_PLACE;
    struct stat status;

    for (size_t i = 0; i < OBSERVER_FILES; i++) {
        bool there = side_file_status(observer->path, suffixes[i], &status);

        if (i == 0 && (!there || status.st_dev != observer->device || status.st_ino != observer->inodes[i]))
            return OBSERVER_REPLACED;
        if (i > 0 && (there ? status.st_ino : 0) != observer->inodes[i])
            place = OBSERVER_SIDE_FILE_CHANGED;
    }
    return place;
}

void observer_close(struct observer *observer)
{
    sqlite3_close(observer->connection);
    free(observer->path);
    *observer = (struct observer){0};
}
