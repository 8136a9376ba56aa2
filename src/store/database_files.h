// The files of a database: the database itself and those that SQLite keeps next to it. SQLite resolves all symbolic
// links in the database's path before it forms their names, so callers must pass the resolved path.
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "imcallbackd/base/error.h"

#define SIDE_FILE_LOG     "-wal"     // the write-ahead log
#define SIDE_FILE_INDEX   "-shm"     // the index of the write-ahead log, which the processes map as shared memory
#define SIDE_FILE_JOURNAL "-journal" // the rollback journal, used until the database is in WAL mode

// Reads the status of a side file. Returns false if the file does not exist or cannot be examined.
bool side_file_status(const char *database, const char *suffix, struct stat *ret_status);

// Refuses a side file that is not a regular file. If the file were a FIFO, for example, SQLite would wait forever to
// open it. The error names the side file.
int side_file_check(const char *database, const char *suffix, struct error *error) MUST_CHECK;

// The files that a connection has open. SQLite never looks at the paths again, so this struct serves to detect that the
// paths no longer lead to the open files.
struct database_files {
    dev_t device;    // of the database only: if this file alone is a mount point, its side files are on another device
    ino_t inodes[3]; // of the database, its log and the index of the log; 0: the file did not exist
};

// Records which files are at the paths now.
void database_files_record(struct database_files *files, const char *database);

enum database_files_state {
    DATABASE_FILES_CURRENT,
    DATABASE_FILES_OUTDATED, // a side file was replaced, created or deleted; the database is the same
    DATABASE_FILES_REPLACED, // the path names another database file, or none
};

enum database_files_state database_files_check(const struct database_files *files, const char *database);
