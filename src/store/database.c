#include "database.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imcallbackd/base/buffer.h"
#include "rewrite.h"
#include "schema.h"
#include "side_file.h"
#include "wal_index.h"

#define OPEN_BUSY_TIMEOUT_MS 5000
// The writer tries again, so here it waits for a moment only.
#define BUSY_TIMEOUT_MS            100
#define CHECKPOINT_BUSY_TIMEOUT_MS 500
#define FILE_MODE                  0640 // the group reads; SQLite gives its side files the same mode
#define LOG_HEADER_BYTES           32

// SQLite's own checkpoints would run inside commits. The log's length settles by itself; only a reader that stays makes
// it long, and the limit makes it short again afterwards. The cache, in KiB, holds a batch of the largest size, so that
// none spills into the log before its commit.
static const char configure_sql[] = "PRAGMA synchronous = FULL;"
                                    "PRAGMA wal_autocheckpoint = 0;"
                                    "PRAGMA cache_size = -16384;"
                                    "PRAGMA journal_size_limit = 33554432;"
                                    "PRAGMA mmap_size = 0;"
                                    "PRAGMA temp_store = MEMORY;"
                                    "PRAGMA schema_version;"; // a first look, at which the log is made

// A limit of the disk that may go away again.
static bool is_shortage(int cause)
{
    return cause == ENOSPC || cause == EDQUOT || cause == EROFS;
}

// The last failure of the database file (SQLITE_FCNTL_FILE_POINTER) or the log (SQLITE_FCNTL_JOURNAL_POINTER).
static int file_errno(sqlite3 *connection, int which)
{
    sqlite3_file *file = NULL;
    int cause = 0;

    if (sqlite3_file_control(connection, "main", which, &file) == SQLITE_OK && file && file->pMethods)
        (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &cause);
    return cause;
}

// The system's errno behind SQLite's last error; 0: there is none. sqlite3_system_errno does not know of what fails in
// a COMMIT. Of the two files' errnos one may be old, so a bad disk goes before a shortage.
static int system_cause(sqlite3 *connection, int code)
{
    int of_file, of_log;

    if ((code & 0xff) == SQLITE_CANTOPEN)
        return sqlite3_system_errno(connection);
    if ((code & 0xff) != SQLITE_IOERR)
        return 0;
    of_file = file_errno(connection, SQLITE_FCNTL_FILE_POINTER);
    of_log = file_errno(connection, SQLITE_FCNTL_JOURNAL_POINTER);
    return of_log == 0 || is_shortage(of_log) ? (of_file ? of_file : of_log) : of_log;
}

int database_error(sqlite3 *connection, struct error *error)
{
    static const struct {
        int code, cause; // 0: any cause
        int errno_value;
        const char *remedy;
    } remedies[] = {
        {SQLITE_NOTADB, 0, EINVAL, "; move the file away or set another path"},
        {SQLITE_CORRUPT, 0, EIO, "; restore it from a backup, or move it away to begin a new one"},
        {SQLITE_FULL, 0, ENOSPC, "; make room"},
        {SQLITE_BUSY, 0, EBUSY, "; another process is in the way (fuser lists it): end that one"},
        {SQLITE_PROTOCOL, 0, EBUSY, "; another process is in the way (fuser lists it): end that one"},
        {SQLITE_READONLY, 0, EACCES, "; give it to the user that the daemon runs as"},
        {SQLITE_CANTOPEN, 0, EACCES, "; look at the owner and the mode of it and its directory"},
        {SQLITE_IOERR, EDQUOT, EDQUOT, "; make room or raise the quota"},
        {SQLITE_IOERR, ENOSPC, ENOSPC, "; make room"},
        {SQLITE_IOERR, EROFS, EROFS, "; see in the kernel's log why it was made read-only"},
        {SQLITE_IOERR, 0, EIO, "; look for the disk's errors in the kernel's log"},
        {SQLITE_NOMEM, 0, ENOMEM, ""},
    };
    int code = sqlite3_extended_errcode(connection), cause = system_cause(connection, code);

    for (size_t i = 0; i < sizeof remedies / sizeof remedies[0]; i++) {
        if (remedies[i].code == (code & 0xff) && (remedies[i].cause == 0 || remedies[i].cause == cause))
            return error_set(error, remedies[i].errno_value, "%s%s%s (SQLite code %d)%s", sqlite3_errmsg(connection),
                             cause ? ": " : "", cause ? strerror(cause) : "", code, remedies[i].remedy);
    }
    return error_set(error, EIO, "%s (SQLite code %d)", sqlite3_errmsg(connection), code);
}

