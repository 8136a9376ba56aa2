// Records commits inside transactions that the caller starts and ends:
//   begin ─► record, any number of times ─► commit, or rollback after any failure
// Only one thread at a time may use a recorder. Errors do not name the path.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/store/commit.h"
#include "sqlite_error.h"

#include <sqlite3.h>

// The maximum size of the table rejected_callback; beyond it, the oldest rows are deleted. Without this limit, a client
// of a configured app could fill the disk with invalid bodies. Each row counts as the length of its body plus
// REJECTED_ROW_BYTES for all other columns.
#define REJECTED_MAX_BYTES ((int64_t)64 * 1024 * 1024)
#define REJECTED_ROW_BYTES 512

// An event without EventTime is a repeat if another such event of the same app and group, with an identical body, was
// received within this time before or after it.
#define REPEAT_WINDOW_MS ((int64_t)5 * 60 * 1000)

enum recorder_statement {
    RECORDER_BEGIN,
    RECORDER_COMMIT,
    RECORDER_ROLLBACK,
    RECORDER_TEST_WRITE,
    RECORDER_FIND_SAME_BODY,
    RECORDER_INSERT_GROUP,
    RECORDER_INSERT_MEMBER,
    RECORDER_INSERT_TEN_MEMBERS,
    RECORDER_FIND_SAME_IDENTITY,
    RECORDER_LIST_MEMBERS,
    RECORDER_INSERT_REJECTED,
    RECORDER_DROP_OLDEST_REJECTED,
    RECORDER_STATEMENT_COUNT,
};

struct recorder {
    sqlite3 *connection;
    sqlite3_stmt *statements[RECORDER_STATEMENT_COUNT];
    bool in_transaction;             // between begin and commit or rollback
    int64_t newest_event_id;         // id of the newest event, as of the last COMMIT; 0: there is none
    int64_t newest_event_id_pending; // the same id as the open transaction sees it
    int64_t rejected_bytes;          // size of rejected_callback as of the last COMMIT
    int64_t rejected_bytes_pending;  // the same size as the open transaction sees it
};

// Returns 0 or -errno. The caller must call recorder_finish even after a failure.
int recorder_init(struct recorder *recorder, sqlite3 *connection, struct error *error) MUST_CHECK;

enum store_failure recorder_begin(struct recorder *recorder, struct error *error) MUST_CHECK;
enum store_failure recorder_commit(struct recorder *recorder, struct error *error) MUST_CHECK;
void recorder_rollback(struct recorder *recorder);

// Records the commit, and sets its result to COMMIT_RECORDED, COMMIT_REPEATED or COMMIT_CONFLICT. After a failure the
// transaction may have recorded only a part of the commit, so the caller must roll back.
enum store_failure recorder_record(struct recorder *recorder, struct commit *commit, struct error *error) MUST_CHECK;

// Writes user_version with its current value, in a separate transaction, to find out whether a commit could be
// recorded. After a failure the caller calls recorder_rollback.
enum store_failure recorder_test_write(struct recorder *recorder, struct error *error) MUST_CHECK;

// Subtracts a row with a body of body_bytes from the size of rejected_callback that the recorder keeps. A caller that
// deletes such a row itself, inside the transaction, must call this.
void recorder_subtract_rejected(struct recorder *recorder, int64_t body_bytes);

void recorder_finish(struct recorder *recorder); // a zeroed struct is allowed
