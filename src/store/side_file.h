// The files that SQLite keeps next to a database. SQLite forms their names from the database's path after all symbolic
// links are resolved, and so must callers.
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "imcallbackd/base/error.h"

#define SIDE_FILE_LOG     "-wal"     // the write-ahead log
#define SIDE_FILE_INDEX   "-shm"     // the index of the write-ahead log, which the processes map as shared memory
#define SIDE_FILE_JOURNAL "-journal" // the rollback journal, used until the database is in WAL mode

// Asks for the status of a side file; the suffix "" stands for the database itself. Returns false, with errno, if the
// file does not exist or cannot be examined.
bool side_file_status(const char *database, const char *suffix, struct stat *ret_status);

// Refuses a side file that is not a regular file. SQLite would wait for ever to open a FIFO. The error names the path.
int side_file_check(const char *database, const char *suffix, struct error *error) MUST_CHECK;

// A side file that SQLite holds open. SQLite never looks at the path again, so this notices when the path does not lead
// to the open file any more.
struct side_file {
    char *path;
    ino_t inode;
};

// Remembers which file is at the path now. The error names the path.
int side_file_init(struct side_file *file, const char *database, const char *suffix, struct error *error) MUST_CHECK;

bool side_file_in_place(const struct side_file *file);

void side_file_finish(struct side_file *file); // a zeroed one is allowed
