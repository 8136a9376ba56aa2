// Opens the database file with the only connection that writes to it, refuses files of other programs, and runs
// checkpoints. Only one thread at a time may use a struct database.
#pragma once

#include <stdbool.h>

#include "database_files.h"
#include "imcallbackd/base/error.h"
#include "sqlite_error.h"

#include <sqlite3.h>

struct database {
    sqlite3 *connection;
    char *path;
    int lock_fd; // holds the lock that keeps a second daemon out
    struct database_files files;
    bool checkpoint_blocked; // a reader kept the last checkpoint from copying all frames: the log can only grow
    bool wal_recovered;
};

// Locks the file for this process, opens or creates it, and upgrades its schema. Does not change a file that belongs to
// another program. database_recover_wal has to succeed before the caller writes. Returns 0 or -errno. After a failure
// the database is closed. The error names the path.
int database_open(struct database *database, const char *path, struct error *error) MUST_CHECK;

// Recovers the write-ahead log (wal_recovery.h); does nothing after the first success.
enum store_failure database_recover_wal(struct database *database, struct error *error) MUST_CHECK;

// Checks that database_open could succeed. Does not take the lock of database_open, so the check also works while a
// daemon runs. Changes no existing file. If the log has no index, SQLite creates one. Returns 0 or -errno. The error
// names the path.
int database_check(const char *path, struct error *error) MUST_CHECK;

// Opens another connection, which only reads. `parameters` is the query part of SQLite's file: URI. The caller closes
// *ret_connection, even after a failure. Returns 0 or -errno. The error does not name the path.
int database_open_readonly(const char *file, const char *parameters, sqlite3 **ret_connection,
                           struct error *error) MUST_CHECK;

// Checks that the paths of the database and its side files still lead to the open files. SQLite does not detect a
// deleted or replaced file: data that SQLite writes into such a file is lost, and processes that map different index
// files do not see each other's locks. Returns STORE_FAILURE_FATAL or STORE_FAILURE_NONE.
enum store_failure database_check_in_place(const struct database *database, struct error *error) MUST_CHECK;

// Returns true if this connection has written at least this number of frames since the last attempt to checkpoint.
bool database_checkpoint_due(const struct database *database, int frames);

// Runs a checkpoint, and sets checkpoint_blocked. `mode` is SQLITE_CHECKPOINT_PASSIVE or SQLITE_CHECKPOINT_TRUNCATE.
// database_recover_wal must have succeeded. A checkpoint that another process blocks is not a failure.
enum store_failure database_checkpoint(struct database *database, int mode, struct error *error) MUST_CHECK;

// Runs a last checkpoint, and waits up to 1 s for a reader that blocks it. Frames that are not copied stay in the log,
// which the next start recovers.
enum store_failure database_checkpoint_last(struct database *database, struct error *error) MUST_CHECK;

// Closes without a checkpoint. Both side files stay, even if they are empty: readers that may not create files cannot
// open a database in WAL mode without its side files.
void database_close(struct database *database);
