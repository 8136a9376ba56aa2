// Decides when the writer thread retries, gives up, checkpoints and deletes. The functions that this file calls do the
// work and classify their failures (enum store_failure); this file decides how the store reacts.
#include "imcallbackd/store/store.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "commit_queue.h"
#include "database.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "recorder.h"
#include "retention.h"

// The number of frames written since the last checkpoint after which the store checkpoints again, without and with
// commits waiting. The second number is larger because a checkpoint delays waiting commits by a few milliseconds for
// each 1,000 frames (4 MB).
#define CHECKPOINT_FRAMES_IDLE   1000
#define CHECKPOINT_FRAMES_LOADED 4000

// The pause between two steps of the deletion, without and with commits waiting.
#define RETENTION_PAUSE_MS        10
#define RETENTION_PAUSE_LOADED_MS 100
// The pause before the next attempt if a reader blocks the checkpoint.
#define RETENTION_BLOCKED_MS 100
// How often the writer thread checks whether rows have become older than the retention.
#define RETENTION_CHECK_MS 60000

// How often an idle writer thread checks whether a shortage is over.
#define SHORTAGE_CHECK_MS 1000

const struct metric store_batch_callbacks = {METRIC_HISTOGRAM("imcallbackd_commit_batch_callbacks",
                                                              "Callbacks that share one commit.", 0, 1, 2, 4, 8, 16, 32,
                                                              64, 128, 256, 512, COMMIT_BATCH_MAX_COMMITS)};
const struct metric store_commit_seconds = {
    METRIC_HISTOGRAM("imcallbackd_commit_seconds", "How long a commit takes, with its fsync.", 6, 100, 250, 500, 1000,
                     2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000)};

const struct metric *const store_metrics[] = {&store_batch_callbacks, &store_commit_seconds, NULL};

struct store {
    struct store_callbacks callbacks;
    struct database database; // this and the next six fields: used by the writer thread alone while the thread runs
    struct recorder recorder;
    struct retention retention;
    int64_t retention_due_ms;     // time of the next step, on the monotonic clock
    int64_t retention_due_for_ms; // the keep_ms that retention_due_ms was set for
    bool broken;
    struct log_rate_limit shortages;
    atomic_bool stop_retrying;
    atomic_int_fast64_t newest_event_id;
    atomic_int_fast64_t keep_ms; // 0: everything is kept
    pthread_mutex_t lock;        // guards the next three fields
    bool ready;
    struct error why_not_ready;
    char *shipped_paths[STORE_MAX_SHIPPED_FILES]; // see store_set_shipped_files
    struct commit_queue queue;
};

static void store_set_ready(struct store *store, const struct error *why_not)
{
    bool was_ready;

    assert(!store->broken || why_not);
    pthread_mutex_lock(&store->lock);
    was_ready = store->ready;
    store->ready = !why_not;
    if (why_not)
        store->why_not_ready = *why_not;
    pthread_mutex_unlock(&store->lock);
    if (!why_not && !was_ready)
        log_info("%s: callbacks can be recorded again", store->database.path);
}

bool store_ready(struct store *store, struct error *ret_why)
{
    bool ready;

    pthread_mutex_lock(&store->lock);
    ready = store->ready;
    if (!ready)
        *ret_why = store->why_not_ready;
    pthread_mutex_unlock(&store->lock);
    return ready;
}

// Adds the path and `what` to the error. A fatal failure breaks the store and is reported through callbacks.broken; any
// other failure is logged with a rate limit.
static void store_report(struct store *store, enum store_failure failure, const char *what, struct error *error)
{
    unsigned int suppressed;

    assert(failure != STORE_FAILURE_NONE && !store->broken);
    error_wrap(error, "%s: %s", store->database.path, what);
    if (failure == STORE_FAILURE_FATAL) {
        store->broken = true;
        store_set_ready(store, error);
        store->callbacks.broken(store->callbacks.context, error);
    } else if (log_rate_limit_allows(&store->shortages, &suppressed)) {
        log_error("%s (and %u more since the last such line)", error->text, suppressed);
    }
}

// Runs one transaction for all commits of the batch that are not COMMIT_FAILED yet. If SQLite rejects a commit's value,
// marks that commit as COMMIT_FAILED and returns STORE_FAILURE_VALUE: the caller retries the batch without that commit.
static enum store_failure store_transact(struct store *store, struct commit *batch)
{
    struct error error;
    enum store_failure failure = recorder_begin(&store->recorder, &error);
    struct commit *culprit = NULL;

