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

// The log is written back when nobody waits for it, and under load only once it is long: a checkpoint costs those who
// wait a few milliseconds for 1,000 frames (4 MB), and the more it has to carry the longer.
#define CHECKPOINT_FRAMES_IDLE   1000
#define CHECKPOINT_FRAMES_LOADED 4000

// At the end a reader that is in the way is not waited for any longer: the next start writes the log back.
#define CLOSE_BUSY_TIMEOUT_MS 1000

// Between two steps of deleting, and how soon one may go in between when callbacks keep coming.
#define RETENTION_PAUSE_MS        10
#define RETENTION_PAUSE_LOADED_MS 100
// How soon to look again when a reader keeps the log from being written back.
#define RETENTION_HELD_MS 100
// How often it is looked whether something has become old enough.
#define RETENTION_LOOK_MS 60000

// How often it is tried whether a shortage is over when no callback comes to find out.
#define PROBE_MS 1000

static const struct metric batch_callbacks = {METRIC_HISTOGRAM("imcallbackd_commit_batch_callbacks",
                                                               "Callbacks that share one commit.", 0, 1, 2, 4, 8, 16,
                                                               32, 64, 128, 256, 512, COMMIT_BATCH_MAX_COMMITS)};
static const struct metric commit_seconds = {
    METRIC_HISTOGRAM("imcallbackd_commit_seconds", "How long a commit takes, with its fsync.", 6, 100, 250, 500, 1000,
                     2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000)};

const struct metric *const store_metrics[] = {&batch_callbacks, &commit_seconds, NULL};

struct store {
    struct store_callbacks callbacks;
    struct database database; // from here on the writer's alone, while it lives
    struct recorder recorder;
    struct retention retention;
    int64_t retention_due_ms; // by the monotonic clock
    int64_t kept_ms;          // the keep_ms of the last look
    bool broken;
    struct log_rate_limit shortages;
    atomic_bool hurry;
    atomic_int_fast64_t keep_ms; // 0: for ever
    pthread_mutex_t lock;        // guards what follows
    bool ready;
    char *shipped_path; // NULL: nothing is shipped
    struct error why_not_ready;
    struct commit_queue queue;
};

