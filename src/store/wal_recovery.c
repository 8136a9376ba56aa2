// Implements the steps that wal_recovery.h describes. Only this file relies on the bytes and locks of the index, which
// SQLite's "WAL-mode File Format" describes in section 2.
#include "wal_recovery.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "database_files.h"
#include "imcallbackd/base/clock.h"

// The index starts with two copies of a header. SQLite rebuilds the index if both copies are zero. The count of copied
// frames follows, and further on one byte for each lock.
#define FORMAT_VERSION         UINT32_C(3007000) // the first field of a header, in native byte order
#define HEADER_BYTES           48
#define COPIED_FRAMES_OFFSET   96
#define COPIED_FRAMES_END      100
#define WRITE_LOCK_OFFSET      120
#define CHECKPOINT_LOCK_OFFSET 121
#define RECOVERY_LOCK_OFFSET   122
#define INDEX_MIN_BYTES        136 // SQLite rebuilds a shorter index anyway

#define CHECKPOINT_LOCK_TIMEOUT_MS 5000
#define WRITE_LOCK_TIMEOUT_MS      500
#define LOCK_POLL_MS               10
#define CHECKPOINT_BUSY_TIMEOUT_MS 500

#define REWRITE_CHUNK_BYTES ((size_t)256 * 1024)

// Locks the bytes from first to last, and waits up to timeout_ms for other processes to unlock them. The locks last
// until the descriptor is closed. Returns 0 or -errno.
static int lock_bytes(int fd, off_t first, off_t last, int64_t timeout_ms)
{
    struct flock bytes = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = last - first + 1};
    int64_t give_up_at_ms = clock_monotonic_ms() + timeout_ms;

    assert(first <= last && timeout_ms >= 0);
    while (fcntl(fd, F_SETLK, &bytes) < 0) {
        if ((errno != EAGAIN && errno != EACCES) || clock_monotonic_ms() >= give_up_at_ms)
            return -errno;
        (void)poll(NULL, 0, LOCK_POLL_MS);
    }
    return 0;
}

static int errno_error(const char *path, struct error *error)
{
    return error_set(error, errno, "%s: %s", path, strerror(errno));
}

// Accepts the version 0, too: a header that no process has initialized yet is zero.
static int check_version(int fd, const char *path, struct error *error)
{
    for (off_t header = 0; header < (off_t)2 * HEADER_BYTES; header += HEADER_BYTES) {
        uint32_t version = 0;

        if (pread(fd, &version, sizeof version, header) < 0)
            return errno_error(path, error);
        if (version != 0 && version != FORMAT_VERSION)
            return error_set(error, ENOTSUP,
                             "%s: the index of the write-ahead log has the format version %" PRIu32
                             ", and only %" PRIu32
                             " is supported; end all processes that have the database open (fuser "
                             "lists them), then delete this file",
                             path, version, FORMAT_VERSION);
    }
    return 0;
}

static int zero_index(int fd, const char *path, struct error *error)
{
    static const unsigned char zeros[COPIED_FRAMES_END] = {0};
    off_t first = 0;
    int r = lock_bytes(fd, CHECKPOINT_LOCK_OFFSET, CHECKPOINT_LOCK_OFFSET, CHECKPOINT_LOCK_TIMEOUT_MS);

    if (r < 0)
        return error_set(error, -r, "%s: the checkpoint of another process does not end: %s; end that process", path,
                         strerror(-r));
    // Another process that holds the write lock or the recovery lock may be changing the header. Without these locks,
    // zero only the count of copied frames.
    if (lock_bytes(fd, WRITE_LOCK_OFFSET, RECOVERY_LOCK_OFFSET, WRITE_LOCK_TIMEOUT_MS) < 0)
        first = COPIED_FRAMES_OFFSET;
    if (pwrite(fd, zeros, (size_t)(COPIED_FRAMES_END - first), first) < 0)
        return errno_error(path, error);
    return 0;
}