    assert(!store->broken && store->database.wal_recovered);
    for (struct commit *commit = batch; commit && failure == STORE_FAILURE_NONE; commit = commit->next) {
        if (commit->result == COMMIT_FAILED)
            continue;
        failure = recorder_record(&store->recorder, commit, &error);
        culprit = failure == STORE_FAILURE_VALUE ? commit : NULL;
    }
    if (failure == STORE_FAILURE_NONE)
        failure = recorder_commit(&store->recorder, &error);
    // A commit into files to which the paths no longer lead is lost, so it must not be acknowledged.
    if (failure == STORE_FAILURE_NONE)
        failure = database_check_in_place(&store->database, &error);
    if (failure == STORE_FAILURE_NONE) {
        store->newest_event_id = store->recorder.newest_event_id;
        return failure;
    }
    store_report(store, failure, "callbacks cannot be recorded", &error);
    if (failure == STORE_FAILURE_FATAL)
        return failure;
    recorder_rollback(&store->recorder);
    if (failure == STORE_FAILURE_RETRY) {
        store_set_ready(store, &error);
    } else {
        assert(culprit); // neither BEGIN nor COMMIT has values
        culprit->result = COMMIT_FAILED;
    }
    return failure;
}

static enum store_failure store_recover_wal(struct store *store)
{
    struct error error;
    enum store_failure failure = database_recover_wal(&store->database, &error);

    if (failure == STORE_FAILURE_NONE)
        return failure;
    store_report(store, failure, "the write-ahead log cannot be recovered", &error);
    if (failure == STORE_FAILURE_RETRY)
        store_set_ready(store, &error);
    return failure;
}

static void store_checkpoint(struct store *store)
{
    struct error error;
    enum store_failure failure = database_checkpoint(&store->database, SQLITE_CHECKPOINT_PASSIVE, &error);

    if (failure != STORE_FAILURE_NONE)
        store_report(store, failure, "the checkpoint of the write-ahead log failed", &error);
}

static enum store_failure store_try(struct store *store, struct commit *batch)
{
    enum store_failure failure = store_recover_wal(store);

    // Frames that may not be on disk must neither get into the database nor be followed by new frames.
    if (failure != STORE_FAILURE_NONE)
        return failure;
    do {
        failure = store_transact(store, batch);
    } while (failure == STORE_FAILURE_VALUE);
    // After a complete checkpoint the log starts over in the space that it already has, so a retry can succeed even if
    // the disk is full.
    if (failure == STORE_FAILURE_RETRY)
        store_checkpoint(store);
    return failure;
}

// A broken store may have an open transaction, which it never uses again.
static void assert_between_transactions(const struct store *store)
{
    assert(commit_queue_is_writer(&store->queue));
    assert(store->broken || !store->recorder.in_transaction);
}

static void store_write(void *context, struct commit *batch)
{
    struct store *store = context;
    int64_t start_us = clock_monotonic_us(), now_ms, callbacks = 0;

    assert_between_transactions(store);
    assert(batch);
    for (struct commit *commit = batch; commit; commit = commit->next) {
        commit->result = COMMIT_RECORDED;
        commit->retry = false;
        callbacks++;
    }
    assert(callbacks <= COMMIT_BATCH_MAX_COMMITS);
    if (!store->broken && store_try(store, batch) == STORE_FAILURE_NONE) {
        metric_observe(&store_commit_seconds, clock_monotonic_us() - start_us);
        metric_observe(&store_batch_callbacks, callbacks);
        store_set_ready(store, NULL);
        return;
    }
    now_ms = clock_monotonic_ms();
    for (struct commit *commit = batch; commit; commit = commit->next) {
        commit->retry = commit->result != COMMIT_FAILED && !store->broken && !store->stop_retrying &&
                        now_ms < commit->give_up_at_ms;
        commit->result = COMMIT_FAILED;
    }
}

static void store_done(void *context, struct commit *finished)
{
    struct store *store = context;

    assert_between_transactions(store);
    store->callbacks.done(store->callbacks.context, finished);
}

