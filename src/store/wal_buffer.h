// Makes SQLite write the frames of a commit to the write-ahead log with one system call. SQLite's own file layer makes
// two system calls for each frame, which took a quarter of the writer thread's processor time.
#pragma once

#include <sqlite3.h>

// The name of a file layer (VFS) for sqlite3_open_v2. The layer collects consecutive writes to the log in memory. It
// passes them on before SQLite syncs, reads, measures, truncates or closes the log, before a write to another place,
// and when the buffer is full.
//
// A failed write is therefore reported by a later call. For a commit this is at the latest the sync, so a commit still
// succeeds only after all its bytes are written and synced. Other processes never miss the bytes in memory: SQLite
// publishes frames in the index of the log (-shm) only after that sync, which synchronous=FULL guarantees.
#define WAL_BUFFER_VFS "imcallbackd"

// Registers the layer on top of SQLite's default layer. May be called again, but not while another thread opens a
// database. Returns SQLite's result code.
int wal_buffer_register(void);

// Discards the bytes in memory. The caller calls this after each rollback on a connection of the layer, before it uses
// the connection again. A large transaction spills pages into the log before its commit. If they stayed in memory, a
// later call would write them over frames that another process has committed meanwhile. Does nothing if the connection
// has another layer or no log.
void wal_buffer_discard(sqlite3 *connection);
