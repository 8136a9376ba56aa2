// The database file and the one connection that writes to it: opening, refusing, checkpoints. Used by one thread at a
// time.
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

// As it was when the database was opened.
struct database_side_file {
    char *path;
    ino_t inode;
};

struct database {
    sqlite3 *connection;
    char *path;
    int lock_fd; // holds the lock that keeps a second daemon out
    struct database_side_file log, index;
    bool log_held; // the last checkpoint could not write all of it back
    bool settled;  // what was in the log at the start is on disk for sure
};

// What a code of SQLite means for the one who wanted to write.
enum database_failure {
    DATABASE_FAILURE_PASSES,    // no room, somebody's lock, no memory: worth trying again, and nothing was committed
    DATABASE_FAILURE_FINAL,     // the disk or the file cannot be trusted any more, and what a commit left is unknown
    DATABASE_FAILURE_OF_VALUES, // lies in what was to be written; cannot happen with what comes over the network
};

// Takes the file for this process, opens or creates it and brings the schema up. A file that is not ours stays as it
// is. database_settle has to follow.
int database_open(struct database *database, const char *path, struct error *error) MUST_CHECK;

// Makes sure of what is in the write-ahead log: writes its bytes once more, syncs, and writes it back (TRUNCATE) if
// nobody is in the way. Until it has succeeded once, nothing may be written; then it does nothing. Returns SQLite's
// code with the error in words.
int database_settle(struct database *database, struct error *error) MUST_CHECK;

// Could database_open do its work? Changes nothing and needs no lock: goes beside a running daemon.
int database_check(const char *path, struct error *error) MUST_CHECK;

// A connection for reading beside the daemon's; parameters: of SQLite's file: URI. The caller closes *ret_connection in
// every case. The error does not name the path.
int database_open_readonly(const char *file, const char *parameters, sqlite3 **ret_connection,
                           struct error *error) MUST_CHECK;

// Are the database and its side files still what one finds at their paths? SQLite does not look again; what goes into
// files that were deleted or replaced is lost, and without the index, which has the locks, others do not see us.
bool database_in_place(const struct database *database);

// Have so many frames gone into the write-ahead log since the last checkpoint was tried?
bool database_checkpoint_due(const struct database *database, int frames);

// mode: SQLITE_CHECKPOINT_PASSIVE or _TRUNCATE. Returns SQLite's code.
int database_checkpoint(struct database *database, int mode);

// Did a reader keep the last checkpoint from writing all of the log back, so that the log can only become longer?
bool database_log_is_held(const struct database *database);

// Writes nothing: who wants the log written back does a checkpoint before. Both side files stay, empty or not, because
// readers without the right to create them cannot read a database in WAL mode otherwise.
void database_close(struct database *database);

// To be asked before anything else is done with the connection.
enum database_failure database_failure(sqlite3 *connection, int code);

// The connection's last error in words with the remedy. Returns the -errno that comes nearest.
int database_error(sqlite3 *connection, struct error *error);
