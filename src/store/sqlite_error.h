// What a failure of SQLite or of a system call means for the store. Each failure is judged once, where it happens, and
// before anything else is done with the connection, because SQLite keeps only the last error.
//
// Functions that open something return -errno. Functions that write return an enum store_failure. Both fill in a struct
// error with the reason and the remedy, without the path of the database.
#pragma once

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

enum store_failure {
    STORE_FAILURE_NONE,
    STORE_FAILURE_RETRY, // a shortage or the lock of another process: nothing was committed, a later attempt may
                         // succeed
    STORE_FAILURE_VALUE, // SQLite rejects one of the values; does not happen with values that came over the network
    STORE_FAILURE_FATAL, // disk or file can no longer be trusted, and what a COMMIT left on disk is unknown
};

// Judges SQLite's extended result code; SQLITE_OK gives STORE_FAILURE_NONE and leaves the error alone.
enum store_failure sqlite_failure(sqlite3 *connection, int code, struct error *error);

// Judges the errno value of a failed write or sync of the store's own; 0 gives STORE_FAILURE_NONE.
enum store_failure errno_failure(int cause);

// Describes the last error of the connection. Returns the -errno that comes nearest.
int sqlite_error(sqlite3 *connection, struct error *error);
