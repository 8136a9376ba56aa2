// Maps failures of SQLite and of system calls to what the store must do. The failing function classifies each failure
// once, before its next call on the connection, because SQLite keeps only the last error.

// Most functions of the store that open or check something return -errno, and those that write return an enum
// store_failure. The functions below that fill in a struct error give the reason, and a remedy if there is one, but not
// the path of the database.
#pragma once

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

enum store_failure {
    STORE_FAILURE_NONE,
    STORE_FAILURE_RETRY, // a shortage or the lock of another process: nothing was committed; a later attempt may
                         // succeed
    STORE_FAILURE_VALUE, // SQLite rejects one of the values; a retry with the same value would fail again
    STORE_FAILURE_FATAL, // the disk or the file can no longer be trusted; a COMMIT may or may not be on disk
};

// Classifies the extended result code of the connection's last call, and fills in the error. SQLITE_OK gives
// STORE_FAILURE_NONE and does not change the error.
enum store_failure sqlite_failure(sqlite3 *connection, int code, struct error *error);

// Classifies the errno value of a failed file operation of the store itself; 0 gives STORE_FAILURE_NONE.
enum store_failure errno_failure(int cause);

// Fills in the description of the last error of the connection. Returns the nearest -errno. A NULL connection counts
// as out of memory.
int sqlite_error(sqlite3 *connection, struct error *error);