static void store_set_ready(struct store *store, const struct error *why_not)
{
    bool was_ready;

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

static void store_break(struct store *store, const struct error *error)
{
    store->broken = true;
    store_set_ready(store, error);
    store->callbacks.broken(store->callbacks.context, error);
}

// What failed, in error; the rest of the sentence is put around it.
static void store_failed(struct store *store, enum database_failure failure, const char *what, struct error *error)
{
    unsigned int left_out;

    error_wrap(error, "%s: %s", store->database.path, what);
    if (failure == DATABASE_FAILURE_FINAL)
        store_break(store, error);
    else if (log_rate_limit_allows(&store->shortages, &left_out))
        log_error("%s (%u others since this was last told)", error->text, left_out);
}

// To be called before anything else is done with the connection, as it has the words for the failure.
static enum database_failure store_sqlite_failed(struct store *store, int code, const char *what, struct error *error)
{
    enum database_failure failure = database_failure(store->database.connection, code);

    (void)database_error(store->database.connection, error);
    store_failed(store, failure, what, error);
    return failure;
}

// What was just committed may have gone into files that nobody will find again.
static bool store_lost_its_files(struct store *store)
{
    struct error error;

    if (database_in_place(&store->database))
        return false;
    (void)error_set(
        &error, EIO,
        "%s: the database or a file beside it (-wal, -shm) was deleted, moved or replaced while it was in use; put it "
        "back (-shm comes back by itself), and stop the daemon before the next time",
        store->database.path);
    store_break(store, &error);
    return true;
}

enum attempt {
    ATTEMPT_DONE,
    ATTEMPT_HAS_A_CULPRIT, // a commit that failed by itself, now COMMIT_FAILED: worth trying without it
    ATTEMPT_MAY_PASS_LATER,
    ATTEMPT_BROKE,
};

// One transaction for the batch without those that are COMMIT_FAILED already.
static enum attempt store_transact(struct store *store, struct commit *batch)
{
    int code = recorder_begin(&store->recorder);
    struct commit *at = NULL;
    struct error error;

    for (struct commit *commit = batch; commit && code == SQLITE_OK; commit = commit->next) {
        at = commit;
        if (commit->result != COMMIT_FAILED)
            code = recorder_record(&store->recorder, commit);
    }
    if (code == SQLITE_OK) {
        at = NULL;
        code = recorder_commit(&store->recorder);
    }
    if (code == SQLITE_OK)
        return store_lost_its_files(store) ? ATTEMPT_BROKE : ATTEMPT_DONE;
    switch (store_sqlite_failed(store, code, "callbacks cannot be recorded", &error)) {
    case DATABASE_FAILURE_FINAL:
        return ATTEMPT_BROKE;
    case DATABASE_FAILURE_OF_VALUES:
        recorder_rollback(&store->recorder);
        assert(at); // neither BEGIN nor COMMIT has values
        at->result = COMMIT_FAILED;
        return ATTEMPT_HAS_A_CULPRIT;
    case DATABASE_FAILURE_PASSES:
        break;
    }
    recorder_rollback(&store->recorder);
    store_set_ready(store, &error);
    return ATTEMPT_MAY_PASS_LATER;
}

static enum attempt store_settle(struct store *store)
{
    struct error error;
    int code = database_settle(&store->database, &error);
    enum database_failure failure;

    if (code == SQLITE_OK)
        return ATTEMPT_DONE;
    failure = database_failure(store->database.connection, code);
    store_failed(store, failure, "what is in the write-ahead log cannot be made sure of", &error);
    if (failure == DATABASE_FAILURE_FINAL)
        return ATTEMPT_BROKE;
    store_set_ready(store, &error);
    return ATTEMPT_MAY_PASS_LATER;
}

static void store_checkpoint(struct store *store)
{
    struct error error;
    int code = database_checkpoint(&store->database, SQLITE_CHECKPOINT_PASSIVE);

    if (code != SQLITE_OK && code != SQLITE_BUSY)
        (void)store_sqlite_failed(store, code, "the write-ahead log cannot be written back", &error);
}

static enum attempt store_try(struct store *store, struct commit *batch)
{
    enum attempt attempt = store_settle(store);

    // A log that is not made sure of must not get into the database: what is read from it may never reach the disk.
    if (attempt != ATTEMPT_DONE)
        return attempt;
    do {
        attempt = store_transact(store, batch);
    } while (attempt == ATTEMPT_HAS_A_CULPRIT);
    // A log that is written back begins anew in the room that it has.
    if (attempt == ATTEMPT_MAY_PASS_LATER)
        store_checkpoint(store);
    return attempt;
}

static void store_write(void *context, struct commit *batch)
{
    struct store *store = context;
    int64_t begin_us = clock_monotonic_us(), now_ms, callbacks = 0;
    enum attempt attempt;

    for (struct commit *commit = batch; commit; commit = commit->next) {
        commit->result = COMMIT_RECORDED;
        commit->held = false;
        callbacks++;
    }
    attempt = store->broken ? ATTEMPT_BROKE : store_try(store, batch);
    if (attempt == ATTEMPT_DONE) {
        metric_observe(&commit_seconds, clock_monotonic_us() - begin_us);
        metric_observe(&batch_callbacks, callbacks);
        store_set_ready(store, NULL);
        return;
    }
    now_ms = clock_monotonic_ms();
    for (struct commit *commit = batch; commit; commit = commit->next) {
        commit->held =
            commit->result != COMMIT_FAILED && !store->broken && !store->hurry && now_ms < commit->give_up_at_ms;
        commit->result = COMMIT_FAILED;
    }
}

static void store_done(void *context, struct commit *finished)
{
    struct store *store = context;

    store->callbacks.done(store->callbacks.context, finished);
}

// Writes a page as it is.
static void store_probe(struct store *store)
{
    struct error error;
    int code;

    if (store_settle(store) != ATTEMPT_DONE)
        return;
    code = recorder_probe(&store->recorder);
    if (code == SQLITE_OK) {
        store_set_ready(store, NULL);
        return;
    }
    if (store_sqlite_failed(store, code, "callbacks cannot be recorded", &error) != DATABASE_FAILURE_FINAL)
        store_set_ready(store, &error);
    recorder_rollback(&store->recorder);
}

// Up to where rows may be deleted.
static struct shipped store_shipped(struct store *store)
{
    struct shipped last = {INT64_MAX, INT64_MAX};
    struct error error;

    pthread_mutex_lock(&store->lock);
    if (store->shipped_path && shipped_read(store->shipped_path, store->database.path, &last, &error) < 0)
        last = (struct shipped){0};
    pthread_mutex_unlock(&store->lock);
    return last;
}

// Returns after how many ms there is something to do again; -1: never.
static int64_t store_retain(struct store *store, bool idle)
{
    int64_t keep_ms = store->keep_ms, now_ms = clock_monotonic_ms(), wait_ms = RETENTION_LOOK_MS;
    struct retention *retention = &store->retention;
    struct shipped last;
    bool more = false;
    struct error error;
    int code;

    if (keep_ms == 0)
        return -1;
    if (keep_ms == store->kept_ms && now_ms < store->retention_due_ms)
        return store->retention_due_ms - now_ms;
    // Deleting makes the log longer, which may take the room that callbacks need.
    if (database_log_is_held(&store->database)) {
        store_checkpoint(store);
        if (store->broken || database_log_is_held(&store->database)) {
            store->kept_ms = keep_ms;
            store->retention_due_ms = now_ms + RETENTION_HELD_MS;
            return RETENTION_HELD_MS;
        }
    }
    last = store_shipped(store);
    code = retention_step(retention, clock_realtime_ms(), keep_ms, &last, &more);
    if (code != SQLITE_OK) {
        (void)store_sqlite_failed(store, code, "what is older than the retention cannot be deleted", &error);
        recorder_rollback(&store->recorder);
    } else if (more) {
        wait_ms = idle ? RETENTION_PAUSE_MS : RETENTION_PAUSE_LOADED_MS;
    }
    if (!more && retention->deleted_events > 0) {
        log_info("%s: %" PRId64 " events were older than the retention and are deleted", store->database.path,
                 retention->deleted_events);
        retention->deleted_events = 0;
    }
    store->kept_ms = keep_ms;
    store->retention_due_ms = now_ms + wait_ms;
    return wait_ms;
}

static int64_t store_between(void *context, bool idle)
{
    struct store *store = context;

    if (!store->broken && store->database.settled &&
        database_checkpoint_due(&store->database, idle ? CHECKPOINT_FRAMES_IDLE : CHECKPOINT_FRAMES_LOADED))
        store_checkpoint(store);
    if (!store->broken && !store->ready && idle)
        store_probe(store);
    if (store->broken)
        return -1;
    return store->ready ? store_retain(store, idle) : PROBE_MS;
}

static int store_begin(struct store *store, struct error *error)
{
    int code = recorder_init(&store->recorder, store->database.connection), r;

    if (code == SQLITE_OK)
        code = retention_init(&store->retention, &store->recorder);
    if (code != SQLITE_OK) {
        r = database_error(store->database.connection, error);
        error_wrap(error, "%s", store->database.path);
        return r;
    }
    code = database_settle(&store->database, error);
    if (code == SQLITE_OK)
        return 0;
    error_wrap(error, "%s", store->database.path);
    if (database_failure(store->database.connection, code) == DATABASE_FAILURE_FINAL)
        return -EIO;
    log_warning("%s", error->text);
    store->ready = false;
    store->why_not_ready = *error;
    return 0;
}

int store_open(const char *path, const struct store_callbacks *callbacks, struct store **ret_store, struct error *error)
{
    struct store *store = calloc(1, sizeof *store);
    struct commit_queue_functions functions = {store_write, store_done, store_between, store};
    bool was_ready;
    int r;

    if (!store)
        return error_set(error, ENOMEM, "%s: out of memory", path);
    store->callbacks = *callbacks;
    store->ready = true;
    pthread_mutex_init(&store->lock, NULL);
    r = database_open(&store->database, path, error);
    if (r < 0)
        goto fail;
    r = store_begin(store, error);
    if (r < 0)
        goto fail_begin;
    was_ready = store->ready;
    r = commit_queue_start(&store->queue, &functions, error);
    if (r < 0)
        goto fail_begin;
    if (!was_ready)
        commit_queue_wake(&store->queue); // to find out when it is
    *ret_store = store;
    return 0;

fail_begin:
    retention_finish(&store->retention);
    recorder_finish(&store->recorder);
    database_close(&store->database);
fail:
    pthread_mutex_destroy(&store->lock);
    free(store);
    return r;
}

int64_t store_busy_since_ms(const struct store *store)
{
    return commit_queue_busy_since_ms(&store->queue);
}

void store_stop_retrying(struct store *store)
{
    store->hurry = true;
}

void store_set_retention(struct store *store, int64_t keep_ms)
{
    store->keep_ms = keep_ms;
    commit_queue_wake(&store->queue);
}

int store_set_shipped_file(struct store *store, const char *shipped_path)
{
    char *copy = shipped_path ? strdup(shipped_path) : NULL, *old;

    if (shipped_path && !copy)
        return -ENOMEM;
    pthread_mutex_lock(&store->lock);
    old = store->shipped_path;
    store->shipped_path = copy;
    pthread_mutex_unlock(&store->lock);
    free(old);
    return 0;
}

void store_submit(struct store *store, struct commit *commit)
{
    commit_queue_push(&store->queue, commit);
}

// What could not be written back stays safe in the log for the next start.
static void store_write_back(struct store *store)
{
    struct error error;
    int code;

    sqlite3_busy_timeout(store->database.connection, CLOSE_BUSY_TIMEOUT_MS);
    code = database_checkpoint(&store->database, SQLITE_CHECKPOINT_TRUNCATE);
    if (code != SQLITE_OK && code != SQLITE_BUSY)
        (void)store_sqlite_failed(store, code, "the write-ahead log is left for the next start", &error);
}

void store_close(struct store *store)
{
    if (!store)
        return;
    store_stop_retrying(store);
    commit_queue_stop(&store->queue);
    retention_finish(&store->retention);
    recorder_finish(&store->recorder);
    if (!store->broken && store->database.settled)
        store_write_back(store);
    database_close(&store->database);
    pthread_mutex_destroy(&store->lock);
    free(store->shipped_path);
    free(store);
}

int store_check(const char *path, struct error *error)
{
    return database_check(path, error);
}
