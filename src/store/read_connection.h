// Opens a connection that only reads. The connection works while a daemon records, while the daemon is stopped, and
// after the daemon was killed. The connection records which files it has open, so that the caller can check whether the
// path still names them.
#pragma once

#include "database_files.h"
#include "imcallbackd/base/error.h"

#include <sqlite3.h>

// If the index of the write-ahead log exists, the connection opens it read-only, even if the process may write to it.
// The connection therefore takes only shared locks in the index, repairs nothing, never checkpoints, and needs no more
// rights than a member of the daemon's group has. If a database in WAL mode has no index, as after a copy of the
// database file alone, SQLite has to create one and needs a writable directory.
struct read_connection {
    sqlite3 *sqlite;
    char *path; // with symbolic links resolved, because SQLite puts the side files next to the real file
    struct database_files files; // if a side file was replaced, the database must be opened again
};

// Returns 0 or -errno. Errors name the path, and a remedy if there is one. After a failure the connection is closed.
int read_connection_open(struct read_connection *connection, const char *path, struct error *error) MUST_CHECK;

// Starts a read transaction. Until read_connection_end, the caller sees the database as it is now, and the write-ahead
// log can only grow. If the daemon is starting, which includes the recovery of the write-ahead log, waits up to 5 s.
// Refuses a database that is empty, has a newer schema or belongs to another program. Returns 0, or -errno without a
// transaction. Errors name the path.
int read_connection_begin(struct read_connection *connection, struct error *error) MUST_CHECK;

// Ends the transaction, if one is open.
void read_connection_end(struct read_connection *connection);

// Fills in the error with SQLite's last failure, the path, and a remedy if there is one. Returns -errno.
int read_connection_failed(struct read_connection *connection, struct error *error);

void read_connection_close(struct read_connection *connection); // a zeroed struct is allowed
