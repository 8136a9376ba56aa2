// Makes a backup in phases: counts the rows of the source, copies its pages in steps, checks the copy, syncs the copy,
// and renames it.
#include "imcallbackd/store/backup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "binding.h"
#include "read_connection.h"
#include "sqlite_error.h"

#define TARGET_MODE 0640

// The maximum number of pages that one step copies: 4 MiB with pages of 4 KiB. Each step ends with a sync of the copy,
// because a single large writeback by the kernel would delay the syncs of the daemon.
#define STEP_PAGES 1024

// The free space that must remain for the daemon, in addition to the size of the copy, if both are on the same file
// system: until the copy is complete, the daemon's write-ahead log can only grow.
#define RESERVE_BYTES (UINT64_C(64) << 20)

// The number of instructions of SQLite's virtual machine between two progress reports of a long statement.
#define REPORT_INSTRUCTIONS 100000

static const char size_sql[] = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";

// The copy must have the same summary as the source.
static const char summary_sql[] = "SELECT format('%d groups up to id %d, %d rejected callbacks up to id %d',"
                                  " (SELECT count(*) FROM destroyed_group), (SELECT max(id) FROM destroyed_group),"
                                  " (SELECT count(*) FROM rejected_callback), (SELECT max(id) FROM rejected_callback))";

#define SUMMARY_BYTES 160

struct backup {
    const char *target;
    const struct backup_progress *progress;
    struct read_connection source;
    uint64_t bytes, bytes_done; // size of the source, and the part that was copied
    char summary[SUMMARY_BYTES];
    char *partial; // name of the incomplete copy; NULL: it does not exist or has its final name
    int fd;        // descriptor of the copy
    sqlite3 *copy;
};

// Cancellation

static atomic_bool cancelled;
static _Atomic(sqlite3 *) interruptible; // the connection that runs a long statement, or NULL

void backup_cancel(void)
{
    sqlite3 *connection;

    cancelled = true;
    connection = interruptible;
    if (connection)
        sqlite3_interrupt(connection);
}

static int fail(const char *path, struct error *error)
{
    return error_set(error, errno, "%s: %s", path, strerror(errno));
}

static int fail_sqlite(const struct backup *backup, sqlite3 *connection, struct error *error)
{
    int r = sqlite_error(connection, error);

    error_wrap(error, "%s", backup->target);
    return r;
}

static void report(const struct backup *backup)
{
    assert(backup->bytes_done <= backup->bytes);
    if (backup->progress)
        backup->progress->report(backup->progress->context, backup->bytes_done, backup->bytes);
}

static int report_from_sqlite(void *context)
{
    report(context);
    return 0; // lets the statement continue; backup_cancel interrupts it directly
}

// Runs work(), which may take minutes, so that backup_cancel can end it with sqlite3_interrupt. A progress handler
// could not end it: SQLite counts the rows of a table in a single instruction, during which it calls no progress
// handler.
//
// SQLite forgets an interrupt as soon as no statement of the connection runs. The statement `pending`, which stays at
// its first row, preserves an interrupt that arrives between two statements of work().
static int run_interruptible(struct backup *backup, sqlite3 *connection,
                             int (*work)(struct backup *backup, struct error *error), struct error *error)
{
    sqlite3_stmt *pending;
    int r;

    if (sqlite3_prepare_v2(connection, "SELECT 1 UNION ALL SELECT 2", -1, &pending, NULL) != SQLITE_OK ||
        sqlite3_step(pending) != SQLITE_ROW) {
        r = fail_sqlite(backup, connection, error);
        (void)sqlite3_finalize(pending);
        return r;
    }
    assert(!interruptible);
    interruptible = connection;
    if (cancelled)
        sqlite3_interrupt(connection);
    sqlite3_progress_handler(connection, REPORT_INSTRUCTIONS, report_from_sqlite, backup);
    report(backup);
    r = work(backup, error);
    sqlite3_progress_handler(connection, 0, NULL, NULL);
    interruptible = NULL;
    (void)sqlite3_finalize(pending);
    return r;
}