enum database_failure database_failure(sqlite3 *connection, int code)
{
    switch (code) {
    case SQLITE_IOERR_NOMEM:
    case SQLITE_IOERR_SHMSIZE: // the log's index cannot be made larger
        return DATABASE_FAILURE_PASSES;
    case SQLITE_IOERR_WRITE: // ENOSPC comes as SQLITE_FULL, but its relatives do not
        return is_shortage(system_cause(connection, code)) ? DATABASE_FAILURE_PASSES : DATABASE_FAILURE_FINAL;
    }
    switch (code & 0xff) {
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return DATABASE_FAILURE_FINAL;
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
        return DATABASE_FAILURE_OF_VALUES;
    default:
        return DATABASE_FAILURE_PASSES;
    }
}

// What the path really is, because SQLite puts its side files beside that. The caller frees *ret_file.
static int resolve(const char *path, char **ret_file, struct error *error)
{
    *ret_file = realpath(path, NULL);
    if (!*ret_file)
        *ret_file = strdup(path); // whatever is wrong with it, the checks say it better
    return *ret_file ? 0 : error_set(error, ENOMEM, "out of memory");
}

static int check_directory(const char *file, struct error *error)
{
    char *copy = strdup(file);
    struct buffer inside = {0}; // with "/." behind, so that a directory is insisted on
    const char *directory;
    int r = 0;

    directory = copy ? dirname(copy) : NULL;
    if (!directory || buffer_print(&inside, "%s/.", directory) < 0)
        r = error_set(error, ENOMEM, "out of memory");
    else if (faccessat(AT_FDCWD, inside.data, W_OK | X_OK, AT_EACCESS) < 0 && errno == ENOENT)
        r = error_set(error, ENOENT, "the directory %s does not exist; create it for the user that the daemon runs as",
                      directory);
    else if (faccessat(AT_FDCWD, inside.data, W_OK | X_OK, AT_EACCESS) < 0)
        r = error_set(error, errno, "the directory %s cannot be written, and SQLite needs to: %s", directory,
                      strerror(errno));
    free(copy);
    buffer_finish(&inside);
    return r;
}

