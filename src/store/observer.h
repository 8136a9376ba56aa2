// A connection that only looks: beside a daemon that records, when it is stopped, and at what one that was killed left.
//
// It opens the index of the write-ahead log for reading only, even where it may write. So it takes no lock in it but
// shared ones, repairs nothing, checkpoints nothing, and needs no more rights than a member of the daemon's group has.
// Where that index is missing (a copy of the file alone) SQLite has to make one, and needs a directory to write to.
#pragma once

#include <sys/types.h>

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

// The database, its write-ahead log and the log's index.
#define OBSERVER_FILES 3

struct observer {
    sqlite3 *connection;
    char *path; // without links, as SQLite puts its side files beside that
    dev_t device;
    ino_t inodes[OBSERVER_FILES]; // that they had before they were opened; 0: was not there
};

enum observer_place {
    OBSERVER_IN_PLACE,
    OBSERVER_SIDE_FILE_CHANGED, // the same database, to be opened anew
    OBSERVER_REPLACED,          // the database is not what one finds at its path any more
};

// Errors name the path and the remedy.
int observer_open(struct observer *observer, const char *path, struct error *error) MUST_CHECK;

// Begins to read: from here to observer_end all is seen as it is now, and the daemon's log only grows. What is in the
// way for a moment (the daemon starts and recovers) is waited for. Refuses what is not our database.
int observer_begin(struct observer *observer, struct error *error) MUST_CHECK;
void observer_end(struct observer *observer);

// The connection's last failure in words, with the path. Returns -errno.
int observer_failed(struct observer *observer, struct error *error);

enum observer_place observer_place(const struct observer *observer);

void observer_close(struct observer *observer); // of one that was not opened, too, if it is zeroed
