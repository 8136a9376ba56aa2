// Examines the files of a database: the database itself and those that SQLite keeps next to it. SQLite resolves all
// symbolic links in the database's path before it forms the names of the others, so callers must pass the resolved
// path.
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "imcallbackd/base/error.h"

#define SIDE_FILE_LOG     "-wal"     // the write-ahead log
#define SIDE_FILE_INDEX   "-shm"     // the index of the write-ahead log, which the processes map as shared memory
#define SIDE_FILE_JOURNAL "-journal" // the rollback journal, used until the database is in WAL mode

// Reads the status of a side file, or of the database itself if the suffix is "". Returns false if the file does not
// exist or cannot be examined.
bool side_file_status(const char *database, const char *suffix, struct stat *ret_status);

// Refuses a side file that is not a regular file. If the file were a FIFO, for example, SQLite could block forever when
// it opens the file. A missing file is allowed. Returns 0 or -EINVAL. The error names the side file.
int side_file_check(const char *database, const char *suffix, struct error *error) MUST_CHECK;

// Identifies the files that a connection has open. SQLite does not detect that a path no longer leads to the open file,
// so the store compares this struct with the files at the paths.
struct database_files {
    dev_t device;    // of the database only: if this file alone is a mount point, its side files are on another device
    ino_t inodes[3]; // of the database, its log and the index of the log; 0: the file was not found
};

// Records which files are at the paths now. Records a file that does not exist or cannot be examined as 0.
void database_files_record(struct database_files *files, const char *database);

enum database_files_state {
    DATABASE_FILES_CURRENT,
    DATABASE_FILES_OUTDATED, // a side file was replaced, created or deleted; the database is the same
    DATABASE_FILES_REPLACED, // the path names another database file, or none
};

enum database_files_state database_files_check(const struct database_files *files, const char *database);
