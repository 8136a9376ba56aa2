#include "imcallbackd/store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "database.h"
#include "observer.h"
#include "sqlite_error.h"
#include "watch.h"

#define TARGET_MODE 0640

// 4 MiB. After each step the copy is written out: what the system has to write later in one go keeps the daemon's syncs
// waiting.
#define STEP_PAGES 1024

// What a copy on the database's own disk leaves for what is recorded meanwhile; the log cannot be cut until it is done.
#define RESERVE_BYTES (UINT64_C(64) << 20)

static const char size_sql[] = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";

// What must be the same in the copy.
static const char census_sql[] = "SELECT format('%d groups up to id %d, %d rejected callbacks up to id %d',"
                                 " (SELECT count(*) FROM destroyed_group), (SELECT max(id) FROM destroyed_group),"
                                 " (SELECT count(*) FROM rejected_callback), (SELECT max(id) FROM rejected_callback))";

#define CENSUS_BYTES 160

struct backup {
    const char *target;
    const struct backup_callbacks *callbacks;
    struct observer observer;
    uint64_t bytes, bytes_done; // of the database
    char census[CENSUS_BYTES];
    char *partial; // the copy's name until it is complete
    int fd;        // of the copy
    sqlite3 *copy;
};

static int fail(const char *path, struct error *error)
{
    return error_set(error, errno, "%s: %s", path, strerror(errno));
}

static int fail_copy(struct backup *backup, struct error *error)
{
    int r = sqlite_error(backup->copy, error);

    error_wrap(error, "%s", backup->target);
    return r;
}

static int take_census(sqlite3 *connection, char ret_census[CENSUS_BYTES])
{
    sqlite3_stmt *statement;
    int code = sqlite3_prepare_v2(connection, census_sql, -1, &statement, NULL);

    if (code != SQLITE_OK)
        return code;
    if (sqlite3_step(statement) == SQLITE_ROW)
        (void)snprintf(ret_census, CENSUS_BYTES, "%s", sqlite3_column_text(statement, 0));
    return sqlite3_finalize(statement);
}

static bool go_on(void *context)
{
    const struct backup *backup = context;

    return backup->callbacks->go_on(backup->callbacks->context, backup->bytes_done, backup->bytes);
}

static int fail_given_up(const struct backup *backup, struct error *error)
{
    return error_set(error, ECANCELED, "%s: given up", backup->target);
}

// What takes long with the connection, unless it is given up meanwhile.
static int run_watched(struct backup *backup, sqlite3 *connection,
                       int (*work)(struct backup *backup, struct error *error), struct error *error)
{
    struct watch watch;
    int r = watch_begin(&watch, connection, go_on, backup, error);

    if (r < 0) {
        error_wrap(error, "%s", backup->target);
        return r;
    }
    r = work(backup, error);
    return watch_end(&watch) ? r : fail_given_up(backup, error);
}

static int measure_source(struct backup *backup, struct error *error)
{
    sqlite3_stmt *statement;
    int code = sqlite3_prepare_v2(backup->observer.connection, size_sql, -1, &statement, NULL);

    if (code == SQLITE_OK) {
        if (sqlite3_step(statement) == SQLITE_ROW)
            backup->bytes = (uint64_t)sqlite3_column_int64(statement, 0);
        code = sqlite3_finalize(statement);
    }
    return code == SQLITE_OK ? 0 : observer_failed(&backup->observer, error);
}

static int count_source(struct backup *backup, struct error *error)
{
    int code = take_census(backup->observer.connection, backup->census);

    return code == SQLITE_OK ? 0 : observer_failed(&backup->observer, error);
}

// A disk that the copy fills up would keep the daemon from recording, too.
static int check_room(const struct backup *backup, struct error *error)
{
    const char *database = sqlite3_db_filename(backup->observer.connection, "main");
    uint64_t room, needed = backup->bytes;
    struct stat source, copy;
    struct statvfs system;

    if (fstatvfs(backup->fd, &system) < 0 || fstat(backup->fd, &copy) < 0)
        return fail(backup->target, error);
    if (stat(database, &source) < 0)
        return fail(database, error);
    if (source.st_dev == copy.st_dev)
        needed += RESERVE_BYTES;
    room = (uint64_t)system.f_bavail * system.f_frsize;
    if (room >= needed)
        return 0;
    return error_set(error, ENOSPC,
                     "%s: %" PRIu64 " MiB are needed and %" PRIu64 " MiB are free; make room, or name another disk",
                     backup->target, (needed >> 20) + 1, room >> 20);
}

static int create_partial(struct backup *backup, struct error *error)
{
    struct stat status;

    if (lstat(backup->target, &status) == 0)
        return error_set(error, EEXIST, "%s: it is there already; move it away or name another", backup->target);
    // SQLite takes a name that begins with "file:" for a URI.
    if (asprintf(&backup->partial, "%s%s.partial-%d", *backup->target == '/' ? "" : "./", backup->target,
                 (int)getpid()) < 0) {
        backup->partial = NULL;
        return error_set(error, ENOMEM, "%s: out of memory", backup->target);
    }
    backup->fd = open(backup->partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, TARGET_MODE);
    if (backup->fd < 0) {
        int r = fail(backup->partial, error);

        free(backup->partial);
        backup->partial = NULL;
        return r;
    }
    return check_room(backup, error);
}

static void close_copy(struct backup *backup)
{
    sqlite3_close(backup->copy);
    backup->copy = NULL;
}

