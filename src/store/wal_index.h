// The index of the write-ahead log, which SQLite shares between the processes that have the database open. It lives as
// long as one of them does, so who reads while the daemon ends and starts keeps it. What it says is believed: which
// frames of the log count, and how many of them were written back. Neither need be true of what is on the disk. Of the
// latter only a checkpoint that comes to the end of the log is synced, and its sync may have failed.
#pragma once

#include "imcallbackd/base/error.h"

// To be called before this process opens the database. Has SQLite then make the index anew from the log, whose
// checksums it verifies, and write all of the log back once more. Waits for another process's checkpoint, 5 s at most;
// where one writes for long, only the number of frames that were written back is forgotten. database: without links in
// its path. The error names the file.
int wal_index_distrust(const char *database, struct error *error) MUST_CHECK;
