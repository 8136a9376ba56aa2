// Maps failures of SQLite and of system calls to what the store must do. The failing function classifies each failure
// once, before its next call on the connection, because SQLite keeps only the last error.
//
// Functions that open something return -errno. Functions that write return an enum store_failure. Both fill in a struct
// error with the reason, and a remedy if there is one, but without the path of the database.
#pragma once

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

enum store_failure {
    STORE_FAILURE_NONE,
    STORE_FAILURE_RETRY, // a shortage or the lock of another process: nothing was committed; a later attempt may
                         // succeed
    STORE_FAILURE_VALUE, // SQLite rejects one of the values; does not happen with values that came over the network
    STORE_FAILURE_FATAL, // disk or file can no longer be trusted, and what a COMMIT left on disk is unknown
};

// Classifies SQLite's extended result code. SQLITE_OK gives STORE_FAILURE_NONE and does not change the error.
enum store_failure sqlite_failure(sqlite3 *connection, int code, struct error *error);

// Classifies the errno value of a failed write or sync by the store itself; 0 gives STORE_FAILURE_NONE.
enum store_failure errno_failure(int cause);

// Describes the last error of the connection. Returns the nearest -errno.
int sqlite_error(sqlite3 *connection, struct error *error);
