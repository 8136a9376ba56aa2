// Deletes rows that are older than the retention and returns their space to the file system, in small steps between the
// batches. Only one thread at a time may call these functions, and never inside a transaction of the recorder.
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
    RETENTION_RELEASE_PAGES,
    RETENTION_STATEMENT_COUNT,
};

struct retention {
    struct recorder *recorder;
    sqlite3_stmt *statements[RETENTION_STATEMENT_COUNT];
    int64_t deleted_events; // deleted events so far; the owner may reset the number
};

// Returns 0 or -errno. The caller must call retention_finish even after a failure.
int retention_init(struct retention *retention, struct recorder *recorder, struct error *error) MUST_CHECK;

// Runs one short transaction. The transaction deletes some of the rows that were received more than keep_ms before now
// and whose id is not larger than the id for their table in `last`. The members of an event are deleted together with
// it. If no such row is found, the transaction returns some free pages to the file system, but keeps a reserve for new
// rows. Sets *ret_more to whether another step may have work to do. After a failure the caller calls recorder_rollback.
//
// "Now" is now_ms or one day after the newest event was received, whichever is earlier, so that a clock that runs far
// ahead does not delete everything. A store that receives nothing keeps its last events.
enum store_failure retention_step(struct retention *retention, int64_t now_ms, int64_t keep_ms,
                                  const struct shipped *last, bool *ret_more, struct error *error) MUST_CHECK;

void retention_finish(struct retention *retention); // a zeroed struct is allowed
