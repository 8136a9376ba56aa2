// Configures SQLite and decides which files to refuse. wal_recovery.c handles a log that a crash left.
#include "database.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "binding.h"
#include "imcallbackd/base/buffer.h"
#include "schema.h"
#include "wal_buffer.h"
#include "wal_recovery.h"

#define OPEN_BUSY_TIMEOUT_MS  5000
#define BUSY_TIMEOUT_MS       100  // short, because the writer thread retries
#define CLOSE_BUSY_TIMEOUT_MS 1000 // how long the last checkpoint waits for readers; the next start recovers the log
#define FILE_MODE             0640 // the group may read; SQLite gives its side files the same mode
#define LOG_HEADER_BYTES      32

// Automatic checkpoints are off because they would run inside commits. The log grows until the next checkpoint, and
// then starts over in the space that it has. A long read transaction blocks checkpoints, so the log can become much
// longer; afterwards, journal_size_limit makes SQLite truncate the log to 32 MiB. A negative cache_size is in KiB: the
// cache of 16 MiB has twice the byte limit of a batch, so that pages rarely spill into the log before the commit.
static const char configure_sql[] = "PRAGMA synchronous = FULL;"
                                    "PRAGMA wal_autocheckpoint = 0;"
                                    "PRAGMA cache_size = -16384;"
                                    "PRAGMA journal_size_limit = 33554432;"
                                    "PRAGMA mmap_size = 0;"
                                    "PRAGMA temp_store = MEMORY;"
                                    "PRAGMA schema_version;"; // the first read, which creates the log

// Resolves symbolic links, because SQLite puts its side files next to the file to which they lead. Copies a path that
// cannot be resolved. The caller frees *ret_file.
static int resolve(const char *path, char **ret_file, struct error *error)
{
    *ret_file = realpath(path, NULL);
    if (!*ret_file)
        *ret_file = strdup(path); // the file may not exist yet; later steps report any other problem
    return *ret_file ? 0 : error_set(error, ENOMEM, "out of memory");
}

static int check_directory(const char *file, struct error *error)
{
    char *copy = strdup(file);
    struct buffer contents = {0}; // the path of the directory followed by "/.", which exists only in a directory
    const char *directory;
    int r = 0;

    directory = copy ? dirname(copy) : NULL;
    if (!directory || buffer_print(&contents, "%s/.", directory) < 0)
        r = error_set(error, ENOMEM, "out of memory");
    else if (faccessat(AT_FDCWD, contents.data, W_OK | X_OK, AT_EACCESS) < 0 && errno == ENOENT)
        r = error_set(error, ENOENT, "the directory %s does not exist; create it for the user that the daemon runs as",
                      directory);
    else if (faccessat(AT_FDCWD, contents.data, W_OK | X_OK, AT_EACCESS) < 0)
        r = error_set(error, errno,
                      "the directory %s is not writable: %s; make it writable for the user that the daemon runs as",
                      directory, strerror(errno));
    free(copy);
    buffer_finish(&contents);
    return r;
}

// Limits what the schema of a manipulated database can make the connection do.
static void restrict_connection(sqlite3 *connection)
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
        return sqlite_error(*ret_connection, error);
    restrict_connection(*ret_connection);
    return 0;
}