// Source

static int measure_source(struct backup *backup, struct error *error)
{
    char bytes[24];
    int code = query_text(backup->source.sqlite, size_sql, bytes, sizeof bytes);

    backup->bytes = strtoull(bytes, NULL, 10);
    return code == SQLITE_OK ? 0 : read_connection_failed(&backup->source, error);
}

static int summarize_source(struct backup *backup, struct error *error)
{
    int code = query_text(backup->source.sqlite, summary_sql, backup->summary, sizeof backup->summary);

    return code == SQLITE_OK ? 0 : read_connection_failed(&backup->source, error);
}

// Copy

static int check_free_space(const struct backup *backup, struct error *error)
{
    const char *database = sqlite3_db_filename(backup->source.sqlite, "main");
    uint64_t available, needed = backup->bytes;
    struct stat source, copy;
    struct statvfs system;

    if (fstatvfs(backup->fd, &system) < 0 || fstat(backup->fd, &copy) < 0)
        return fail(backup->target, error);
    if (stat(database, &source) < 0)
        return fail(database, error);
    if (source.st_dev == copy.st_dev)
        needed += RESERVE_BYTES;
    available = (uint64_t)system.f_bavail * system.f_frsize;
    if (available >= needed)
        return 0;
    return error_set(error, ENOSPC,
                     "%s: the copy needs %" PRIu64 " MiB, but %" PRIu64
                     " MiB are free; free some space or choose another file system",
                     backup->target, (needed >> 20) + 1, available >> 20);
}

static int create_partial(struct backup *backup, struct error *error)
{
    struct stat status;

    if (lstat(backup->target, &status) == 0)
        return error_set(error, EEXIST, "%s: the file exists already; move it away or choose another name",
                         backup->target);
    // Some builds of SQLite interpret a name that starts with "file:" as a URI, so a relative name gets a "./" in
    // front.
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
    return check_free_space(backup, error);
}

static void close_copy(struct backup *backup)
{
    sqlite3_close(backup->copy);
    backup->copy = NULL;
}

static int open_copy(struct backup *backup, int flags, struct error *error)
{
    int r = 0;

    // SQLite requires the connection to be closed even if opening it failed.
    if (sqlite3_open_v2(backup->partial, &backup->copy, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) !=
        SQLITE_OK) {
        r = fail_sqlite(backup, backup->copy, error);
        close_copy(backup);
    }
    return r;
}

static int finish_step(struct backup *backup, sqlite3_backup *pages, struct error *error)
{
    uint64_t total = (uint64_t)sqlite3_backup_pagecount(pages), left = (uint64_t)sqlite3_backup_remaining(pages);

    assert(left <= total);
    backup->bytes_done = total > 0 ? backup->bytes / total * (total - left) : 0;
    if (fdatasync(backup->fd) < 0)
        return fail(backup->target, error);
    report(backup);
    return 0;
}

// The open transaction of the source keeps the pages unchanged, so each step continues where the last one ended, even
// while the daemon writes. Without the transaction, every commit of the daemon would restart the copy.
static int copy_pages(struct backup *backup, struct error *error)
{
    sqlite3_backup *pages = sqlite3_backup_init(backup->copy, "main", backup->source.sqlite, "main");
    int code, r = 0;

    assert(!sqlite3_get_autocommit(backup->source.sqlite));
    if (!pages)
        return fail_sqlite(backup, backup->copy, error);
    do {
        code = sqlite3_backup_step(pages, STEP_PAGES);
        if (code == SQLITE_OK || code == SQLITE_DONE)
            r = finish_step(backup, pages, error);
    } while (code == SQLITE_OK && r == 0 && !cancelled);
    if (sqlite3_backup_finish(pages) != SQLITE_OK && r == 0)
        r = fail_sqlite(backup, backup->copy, error);
    return r;
}

