// Records commits, inside of transactions that its caller begins and ends:
//   begin ─► record any number of times ─► commit, or rollback after any failure
// Functions that return int give SQLite's extended code. Used by one thread at a time.
#pragma once

#include <stdint.h>

#include "imcallbackd/store/store.h"

#include <sqlite3.h>

// rejected_callback is bounded, because anybody whose callbacks we take can fill it. A row counts as its body and, for
// all else in it, a lump sum.
#define REJECTED_MAX_BYTES ((int64_t)64 * 1024 * 1024)
#define REJECTED_ROW_BYTES 512

// Without EventTime a byte-identical body within this time is the same event.
#define REPEAT_WINDOW_MS ((int64_t)5 * 60 * 1000)

enum recorder_statement {
    RECORDER_BEGIN,
    RECORDER_COMMIT,
    RECORDER_ROLLBACK,
    RECORDER_PROBE,
    RECORDER_FIND_UNTIMED,
    RECORDER_INSERT_GROUP,
    RECORDER_INSERT_MEMBER,
    RECORDER_INSERT_TEN_MEMBERS,
    RECORDER_FIND_TWIN,
    RECORDER_LIST_MEMBERS,
    RECORDER_INSERT_REJECTED,
    RECORDER_DROP_OLDEST_REJECTED,
    RECORDER_STATEMENT_COUNT,
};

struct recorder {
    sqlite3 *connection;
    sqlite3_stmt *statements[RECORDER_STATEMENT_COUNT];
    int64_t rejected_bytes;         // in rejected_callback, as it is on disk
    int64_t rejected_bytes_pending; // and as the open transaction sees it
};

int recorder_init(struct recorder *recorder, sqlite3 *connection);

int recorder_begin(struct recorder *recorder);
int recorder_commit(struct recorder *recorder);
void recorder_rollback(struct recorder *recorder);

// A transaction of its own that changes nothing, but writes a page: fails when a callback could not be recorded.
// Rollback after a failure.
int recorder_probe(struct recorder *recorder);

// Somebody else deleted a row of rejected_callback inside the transaction, with a body of so many bytes.
void recorder_forget_rejected(struct recorder *recorder, int64_t body_bytes);

// Sets the commit's result. After a failure parts of the commit may be in the transaction.
int recorder_record(struct recorder *recorder, struct commit *commit);

// Of something that recorder_init failed on, too.
void recorder_finish(struct recorder *recorder);
