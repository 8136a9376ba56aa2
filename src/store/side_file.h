// The files that SQLite puts beside a database, by the name of what its path really is (without links).
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#define SIDE_FILE_LOG     "-wal"     // the write-ahead log
#define SIDE_FILE_INDEX   "-shm"     // of the log, in shared memory
#define SIDE_FILE_JOURNAL "-journal" // takes back what was begun before the database was in WAL mode

// suffix: one of the above, or "" for the database itself. False: it is not there or cannot be looked at, with errno.
bool side_file_status(const char *database, const char *suffix, struct stat *ret_status);
