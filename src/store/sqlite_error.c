// The mapping depends on how disks fail: an error during one of SQLite's syncs is always fatal, but an error during a
// write is not fatal if its cause may be temporary.
#include "sqlite_error.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

// Returns true if the disk is full, the quota is exhausted or the file system is read-only. Each of these may be
// temporary.
static bool is_shortage(int cause)
{
    return cause == ENOSPC || cause == EDQUOT || cause == EROFS;
}

// Returns the errno of the last failure of the database file (SQLITE_FCNTL_FILE_POINTER) or of the write-ahead log
// (SQLITE_FCNTL_JOURNAL_POINTER), or 0 if there is none.
static int file_errno(sqlite3 *connection, int which)
{
    sqlite3_file *file = NULL;
    int cause = 0;

    if (sqlite3_file_control(connection, "main", which, &file) == SQLITE_OK && file && file->pMethods)
        (void)file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &cause);
    return cause;
}

// Returns the errno value behind SQLite's last error, or 0 if none is known. sqlite3_system_errno does not cover
// failures in a COMMIT, so for I/O errors this function asks the two files. One of the two errno values may be from an
// earlier failure, so any other cause takes precedence over a shortage.
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

int sqlite_error(sqlite3 *connection, struct error *error)
{
    static const struct {
        int code, cause; // cause 0: any
        int errno_value;
        const char *remedy;
    } remedies[] = {
        {SQLITE_NOTADB, 0, EINVAL, "; move the file away or set another path"},
        {SQLITE_CORRUPT, 0, EIO, "; restore it from a backup, or move it away to start with an empty one"},
        {SQLITE_FULL, 0, ENOSPC, "; make room on the disk"},
        {SQLITE_BUSY, 0, EBUSY, "; end the process that holds the lock (fuser lists it)"},
        {SQLITE_PROTOCOL, 0, EBUSY, "; end the process that holds the lock (fuser lists it)"},
        {SQLITE_READONLY, 0, EACCES, "; give it to the user that the daemon runs as"},
        {SQLITE_CANTOPEN, 0, EACCES, "; check the owner and the mode of the file and of its directory"},
        {SQLITE_IOERR, EDQUOT, EDQUOT, "; make room on the disk or raise the quota"},
        {SQLITE_IOERR, ENOSPC, ENOSPC, "; make room on the disk"},
        {SQLITE_IOERR, EROFS, EROFS, "; the kernel log says why the file system became read-only"},
        {SQLITE_IOERR, 0, EIO, "; check the kernel log for errors of the disk"},
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

static enum store_failure judge(sqlite3 *connection, int code)
{
    switch (code) {
    case SQLITE_IOERR_NOMEM:
    case SQLITE_IOERR_SHMSIZE: // the index of the write-ahead log cannot grow
        return STORE_FAILURE_RETRY;
    case SQLITE_IOERR_WRITE: // SQLite reports ENOSPC as SQLITE_FULL, but EDQUOT and EROFS as this code
        return is_shortage(system_cause(connection, code)) ? STORE_FAILURE_RETRY : STORE_FAILURE_FATAL;
    }
    switch (code & 0xff) {
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return STORE_FAILURE_FATAL;
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
        return STORE_FAILURE_VALUE;
    default:
        return STORE_FAILURE_RETRY;
    }
}

enum store_failure sqlite_failure(sqlite3 *connection, int code, struct error *error)
{
    assert(code != SQLITE_ROW && code != SQLITE_DONE);
    if (code == SQLITE_OK)
        return STORE_FAILURE_NONE;
    (void)sqlite_error(connection, error);
    return judge(connection, code);
}

enum store_failure errno_failure(int cause)
{
    assert(cause >= 0);
    if (cause == 0)
        return STORE_FAILURE_NONE;
    return cause == ENOMEM || is_shortage(cause) ? STORE_FAILURE_RETRY : STORE_FAILURE_FATAL;
}
