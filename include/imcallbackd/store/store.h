// The store: what was received, in one SQLite database, written by one thread through one connection, which is also the
// only one that checkpoints. Callers on any thread submit and are told when it is on disk; nobody else waits for it.
//
// Life of a commit: the owner fills it and submits it ─► it waits ─► the writer takes everything that waits as one
// batch, one transaction, one fsync ─► done() gets the finished chain, once a batch, on the writer's thread. From
// submit to done the store alone may touch the commit and what it points to; after done it never touches them again.
//
// When the database cannot be written for a reason that may pass (no room, a quota, a file system made read-only,
// somebody's lock, no memory) the batch is rolled back and tried again, with what came meanwhile, until each commit's
// time is over; store_ready tells. After an I/O error or in a damaged file nothing is tried again: what a failed fsync
// left is unknown until the next start has read it back.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/callback/event.h"

enum commit_result {
    COMMIT_RECORDED, // on disk
    COMMIT_REPEATED, // the same event was on disk before (or is by an earlier commit of this batch)
    COMMIT_CONFLICT, // the identity was on disk with other content: the first stays, this one is in rejected_callback
    COMMIT_FAILED,   // not acknowledged; may be on disk all the same when the disk failed in the commit itself
};

// Exactly one of group and rejected is set.
struct commit {
    const struct destroyed_group *group;
    const struct rejected_callback *rejected;
    int64_t give_up_at_ms; // by the monotonic clock: how long the store may try; it does so once in any case
    enum commit_result result;
    struct commit *next; // the store's while it waits; the chain when it is done
    bool held;           // the store's own: it has to be tried again
};

struct store_callbacks {
    // Gets the finished commits, linked by next. Must not block for long: the next batch waits for it.
    void (*done)(void *context, struct commit *finished);
    // The disk failed or the database is damaged: nothing is acknowledged from now on and every commit comes back
    // COMMIT_FAILED. Called once, before the commits that it hit are given back, on the writer's thread or by
    // store_close.
    void (*broken)(void *context, const struct error *error);
    void *context;
};

// The metrics of the store; the list ends with NULL.
extern const struct metric *const store_metrics[];

struct store;

// Opens or creates the database, brings the schema up, makes sure of what a crash left in the write-ahead log, writes
// it back, and starts the writer. When that cannot be done for a reason that may pass, the writer does it before its
// first batch. Errors name the path and the remedy.
int store_open(const char *path, const struct store_callbacks *callbacks, struct store **ret_store,
               struct error *error) MUST_CHECK;

void store_submit(struct store *store, struct commit *commit);

// Can it record at the moment? When not, says why in words. Any thread may call.
bool store_ready(struct store *store, struct error *ret_why);

// What was received longer ago than this is deleted, members with their event, a little at a time; the room on the disk
// is given back. It counts from now, or from a day after the newest event was received when that is earlier. 0, as it
// is in the beginning: everything is kept for ever. Any thread may call.
void store_set_retention(struct store *store, int64_t keep_ms);

// Of that, only what was shipped by the note at this path (shipped.h) is deleted; without a note, nothing. NULL, as it
// is in the beginning: nothing is shipped, and the age alone counts. Any thread may call. Returns 0 or -ENOMEM, and
// then nothing has changed.
int store_set_shipped_file(struct store *store, const char *shipped_path) MUST_CHECK;

// Since when, by the monotonic clock, the writer has been at one step: to try a batch once, or to write the log back.
// Such a step ends soon, whatever its outcome, unless the disk hangs. 0 while the writer rests. Any thread may call.
int64_t store_busy_since_ms(const struct store *store);

// From now on what cannot be recorded at once is given up. Any thread may call.
void store_stop_retrying(struct store *store);

// Hurries, finishes everything that was submitted (done is called for it), checkpoints, closes. NULL is allowed.
void store_close(struct store *store);

// For `imcallbackd check`: can the store be opened and written as it stands? Changes nothing that is there.
int store_check(const char *path, struct error *error) MUST_CHECK;