// Checks whether a shortage is over, so that the store becomes ready again even if no callback arrives.
static void store_test_write(struct store *store)
{
    struct error error;
    enum store_failure failure;

    assert(!store->broken && !store->ready);
    if (store_recover_wal(store) != STORE_FAILURE_NONE)
        return;
    failure = recorder_test_write(&store->recorder, &error);
    if (failure == STORE_FAILURE_NONE) {
        store_set_ready(store, NULL);
        return;
    }
    store_report(store, failure, "callbacks cannot be recorded", &error);
    if (failure != STORE_FAILURE_FATAL)
        store_set_ready(store, &error);
    recorder_rollback(&store->recorder);
}

// Returns the largest ids that may be deleted. If any note is missing or invalid, no id may be deleted.
static struct shipped store_deletable_ids(struct store *store)
{
    struct shipped last = {INT64_MAX, INT64_MAX};
    struct error error;

    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < STORE_MAX_SHIPPED_FILES; i++) {
        struct shipped noted;

        if (!store->shipped_paths[i])
            continue;
        if (shipped_read(store->shipped_paths[i], store->database.path, &noted, &error) < 0)
            noted = (struct shipped){0};
        last.group_id = noted.group_id < last.group_id ? noted.group_id : last.group_id;
        last.rejection_id = noted.rejection_id < last.rejection_id ? noted.rejection_id : last.rejection_id;
    }
    pthread_mutex_unlock(&store->lock);
    return last;
}

// Returns true if retention must wait or the store is broken. Deletions make the log longer, and while a reader blocks
// the checkpoint, the log would take the space that callbacks need.
static bool store_retention_is_blocked(struct store *store)
{
    if (store->database.checkpoint_blocked)
        store_checkpoint(store);
    return store->broken || store->database.checkpoint_blocked;
}

// Runs one step of the deletion. Returns the number of milliseconds until the next step is due.
static int64_t store_delete_some(struct store *store, int64_t keep_ms, bool idle)
{
    struct retention *retention = &store->retention;
    struct shipped last = store_deletable_ids(store);
    struct error error;
    bool more;
    enum store_failure failure = retention_step(retention, clock_realtime_ms(), keep_ms, &last, &more, &error);

    if (failure != STORE_FAILURE_NONE) {
        store_report(store, failure, "events older than the retention cannot be deleted", &error);
        recorder_rollback(&store->recorder);
        more = false;
    }
    if (!more && retention->deleted_events > 0) {
        log_info("%s: deleted %" PRId64 " events that were older than the retention", store->database.path,
                 retention->deleted_events);
        retention->deleted_events = 0;
    }
    return !more ? RETENTION_CHECK_MS : idle ? RETENTION_PAUSE_MS : RETENTION_PAUSE_LOADED_MS;
}

// Deletes some of the rows that are older than the retention, if a deletion is due. Returns the number of milliseconds
// until the next deletion is due, or -1 if everything is kept.
static int64_t store_apply_retention(struct store *store, bool idle)
{
    int64_t keep_ms = store->keep_ms, now_ms = clock_monotonic_ms(), wait_ms;

    if (keep_ms == 0)
        return -1;
    if (keep_ms == store->retention_due_for_ms && now_ms < store->retention_due_ms)
        return store->retention_due_ms - now_ms;
    wait_ms = store_retention_is_blocked(store) ? RETENTION_BLOCKED_MS : store_delete_some(store, keep_ms, idle);
    store->retention_due_for_ms = keep_ms;
    store->retention_due_ms = now_ms + wait_ms;
    return wait_ms;
}

static int64_t store_housekeep(void *context, bool idle)
{
    struct store *store = context;

    assert_between_transactions(store);
    if (!store->broken && store->database.wal_recovered &&
        database_checkpoint_due(&store->database, idle ? CHECKPOINT_FRAMES_IDLE : CHECKPOINT_FRAMES_LOADED))
        store_checkpoint(store);
    if (!store->broken && !store->ready && idle)
        store_test_write(store);
    if (store->broken)
        return -1;
    return store->ready ? store_apply_retention(store, idle) : SHORTAGE_CHECK_MS;
}

