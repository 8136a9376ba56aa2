// Copies the state of the database at one instant, even while a daemon records.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

// Receives the progress of a backup on the thread that called backup_make: after every 1,024 copied pages, and at
// irregular intervals while the rows are counted and the copy is checked.
struct backup_progress {
    // done_bytes is 0 until the first pages have been copied, and equals total_bytes while the copy is checked.
    void (*report)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};

// Creates the file `target` with mode 0640, restricted by the umask. Until the copy is complete, checked and on disk,
// its name is TARGET.partial-PID; a failed backup leaves no file. The copy is one file without side files. The daemon
// can record during the backup, but its write-ahead log grows until the copy is complete.
//
// A process can run only one backup at a time. Errors name the path. Returns 0, -EEXIST if the target exists,
// -ECANCELED if backup_cancel was called before the copy was complete and checked, or another -errno. progress may be
// NULL.
int backup_make(const char *database, const char *target, const struct backup_progress *progress,
                struct error *error) MUST_CHECK;

// Cancels the running backup, or the next one if none is running. Only a signal handler or progress->report may call
// this function, on the thread that runs backup_make. On another thread, the call could interrupt a connection that
// backup_make is closing, which SQLite does not allow.
void backup_cancel(void);
