// Records received callbacks in one SQLite database. One thread, the writer thread, owns the only connection that
// writes and checkpoints. Other threads submit commits; done() returns each commit with its result.

// The writer thread takes the waiting commits in batches. A batch is recorded with one transaction and one fsync, and
// its finished commits are returned with one call of done().
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/store/commit.h"

// The metrics of the store that other modules read: the callbacks that share one commit, and the duration of a commit.
extern const struct metric store_batch_callbacks, store_commit_seconds;

struct store_callbacks {
    // Returns the finished commits, a list linked by next, to their owners. The function runs on the writer thread and
    // delays the next batch, so it must return quickly. The function may submit further commits.
    void (*done)(void *context, struct commit *finished);
    // The store calls this at most once, on the writer thread or in store_close, after the first failure that is final.
    // From then on the store acknowledges nothing: it returns every commit as COMMIT_FAILED, the affected ones after
    // this call.
    void (*broken)(void *context, const struct error *error);
    void *context;
};

// The metrics of the store. NULL ends the list.
extern const struct metric *const store_metrics[];

struct store;

// Opens or creates the database, upgrades its schema, recovers what a crash left in the write-ahead log, and starts the
// writer thread. If a shortage prevents the recovery, the writer thread recovers before its first batch. Every error
// about the database names the path, and a remedy if there is one.
int store_open(const char *path, const struct store_callbacks *callbacks, struct store **ret_store,
               struct error *error) MUST_CHECK;

// Hands the commit over to the store until done(). Any thread may call this until store_close starts.
void store_submit(struct store *store, struct commit *commit);

// Returns false and sets *ret_why to the cause if a failure is final, or if a shortage prevented the last attempt to
// record or to recover the write-ahead log. Any thread may call this.
bool store_ready(struct store *store, struct error *ret_why);

// Returns the id of the newest event, or 0 if there was none at the start and none since. Any thread may call this.
int64_t store_newest_event_id(const struct store *store);

// Returns the version of SQLite.
const char *store_library_version(void);

// Sets the retention: the writer thread deletes rows that were received more than keep_ms ago, members together with
// their event, in small steps, and then returns free space to the file system. The age counts from now, or from one day
// after the newest event was received if that is earlier. 0, the initial value, keeps everything. Any thread may call
// this.
void store_set_retention(struct store *store, int64_t keep_ms);

#define STORE_MAX_SHIPPED_FILES 2 // one of `forward` and one of `deliver`

// Restricts deletion to the rows that every note at these paths (shipped.h) reports as shipped; unless all notes are
// valid, the store deletes nothing. A NULL path stands for no note. Without any note, as initially, only the age
// decides. Any thread may call this. Returns 0, or -ENOMEM without a change.
int store_set_shipped_files(struct store *store, const char *const paths[STORE_MAX_SHIPPED_FILES]) MUST_CHECK;

// Returns the time on the monotonic clock at which the writer thread started its current step (one attempt at a batch,
// one call of done(), or housekeeping such as a checkpoint), or 0 between steps. A very long step usually means that
// the disk hangs. Any thread may call this.
int64_t store_busy_since_ms(const struct store *store);

// Ends the retries: from now on, a commit fails if it cannot be recorded at once. Any thread may call this.
void store_stop_retrying(struct store *store);

// Stops the retries, waits until done() has returned all submitted commits, checkpoints, and closes the database.
// done() must not call this. NULL is allowed.
void store_close(struct store *store);

// Returns the version of SQLite, such as "3.40.1".
const char *store_sqlite_version(void);

// Checks that store_open could open and write the database. Changes nothing. `imcallbackd check` calls this.
int store_check(const char *path, struct error *error) MUST_CHECK;