// Opens the index and checks that it has the format that this file expects. Sets *ret_fd to -1 after a failure, if
// there is no index, or if the index is so short that SQLite rebuilds it anyway.
static int open_index(const char *path, int access, int *ret_fd, struct error *error)
{
    int fd = open(path, access | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK), r = 0;
    struct stat status;

    *ret_fd = -1;
    if (fd < 0)
        return errno == ENOENT ? 0 : errno_error(path, error);
    if (fstat(fd, &status) < 0)
        r = errno_error(path, error);
    else if (!S_ISREG(status.st_mode))
        r = error_set(error, EINVAL, "%s: not a regular file; remove it", path);
    else if (status.st_size >= INDEX_MIN_BYTES)
        r = check_version(fd, path, error);
    if (r < 0 || status.st_size < INDEX_MIN_BYTES)
        close(fd);
    else
        *ret_fd = fd;
    return r;
}

static int with_index(const char *database, int access, int (*use)(int fd, const char *path, struct error *error),
                      struct error *error)
{
    char *path;
    int fd, r;

    if (asprintf(&path, "%s" SIDE_FILE_INDEX, database) < 0)
        return error_set(error, ENOMEM, "out of memory");
    r = open_index(path, access, &fd, error);
    if (fd >= 0) {
        r = use ? use(fd, path, error) : 0;
        close(fd);
    }
    free(path);
    return r;
}

int wal_recovery_check_index(const char *database, struct error *error)
{
    return with_index(database, O_RDONLY, NULL, error);
}

int wal_recovery_force_rebuild(const char *database, struct error *error)
{
    return with_index(database, O_RDWR, zero_index, error);
}

static int rewrite_chunks(int fd, char *chunk)
{
    off_t offset = 0;

    for (;;) {
        ssize_t length = pread(fd, chunk, REWRITE_CHUNK_BYTES, offset);

        if (length == 0)
            return fdatasync(fd) < 0 ? -errno : 0;
        if (length < 0)
            return -errno;
        for (ssize_t done = 0, r; done < length; done += r) {
            r = pwrite(fd, chunk + done, (size_t)(length - done), offset + done);
            if (r < 0)
                return -errno;
        }
        offset += length;
    }
}

int wal_recovery_rewrite_file(const char *path, struct error *error)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY), r = -ENOMEM;
    char *chunk;

    if (fd < 0)
        return errno == ENOENT ? 0 : errno_error(path, error);
    chunk = malloc(REWRITE_CHUNK_BYTES);
    if (chunk)
        r = rewrite_chunks(fd, chunk);
    free(chunk);
    close(fd);
    return r == 0 ? 0 : error_set(error, -r, "%s: %s", path, strerror(-r));
}

// The write lock keeps other processes from appending to the log during the rewrite.
static enum store_failure rewrite_log(sqlite3 *connection, struct error *error)
{
    const char *log = sqlite3_filename_wal(sqlite3_db_filename(connection, "main"));
    enum store_failure failure;
    int code = SQLITE_OK, r;

    // If the ROLLBACK of an earlier attempt failed, its transaction is still open.
    if (sqlite3_get_autocommit(connection))
        code = sqlite3_exec(connection, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    failure = sqlite_failure(connection, code, error);
    if (failure != STORE_FAILURE_NONE)
        return failure;
    r = wal_recovery_rewrite_file(log, error);
    code = sqlite3_exec(connection, "ROLLBACK", NULL, NULL, NULL);
    return r < 0 ? errno_failure(-r) : sqlite_failure(connection, code, error);
}

enum store_failure wal_recovery_complete(sqlite3 *connection, struct error *error)
{
    enum store_failure failure = rewrite_log(connection, error);
    int code;

    if (failure != STORE_FAILURE_NONE)
        return failure;
    assert(sqlite3_get_autocommit(connection)); // the ROLLBACK has succeeded
    sqlite3_busy_timeout(connection, CHECKPOINT_BUSY_TIMEOUT_MS);
    code = sqlite3_wal_checkpoint_v2(connection, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    failure = sqlite_failure(connection, code, error);
    if (failure == STORE_FAILURE_NONE || failure == STORE_FAILURE_RETRY)
        return STORE_FAILURE_NONE; // the log is safe on disk; a later checkpoint copies its frames
    error_wrap(error, "the checkpoint failed");
    return failure;
}