static int open_copy(struct backup *backup, int flags, struct error *error)
{
    int r = 0;

    // A connection that could not be opened is to be closed, too.
    if (sqlite3_open_v2(backup->partial, &backup->copy, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) !=
        SQLITE_OK) {
        r = fail_copy(backup, error);
        close_copy(backup);
    }
    return r;
}

static int report(struct backup *backup, sqlite3_backup *pages, struct error *error)
{
    uint64_t total = (uint64_t)sqlite3_backup_pagecount(pages), left = (uint64_t)sqlite3_backup_remaining(pages);

    backup->bytes_done = total > 0 ? backup->bytes / total * (total - left) : 0;
    if (fdatasync(backup->fd) < 0)
        return fail(backup->target, error);
    return go_on(backup) ? 0 : fail_given_up(backup, error);
}

// The open transaction of the source keeps its pages as they are, so that the steps go on where they were although the
// daemon writes; without it each of its commits would make them begin anew.
static int copy_pages(struct backup *backup, struct error *error)
{
    sqlite3_backup *pages = sqlite3_backup_init(backup->copy, "main", backup->observer.connection, "main");
    int code, r = 0;

    if (!pages)
        return fail_copy(backup, error);
    do {
        code = sqlite3_backup_step(pages, STEP_PAGES);
        if (code == SQLITE_OK || code == SQLITE_DONE)
            r = report(backup, pages, error);
    } while (code == SQLITE_OK && r == 0);
    if (sqlite3_backup_finish(pages) != SQLITE_OK && r == 0)
        r = fail_copy(backup, error);
    return r;
}

static int copy_database(struct backup *backup, struct error *error)
{
    int r = open_copy(backup, SQLITE_OPEN_READWRITE, error);

    if (r < 0)
        return r;
    // Until it has its name nobody reads it, and before that it is synced as a whole.
    if (sqlite3_exec(backup->copy, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL, NULL) !=
        SQLITE_OK)
        r = fail_copy(backup, error);
    if (r == 0)
        r = copy_pages(backup, error);
    close_copy(backup);
    // Bytes 18 and 19 of the file say whether it is in WAL mode (2) or not (1). A copy is read where side files cannot
    // be made, too; the daemon switches it over when it is put in the database's place.
    if (r == 0 && pwrite(backup->fd, "\1\1", 2, 18) != 2)
        r = fail(backup->target, error);
    return r;
}

static int check_content(struct backup *backup, struct error *error)
{
    sqlite3_stmt *statement = NULL;
    char census[CENSUS_BYTES] = "";
    int r = 0;

    if (take_census(backup->copy, census) != SQLITE_OK ||
        sqlite3_prepare_v2(backup->copy, "PRAGMA integrity_check(1)", -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        r = fail_copy(backup, error);
    else if (strcmp((const char *)sqlite3_column_text(statement, 0), "ok") != 0)
        r = error_set(error, EIO,
                      "%s: the copy is damaged, and so the database may be; PRAGMA integrity_check in the sqlite3 "
                      "shell tells where",
                      backup->target);
    else if (strcmp(census, backup->census) != 0)
        r = error_set(error, EIO, "%s: the copy has %s instead of %s", backup->target, census, backup->census);
    (void)sqlite3_finalize(statement);
    return r;
}

static int check_copy(struct backup *backup, struct error *error)
{
    int r = open_copy(backup, SQLITE_OPEN_READONLY, error);

    if (r < 0)
        return r;
    r = run_watched(backup, backup->copy, check_content, error);
    close_copy(backup);
    return r;
}

static int sync_directory(const char *path, struct error *error)
{
    char *copy = strdup(path);
    int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, r = 0;

    if (fd < 0 || fsync(fd) < 0)
        r = fail(path, error);
    if (fd >= 0)
        close(fd);
    free(copy);
    return r;
}

// Gives the copy its name, unless something got that name meanwhile. Not all file systems can rename like this.
static int name_copy(struct backup *backup, struct error *error)
{
    const char *from = backup->partial, *to = backup->target;
    int r;

    if (fsync(backup->fd) < 0)
        return fail(to, error);
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0) {
        if (errno != EINVAL || link(from, to) < 0)
            return fail(to, error);
        (void)unlink(from);
    }
    free(backup->partial);
    backup->partial = NULL;
    r = sync_directory(to, error);
    if (r < 0)
        (void)unlink(to); // it may not be there after a loss of power, so nobody must rely on it
    return r;
}

static int make(struct backup *backup, struct error *error)
{
    struct observer *observer = &backup->observer;
    int r = observer_begin(observer, error);

    if (r == 0)
        r = measure_source(backup, error);
    if (r == 0)
        r = run_watched(backup, observer->connection, count_source, error);
    if (r == 0)
        r = create_partial(backup, error);
    if (r == 0)
        r = copy_database(backup, error);
    observer_end(observer);
    if (r == 0)
        r = check_copy(backup, error);
    if (r == 0)
        r = name_copy(backup, error);
    return r;
}

int backup_make(const char *database, const char *target, const struct backup_callbacks *callbacks, struct error *error)
{
    struct backup backup = {.target = target, .callbacks = callbacks, .fd = -1};
    int r = observer_open(&backup.observer, database, error);

    if (r < 0)
        return r;
    r = make(&backup, error);
    if (backup.partial)
        (void)unlink(backup.partial);
    free(backup.partial);
    if (backup.fd >= 0)
        close(backup.fd);
    observer_close(&backup.observer);
    return r;
}