// Prepares the statements and recovers the write-ahead log. If a shortage prevents the recovery, returns 0 and leaves
// the recovery to the writer thread.
static int store_prepare(struct store *store, struct error *error)
{
    enum store_failure failure;
    int r = recorder_init(&store->recorder, store->database.connection, error);

    store->newest_event_id = store->recorder.newest_event_id;
    if (r == 0)
        r = retention_init(&store->retention, &store->recorder, error);
    if (r < 0) {
        error_wrap(error, "%s", store->database.path);
        return r;
    }
    failure = database_recover_wal(&store->database, error);
    if (failure == STORE_FAILURE_NONE)
        return 0;
    error_wrap(error, "%s: the write-ahead log cannot be recovered", store->database.path);
    if (failure == STORE_FAILURE_FATAL)
        return -EIO;
    log_warning("%s", error->text);
    store_set_ready(store, error);
    return 0;
}

int store_open(const char *path, const struct store_callbacks *callbacks, struct store **ret_store, struct error *error)
{
    struct store *store = calloc(1, sizeof *store);
    struct commit_queue_functions functions = {store_write, store_done, store_housekeep, store};
    bool was_ready;
    int r;

    assert(callbacks->done && callbacks->broken);
    if (!store)
        return error_set(error, ENOMEM, "%s: out of memory", path);
    store->callbacks = *callbacks;
    store->ready = true;
    pthread_mutex_init(&store->lock, NULL);
    r = database_open(&store->database, path, error);
    if (r < 0)
        goto fail_database;
    r = store_prepare(store, error);
    if (r < 0)
        goto fail;
    was_ready = store->ready;
    r = commit_queue_start(&store->queue, &functions, error);
    if (r < 0)
        goto fail;
    if (!was_ready)
        commit_queue_wake(&store->queue); // housekeeping retries the recovery
    *ret_store = store;
    return 0;

fail:
    retention_finish(&store->retention);
    recorder_finish(&store->recorder);
    database_close(&store->database);
fail_database:
    pthread_mutex_destroy(&store->lock);
    free(store);
    return r;
}

int64_t store_newest_event_id(const struct store *store)
{
    return store->newest_event_id;
}

const char *store_library_version(void)
{
    return sqlite3_libversion();
}

int64_t store_busy_since_ms(const struct store *store)
{
    return commit_queue_busy_since_ms(&store->queue);
}

void store_stop_retrying(struct store *store)
{
    store->stop_retrying = true;
}

void store_set_retention(struct store *store, int64_t keep_ms)
{
    assert(keep_ms >= 0);
    store->keep_ms = keep_ms;
    commit_queue_wake(&store->queue);
}

int store_set_shipped_files(struct store *store, const char *const paths[STORE_MAX_SHIPPED_FILES])
{
    char *copies[STORE_MAX_SHIPPED_FILES] = {NULL};
    int r = 0;

    for (size_t i = 0; i < STORE_MAX_SHIPPED_FILES && r == 0; i++) {
        copies[i] = paths[i] ? strdup(paths[i]) : NULL;
        r = paths[i] && !copies[i] ? -ENOMEM : 0;
    }
    pthread_mutex_lock(&store->lock);
    for (size_t i = 0; i < STORE_MAX_SHIPPED_FILES; i++) {
        char *old = store->shipped_paths[i];

        if (r == 0)
            store->shipped_paths[i] = copies[i];
        free(r == 0 ? old : copies[i]);
    }
    pthread_mutex_unlock(&store->lock);
    return r;
}

void store_submit(struct store *store, struct commit *commit)
{
    commit_queue_push(&store->queue, commit);
}

// A failure loses nothing, because the frames stay in the log, which the next start recovers.
static void store_checkpoint_last(struct store *store)
{
    struct error error;
    enum store_failure failure = database_checkpoint_last(&store->database, &error);

    if (failure != STORE_FAILURE_NONE)
        store_report(store, failure, "the last checkpoint failed", &error);
}

void store_close(struct store *store)
{
    if (!store)
        return;
    assert(!commit_queue_is_writer(&store->queue));
    store_stop_retrying(store);
    commit_queue_stop(&store->queue);
    retention_finish(&store->retention);
    recorder_finish(&store->recorder);
    if (!store->broken && store->database.wal_recovered)
        store_checkpoint_last(store);
    database_close(&store->database);
    pthread_mutex_destroy(&store->lock);
    for (size_t i = 0; i < STORE_MAX_SHIPPED_FILES; i++)
        free(store->shipped_paths[i]);
    free(store);
}

int store_check(const char *path, struct error *error)
{
    return database_check(path, error);
}

const char *store_sqlite_version(void)
{
    return sqlite3_libversion();
}