static int copy_database(struct backup *backup, struct error *error)
{
    int r = open_copy(backup, SQLITE_OPEN_READWRITE, error);

    if (r < 0)
        return r;
    // The copy needs neither a journal nor SQLite's syncs: no other process reads the copy before it gets its final
    // name, and name_copy syncs the whole file before that.
    if (sqlite3_exec(backup->copy, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF", NULL, NULL, NULL) !=
        SQLITE_OK)
        r = fail_sqlite(backup, backup->copy, error);
    if (r == 0)
        r = copy_pages(backup, error);
    close_copy(backup);
    // Bytes 18 and 19 of the file are both 2 in WAL mode and both 1 otherwise. A copy without WAL mode can be read
    // where SQLite cannot create side files. If the copy replaces the database, the daemon switches it back to WAL
    // mode.
    if (r == 0 && !cancelled && pwrite(backup->fd, "\1\1", 2, 18) != 2)
        r = fail(backup->target, error);
    return r;
}

static int check_content(struct backup *backup, struct error *error)
{
    char summary[SUMMARY_BYTES], check[8];

    if (query_text(backup->copy, summary_sql, summary, sizeof summary) != SQLITE_OK ||
        query_text(backup->copy, "PRAGMA integrity_check(1)", check, sizeof check) != SQLITE_OK)
        return fail_sqlite(backup, backup->copy, error);
    if (strcmp(check, "ok") != 0)
        return error_set(
            error, EIO,
            "%s: the copy is damaged, and the database probably is, too; run PRAGMA integrity_check on the "
            "database in the sqlite3 shell",
            backup->target);
    if (strcmp(summary, backup->summary) != 0)
        return error_set(
            error, EIO,
            "%s: the copy has %s instead of %s; run PRAGMA integrity_check on the database in the sqlite3 shell",
            backup->target, summary, backup->summary);
    return 0;
}

static int check_copy(struct backup *backup, struct error *error)
{
    int r = open_copy(backup, SQLITE_OPEN_READONLY, error);

    if (r < 0)
        return r;
    r = run_interruptible(backup, backup->copy, check_content, error);
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

// Syncs the copy, gives it its final name, and syncs the directory. Fails if another file has that name by now. Some
// file systems do not support RENAME_NOREPLACE; there, link() gives the same guarantee.
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
        (void)unlink(to); // the name might be lost in a power failure, so the user must not rely on the copy
    return r;
}

static int copy_source(struct backup *backup, struct error *error)
{
    int r = read_connection_begin(&backup->source, error);

    if (r == 0)
        r = measure_source(backup, error);
    if (r == 0)
        r = run_interruptible(backup, backup->source.sqlite, summarize_source, error);
    if (r == 0)
        r = create_partial(backup, error);
    if (r == 0)
        r = copy_database(backup, error);
    read_connection_end(&backup->source);
    return r;
}

static int make(struct backup *backup, struct error *error)
{
    int r = copy_source(backup, error);

    if (r == 0 && !cancelled)
        r = check_copy(backup, error);
    // If a cancellation has interrupted a statement, that failure is only a consequence, so report the cancellation.
    if (cancelled)
        return error_set(error, ECANCELED, "%s: the backup was cancelled; no copy was made", backup->target);
    return r < 0 ? r : name_copy(backup, error);
}

int backup_make(const char *database, const char *target, const struct backup_progress *progress, struct error *error)
{
    struct backup backup = {.target = target, .progress = progress, .fd = -1};
    int r = read_connection_open(&backup.source, database, error);

    if (r < 0)
        return r;
    r = make(&backup, error);
    if (backup.partial)
        (void)unlink(backup.partial);
    free(backup.partial);
    if (backup.fd >= 0)
        close(backup.fd);
    assert(!interruptible && !backup.copy);
    read_connection_close(&backup.source);
    cancelled = false;
    return r;
}
