// Deletes what has been kept for long enough, and gives its room on the disk back, in small steps between the batches.
// Used by one thread at a time, outside of the recorder's transactions.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/store/shipped.h"
#include "recorder.h"

#include <sqlite3.h>

enum retention_statement {
    RETENTION_FIND_NEWEST,
    RETENTION_FIND_OLD,
    RETENTION_DELETE_MEMBERS,
    RETENTION_DELETE_GROUP,
    RETENTION_DELETE_REJECTED,
    RETENTION_COUNT_FREE_PAGES,
    RETENTION_GIVE_PAGES_BACK,
    RETENTION_STATEMENT_COUNT,
};

struct retention {
    struct recorder *recorder;
    sqlite3_stmt *statements[RETENTION_STATEMENT_COUNT];
    int64_t deleted_events; // counts up; the owner may set it back
};

// These return SQLite's code.
int retention_init(struct retention *retention, struct recorder *recorder);

// One short transaction: deletes some of what was received more than keep_ms ago and whose id is none after the last
// ones, members with their event; when there is nothing of that any more, gives some pages back to the file system.
// *ret_more: there is more to do.
//
// Now is no later than a day after the newest event was received, so that a clock that runs far ahead does not delete
// everything; a store to which nothing comes keeps its last events.
int retention_step(struct retention *retention, int64_t now_ms, int64_t keep_ms, const struct shipped *last,
                   bool *ret_more);

// Of something that retention_init failed on, too.
void retention_finish(struct retention *retention);