// Opens the database for reading without changing an existing file. If there is no log, the database file alone is
// complete, and SQLite opens it as immutable. If there is a log, SQLite reads its index without changing it, and
// creates an index only if none exists. A log that ends after its header, for example because the write of the first
// frame failed, counts as missing: SQLite would look for frames in this log and fail with SQLITE_PROTOCOL.
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
        return error_set(error, EINVAL, "not a regular file; set another path");
    if (faccessat(AT_FDCWD, file, R_OK | W_OK, AT_EACCESS) < 0)
        return error_set(error, errno, "not readable and writable: %s; give it to the user that the daemon runs as",
                         strerror(errno));
    r = side_file_check(file, SIDE_FILE_JOURNAL, error);
    if (r == 0)
        r = side_file_check(file, SIDE_FILE_LOG, error);
    if (r == 0)
        r = wal_recovery_check_index(file, error);
    if (r < 0)
        return r;
    // A crash during the first start can leave an incomplete file with a rollback journal, which only a writing
    // connection can roll back.
    if (side_file_status(file, SIDE_FILE_JOURNAL, &status) && status.st_size > 0)
        return 0;
    r = open_untouched(file, &connection, error);
    if (r == 0) {
        sqlite3_busy_timeout(connection, OPEN_BUSY_TIMEOUT_MS);
        r = schema_inspect(connection, &version, error);
        // Only a writing connection can rebuild an invalid index, so this code is not an error here. database_open
        // inspects the database again on such a connection.
        if (sqlite3_extended_errcode(connection) == SQLITE_READONLY_RECOVERY)
            r = 0;
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

// Creates the file if it is missing, with FILE_MODE whatever the umask is, and locks it. A second daemon would be a
// second connection that writes and checkpoints. With two such connections, SQLite versions before 3.51.3 can lose
// data.
static int lock_file(struct database *database, struct error *error)
{
    int fd = open(database->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, FILE_MODE);
    struct stat status;

    if (fd < 0)
        fd = open(database->path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return error_set(error, errno, "%s", strerror(errno));
    // The umask may have restricted the mode of a new file. An empty file may also be left from a start that was killed
    // at this point, before fchmod.
    if (fstat(fd, &status) == 0 && status.st_size == 0)
        (void)fchmod(fd, FILE_MODE);
    database->lock_fd = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return error_set(error, errno, "%s", strerror(errno));
    return error_set(
        error, EBUSY,
        "another imcallbackd records into it, or another program holds a lock on it; end that process first "
        "(fuser lists it)");
}

// Enables incremental vacuum, which lets the file shrink after deletions. Has an effect only before the first page is
// written.
static const char first_sql[] = "PRAGMA auto_vacuum = INCREMENTAL";

static int configure(sqlite3 *connection, int version, struct error *error)
{
    char mode[16];

    if (version == 0 && sqlite3_exec(connection, first_sql, NULL, NULL, NULL) != SQLITE_OK)
        return sqlite_error(connection, error);
    if (query_text(connection, "PRAGMA journal_mode = WAL", mode, sizeof mode) != SQLITE_OK)
        return sqlite_error(connection, error);
    if (sqlite3_stricmp(mode, "wal") != 0)
        return error_set(error, ENOTSUP,
                         "SQLite's WAL mode does not work on this file system; move the database to a local disk");
    return sqlite3_exec(connection, configure_sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sqlite_error(connection, error);
}

static int open_connection(struct database *database, struct error *error)
{
    int code = wal_buffer_register(), version, r;
    sqlite3 *connection;

    if (code == SQLITE_OK)
        code = sqlite3_open_v2(database->path, &database->connection,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, WAL_BUFFER_VFS);
    connection = database->connection;
    if (code != SQLITE_OK)
        return sqlite_error(connection, error);
    (void)sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    restrict_connection(connection);
    sqlite3_busy_timeout(connection, OPEN_BUSY_TIMEOUT_MS);
    // The database is inspected again under the lock, because another process may have created the tables since the
    // check.
    r = schema_inspect(connection, &version, error);
    if (r == 0)
        r = configure(connection, version, error);
    if (r == 0)
        r = schema_upgrade(connection, version, error);
    sqlite3_busy_timeout(connection, BUSY_TIMEOUT_MS);
    return r;
}

int database_open(struct database *database, const char *path, struct error *error)
{
    int r;

    *database = (struct database){.lock_fd = -1};
    // Nothing uses the memory statistics, which cost a lock around each allocation. The call has an effect only before
    // the first use of the library in a process, and fails harmlessly afterwards.
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    r = resolve(path, &database->path, error);
    if (r == 0)
        r = check(database->path, error);
    if (r == 0)
        r = lock_file(database, error);
    if (r == 0)
        r = wal_recovery_force_rebuild(database->path, error);
    if (r == 0)
        r = open_connection(database, error);
    if (r == 0) {
        database_files_record(&database->files, database->path);
        r = database_check_in_place(database, error) == STORE_FAILURE_NONE ? 0 : -EIO;
    }
    if (r < 0) {
        error_wrap(error, "%s", path);
        database_close(database);
    }
    return r;
}

// Returns the number of pages written since the last reset, and resets the number if `reset` is true. In WAL mode each
// page is a frame of the log.
static int frames_written(const struct database *database, bool reset)
{
    int frames = 0, unused;

    (void)sqlite3_db_status(database->connection, SQLITE_DBSTATUS_CACHE_WRITE, &frames, &unused, reset);
    return frames;
}

enum store_failure database_check_in_place(const struct database *database, struct error *error)
{
    const struct database_files *files = &database->files;
    struct stat locked;

    assert(database->lock_fd >= 0);
    if (fstat(database->lock_fd, &locked) == 0 && locked.st_dev == files->device && locked.st_ino == files->inodes[0] &&
        files->inodes[1] && files->inodes[2] && database_files_check(files, database->path) == DATABASE_FILES_CURRENT)
        return STORE_FAILURE_NONE;
    (void)error_set(error, EIO,
                    "the database or a side file (-wal, -shm) was deleted, moved or replaced while it was in use; stop "
                    "the daemon, put the file back (-shm is not needed), and start the daemon again");
    return STORE_FAILURE_FATAL;
}

bool database_checkpoint_due(const struct database *database, int frames)
{
    return frames_written(database, false) >= frames;
}

enum store_failure database_checkpoint(struct database *database, int mode, struct error *error)
{
    int frames = 0, copied = 0, code;

    assert(mode == SQLITE_CHECKPOINT_PASSIVE || mode == SQLITE_CHECKPOINT_TRUNCATE);
    assert(database->wal_recovered); // frames that are not on disk must not reach the database
    (void)frames_written(database, true);
    code = sqlite3_wal_checkpoint_v2(database->connection, NULL, mode, &frames, &copied);
    database->checkpoint_blocked = code == SQLITE_OK && copied < frames;
    return code == SQLITE_BUSY ? STORE_FAILURE_NONE : sqlite_failure(database->connection, code, error);
}

enum store_failure database_checkpoint_last(struct database *database, struct error *error)
{
    sqlite3_busy_timeout(database->connection, CLOSE_BUSY_TIMEOUT_MS);
    return database_checkpoint(database, SQLITE_CHECKPOINT_TRUNCATE, error);
}

enum store_failure database_recover_wal(struct database *database, struct error *error)
{
    enum store_failure failure;

    assert(database->connection && database->lock_fd >= 0);
    if (database->wal_recovered)
        return STORE_FAILURE_NONE;
    failure = wal_recovery_complete(database->connection, error);
    sqlite3_busy_timeout(database->connection, BUSY_TIMEOUT_MS);
    if (failure != STORE_FAILURE_NONE)
        return failure;
    (void)frames_written(database, true);
    database->wal_recovered = true;
    return STORE_FAILURE_NONE;
}

void database_close(struct database *database)
{
    sqlite3_close(database->connection);
    if (database->lock_fd >= 0)
        close(database->lock_fd); // last: closing any descriptor of the file drops SQLite's locks on it
    free(database->path);
    *database = (struct database){.lock_fd = -1};
}