// What the file holds cannot make a connection do more than it is asked for.
static void distrust(sqlite3 *connection)
{
    (void)sqlite3_db_config(connection, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(connection, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
}

int database_open_readonly(const char *file, const char *parameters, sqlite3 **ret_connection, struct error *error)
{
    struct buffer uri = {0};
    int code, r = buffer_print(&uri, "file:");

    for (const char *at = file; *at && r == 0; at++)
        r = buffer_print(&uri, "%%%02x", (unsigned int)(unsigned char)*at);
    if (r == 0)
        r = buffer_print(&uri, "?%s", parameters);
    *ret_connection = NULL;
    code = r < 0 ? SQLITE_NOMEM
                 : sqlite3_open_v2(uri.data, ret_connection,
                                   SQLITE_OPEN_READONLY | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                                   NULL);
    buffer_finish(&uri);
    if (code != SQLITE_OK)
        return database_error(*ret_connection, error);
    distrust(*ret_connection);
    return 0;
}

// Opens for reading without leaving a trace: without a log the file alone is all there is, with one the log's index is
// read as it is, and only where that is missing SQLite makes one. A log that ends behind its header, as a failure in
// the first write after that leaves it, is as good as none; SQLite would look for its frames until it gives up with
// SQLITE_PROTOCOL.
static int open_untouched(const char *file, sqlite3 **ret_connection, struct error *error)
{
    struct stat log, index;
    bool log_is_empty = !side_file_status(file, SIDE_FILE_LOG, &log) || log.st_size == LOG_HEADER_BYTES;
    const char *how = log_is_empty                                      ? "immutable=1"
                      : side_file_status(file, SIDE_FILE_INDEX, &index) ? "readonly_shm=1"
                                                                        : "";

    return database_open_readonly(file, how, ret_connection, error);
}

static int check_file(const char *file, struct error *error)
{
    sqlite3 *connection = NULL;
    struct stat status;
    int version, r;

    if (stat(file, &status) < 0)
        return errno == ENOENT ? 0 : error_set(error, errno, "%s", strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(error, EINVAL, "this is not a file; set another path");
    if (faccessat(AT_FDCWD, file, R_OK | W_OK, AT_EACCESS) < 0)
        return error_set(error, errno, "it cannot be read and written: %s; give it to the user that the daemon runs as",
                         strerror(errno));
    if (side_file_status(file, SIDE_FILE_INDEX, &status) && !S_ISREG(status.st_mode))
        return error_set(error, EINVAL, "its " SIDE_FILE_INDEX " is not a file; remove it");
    // A crash in the first start leaves half a file with a rollback journal. Only who may write can take that back.
    if (side_file_status(file, SIDE_FILE_JOURNAL, &status) && status.st_size > 0)
        return 0;
    r = open_untouched(file, &connection, error);
    if (r == 0) {
        sqlite3_busy_timeout(connection, OPEN_BUSY_TIMEOUT_MS);
        r = schema_inspect(connection, &version, error);
    }
    sqlite3_close(connection);
    return r;
}

static int check(const char *file, struct error *error)
{
    int r = check_directory(file, error);

    return r < 0 ? r : check_file(file, error);
}

int database_check(const char *path, struct error *error)
{
    char *file = NULL;
    int r = resolve(path, &file, error);

    if (r == 0)
        r = check(file, error);
    if (r < 0)
        error_wrap(error, "%s", path);
    free(file);
    return r;
}

// Creates the file when it is missing, whatever the umask is, and takes it. A second daemon on the same file would be a
// second connection that writes and checkpoints, which SQLite before 3.51.3 does not survive for sure.
static int lock_file(struct database *database, struct error *error)
{
    int fd = open(database->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, FILE_MODE);
    struct stat status;

    if (fd < 0)
        fd = open(database->path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return error_set(error, errno, "%s", strerror(errno));
    // An empty one may also be what a start has left that was killed right here.
    if (fstat(fd, &status) == 0 && status.st_size == 0)
        (void)fchmod(fd, FILE_MODE);
    database->lock_fd = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return error_set(error, errno, "%s", strerror(errno));
    return error_set(error, EBUSY,
                     "another imcallbackd records into it, or a program has locked it (fuser lists it); end that one "
                     "first");
}

// Before the first page is written or never: lets the file become smaller again.
static const char first_sql[] = "PRAGMA auto_vacuum = INCREMENTAL";

static int configure(sqlite3 *connection, int version, struct error *error)
{
    sqlite3_stmt *statement;
    bool wal;

    if (version == 0 && sqlite3_exec(connection, first_sql, NULL, NULL, NULL) != SQLITE_OK)
        return database_error(connection, error);
    if (sqlite3_prepare_v2(connection, "PRAGMA journal_mode = WAL", -1, &statement, NULL) != SQLITE_OK)
        return database_error(connection, error);
    if (sqlite3_step(statement) != SQLITE_ROW) {
        (void)sqlite3_finalize(statement);
        return database_error(connection, error);
    }
    wal = sqlite3_stricmp((const char *)sqlite3_column_text(statement, 0), "wal") == 0;
    // The change is committed only now.
    if (sqlite3_finalize(statement) != SQLITE_OK)
        return database_error(connection, error);
    if (!wal)
        return error_set(error, ENOTSUP, "SQLite's WAL mode does not work here; the file must lie on a local disk");
    if (sqlite3_exec(connection, configure_sql, NULL, NULL, NULL) != SQLITE_OK)
        return database_error(connection, error);
    return 0;
}

static int open_connection(struct database *database, struct error *error)
{
    int code = sqlite3_open_v2(database->path, &database->connection,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    sqlite3 *connection = database->connection;
    int version, r;

    if (code != SQLITE_OK)
        return database_error(connection, error);
    (void)sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    distrust(connection);
    sqlite3_busy_timeout(connection, OPEN_BUSY_TIMEOUT_MS);
    // Once more, now under the lock: it may have been made in between.
    r = schema_inspect(connection, &version, error);
    if (r == 0)
        r = configure(connection, version, error);
    if (r == 0)
        r = schema_upgrade(connection, version, error);
    sqlite3_busy_timeout(connection, BUSY_TIMEOUT_MS);
    return r;
}

static int note_side_file(struct database_side_file *file, const char *database, const char *suffix,
                          struct error *error)
{
    struct stat status;

    if (asprintf(&file->path, "%s%s", database, suffix) < 0) {
        file->path = NULL;
        return error_set(error, ENOMEM, "out of memory");
    }
    if (stat(file->path, &status) < 0)
        return error_set(error, errno, "%s: %s", file->path, strerror(errno));
    file->inode = status.st_ino;
    return 0;
}

int database_open(struct database *database, const char *path, struct error *error)
{
    int r;

    *database = (struct database){.lock_fd = -1};
    // Nobody asks SQLite for its memory statistics, and they take a lock around each allocation. Only the first user of
    // the library in a process can choose; for others it stays as it is.
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    r = resolve(path, &database->path, error);
    if (r == 0)
        r = check(database->path, error);
    if (r == 0)
        r = lock_file(database, error);
    if (r == 0)
        r = wal_index_distrust(database->path, error);
    if (r == 0)
        r = open_connection(database, error);
    if (r == 0)
        r = note_side_file(&database->log, database->path, SIDE_FILE_LOG, error);
    if (r == 0)
        r = note_side_file(&database->index, database->path, SIDE_FILE_INDEX, error);
    if (r < 0) {
        error_wrap(error, "%s", path);
        database_close(database);
    }
    return r;
}

// Pages that the connection has written, which in WAL mode are frames of the log, since this was last reset.
static int frames_written(const struct database *database, bool reset)
{
    int frames = 0, unused;

    (void)sqlite3_db_status(database->connection, SQLITE_DBSTATUS_CACHE_WRITE, &frames, &unused, reset);
    return frames;
}

static bool side_file_in_place(const struct database_side_file *file)
{
    struct stat found;

    return stat(file->path, &found) == 0 && found.st_ino == file->inode;
}

bool database_in_place(const struct database *database)
{
    struct stat locked, found;

    return fstat(database->lock_fd, &locked) == 0 && stat(database->path, &found) == 0 &&
           locked.st_dev == found.st_dev && locked.st_ino == found.st_ino && side_file_in_place(&database->log) &&
           side_file_in_place(&database->index);
}

bool database_checkpoint_due(const struct database *database, int frames)
{
    return frames_written(database, false) >= frames;
}

int database_checkpoint(struct database *database, int mode)
{
    int frames = 0, written_back = 0, code;

    (void)frames_written(database, true);
    code = sqlite3_wal_checkpoint_v2(database->connection, NULL, mode, &frames, &written_back);
    database->log_held = code == SQLITE_OK && written_back < frames;
    return code;
}

bool database_log_is_held(const struct database *database)
{
    return database->log_held;
}

// The log as recovery found it, made sure of while nobody can write to it.
static int rewrite_log(struct database *database, struct error *error)
{
    int code = SQLITE_OK, r;

    // For want of memory an earlier attempt may not have ended its transaction.
    if (sqlite3_get_autocommit(database->connection))
        code = sqlite3_exec(database->connection, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (code != SQLITE_OK) {
        (void)database_error(database->connection, error);
        return code;
    }
    r = rewrite_file(database->log.path, error);
    code = sqlite3_exec(database->connection, "ROLLBACK", NULL, NULL, NULL);
    if (r < 0)
        return r == -ENOMEM ? SQLITE_NOMEM : is_shortage(-r) ? SQLITE_FULL : SQLITE_IOERR;
    if (code != SQLITE_OK)
        (void)database_error(database->connection, error);
    return code;
}

int database_settle(struct database *database, struct error *error)
{
    int code;

    if (database->settled)
        return SQLITE_OK;
    code = rewrite_log(database, error);
    if (code != SQLITE_OK)
        return code;
    sqlite3_busy_timeout(database->connection, CHECKPOINT_BUSY_TIMEOUT_MS);
    code = database_checkpoint(database, SQLITE_CHECKPOINT_TRUNCATE);
    if (code != SQLITE_OK && database_failure(database->connection, code) != DATABASE_FAILURE_PASSES) {
        (void)database_error(database->connection, error);
        error_wrap(error, "the write-ahead log cannot be written back");
        return code;
    }
    sqlite3_busy_timeout(database->connection, BUSY_TIMEOUT_MS);
    database->settled = true;
    return SQLITE_OK;
}

void database_close(struct database *database)
{
    sqlite3_close(database->connection);
    if (database->lock_fd >= 0)
        close(database->lock_fd); // only now: closing any descriptor of the file drops SQLite's locks on it
    free(database->log.path);
    free(database->index.path);
    free(database->path);
    *database = (struct database){.lock_fd = -1};
}
