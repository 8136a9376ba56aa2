// Recovers what a crash or a failed disk left in SQLite's write-ahead log (WAL), so that afterwards everything that can
// be read is on disk.

// The three files:
//   DATABASE       the pages as of the last checkpoint
//   DATABASE-wal   the write-ahead log. A commit appends frames (a page with a checksum each) and syncs them. A
//                  checkpoint copies the frames into the database, syncs the database, and lets the log start over.
//   DATABASE-shm   the index of the log: which frames are valid, how many of them a checkpoint has copied, and one byte
//                  for each lock. All processes that have the database open map it as shared memory.
//
// Why the log's bytes cannot be trusted. After a failed fsync the kernel marks the pages clean although they may not be
// on disk. Reads return them from the page cache as if nothing had happened, later syncs succeed without writing them,
// and the next power failure destroys them. The start after a failed commit reads the log from that cache, finds the
// checksums correct, and would acknowledge a repeat of an event that is not on disk. Only writing the same bytes again
// marks the pages dirty, so that the next sync writes them.
//
// Why the index cannot be trusted. SQLite never syncs the index, and the index outlives the daemon as long as another
// process (a reader over a restart, for example) has the database open. SQLite trusts the index if the checksum of its
// header is correct. However:
//   - its count of copied frames may include frames that a checkpoint copied without a successful sync of the database:
//     SQLite syncs the database only when a checkpoint reaches the end of the log, and that sync may have failed;
//   - it may miss frames at the end of the log, if it was deleted and other processes created a new one.
//
// The recovery has three steps, all before the first event is written. Only the schema is created or upgraded earlier,
// between steps 1 and 2, and step 2 syncs those frames with the others.
//   1. Before this process opens the database: wal_recovery_force_rebuild zeroes the header and the count of copied
//      frames in the index. The next connection rebuilds the index from the log and verifies the frames' checksums.
//   2. wal_recovery_complete takes the write lock, so that nothing is appended, rewrites all bytes of the log in place,
//      syncs the log, and releases the lock.
//   3. wal_recovery_complete then runs a checkpoint (TRUNCATE). Because the count is zero, the checkpoint copies all
//      frames, syncs the database, and truncates the log. If a reader or a shortage prevents the checkpoint, the
//      log stays, which is safe: its bytes are on disk now.
//
// A reader that keeps the database open over the restart keeps a valid snapshot and valid locks: a rebuild yields the
// same frames in the same order, and a checkpoint copies nothing that the snapshot must not see. The reader may get
// SQLITE_BUSY or SQLITE_PROTOCOL for a moment while the index is rebuilt.
#pragma once

#include "imcallbackd/base/error.h"
#include "sqlite_error.h"

// Checks that the index, if there is one, is a regular file of the known format. Changes nothing. The error names the
// index. Must not be called while this process has the database open, because closing a descriptor drops SQLite's
// locks on the index.
int wal_recovery_check_index(const char *database, struct error *error) MUST_CHECK;

// Step 1. Must be called before this process opens the database; database is a path without symbolic links. Waits up to
// 5 s for a checkpoint of another process, and then fails. If another process holds the write lock or the recovery lock
// for more than 0.5 s, only the count of copied frames is zeroed. Refuses what wal_recovery_check_index refuses.
int wal_recovery_force_rebuild(const char *database, struct error *error) MUST_CHECK;

// Steps 2 and 3. May change the busy timeout of the connection. After STORE_FAILURE_RETRY nothing may be written to the
// database until a later call succeeds.
enum store_failure wal_recovery_complete(sqlite3 *connection, struct error *error) MUST_CHECK;

// Part of step 2, public for its test: rewrites all bytes of a file in place and syncs the file. No other process may
// write to the file during the call. Does nothing if the file does not exist. The error names the path.
int wal_recovery_rewrite_file(const char *path, struct error *error) MUST_CHECK;
