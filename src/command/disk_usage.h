// How much space the database takes, and how much is left.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

// The size of the database on disk and the space left on its file system.
struct disk_usage {
    int64_t database_bytes;
    int64_t log_bytes;   // size of the write-ahead log; 0 if the file does not exist
    int64_t free_bytes;  // space on the file system that the daemon can still use
    int64_t total_bytes; // space that the daemon could use if the file system were empty
};

// Measures the database at this path. Asks the file system, never SQLite, so that a busy or damaged database cannot
// delay the admin listener. Returns -errno if the database or its file system cannot be examined, or -ENOMEM.
int disk_usage_measure(const char *database, struct disk_usage *ret_usage, struct error *error) MUST_CHECK;
