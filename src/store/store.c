#include "imcallbackd/store/store.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "commit_queue.h"
#include "database.h"
#include "imcallbackd/base/log.h"
#include "recorder.h"

// The log is written back when nobody waits for it, and under load only once it is long: a checkpoint costs those who
// wait a few milliseconds for 1,000 frames (4 MB), and the more it has to carry the longer.
#define CHECKPOINT_FRAMES_IDLE   1000
#define CHECKPOINT_FRAMES_LOADED 4000

// At the end a reader that is in the way is not waited for any longer: the next start writes the log back.
#define CLOSE_BUSY_TIMEOUT_MS   1000
#define HURRIED_BUSY_TIMEOUT_MS 100

struct store {
    struct store_callbacks callbacks;
    struct database database; // from here on the writer's alone, while it lives
    struct recorder recorder;
    bool broken;
    atomic_bool hurry;
    struct commit_queue queue;
};

// After these the disk or the file cannot be trusted, and what the failed commit left is unknown.
static bool failure_is_final(int code)
{
    // No memory, and no room to make the log's index larger, pass.
    if (code == SQLITE_IOERR_NOMEM || code == SQLITE_IOERR_SHMSIZE)
        return false;
    switch (code & 0xff) {
    case SQLITE_IOERR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return true;
    default:
        return false;
    }
}

// These lie in the values of one commit. They cannot happen with what comes over the network.
static bool failure_is_the_commits_own(int code)
{
    switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_MISMATCH:
        return true;
    default:
        return false;
    }
}

// To be called before anything else is done with the connection, as it has the words for the failure.
static void store_describe(const struct store *store, const char *what, struct error *error)
{
    (void)database_error(store->database.connection, error);
    error_wrap(error, "%s: %s", store->database.path, what);
}

static void store_failed(struct store *store, int code, const char *what)
{
    struct error error;

    store_describe(store, what, &error);
    if (failure_is_final(code)) {
        store->broken = true;
        store->callbacks.broken(store->callbacks.context, &error);
    } else {
        log_error("%s", error.text);
    }
}

// What was just committed may have gone into files that nobody will find again.
static bool store_lost_its_files(struct store *store)
{
    struct error error;

    if (database_in_place(&store->database))
        return false;
    (void)error_set(
        &error, EIO,
        "%s: the database or its write-ahead log was deleted, moved or replaced while it was in use; put it "
        "back, and stop the daemon before the next time",
        store->database.path);
    store->broken = true;
    store->callbacks.broken(store->callbacks.context, &error);
    return true;
}

// One transaction for the batch without those that are COMMIT_FAILED already. *ret_culprit: the commit that failed by
// itself, so that it is worth trying without it.
static int store_transact(struct store *store, struct commit *batch, struct commit **ret_culprit)
{
    int code = recorder_begin(&store->recorder);

    *ret_culprit = NULL;
    for (struct commit *commit = batch; commit && code == SQLITE_OK; commit = commit->next) {
        if (commit->result == COMMIT_FAILED)
            continue;
        code = recorder_record(&store->recorder, commit);
        if (failure_is_the_commits_own(code))
            *ret_culprit = commit;
    }
    if (code == SQLITE_OK)
        code = recorder_commit(&store->recorder);
    if (code == SQLITE_OK)
        return store_lost_its_files(store) ? SQLITE_IOERR : SQLITE_OK;
    store_failed(store, code, *ret_culprit ? "one callback is not recorded" : "a batch of callbacks is not recorded");
    recorder_rollback(&store->recorder);
    return code;
}

static void store_write(void *context, struct commit *batch)
{
    struct store *store = context;
    struct commit *culprit = NULL;
    int code = SQLITE_OK;

    for (struct commit *commit = batch; commit; commit = commit->next)
        commit->result = store->broken ? COMMIT_FAILED : COMMIT_RECORDED;
    if (store->broken)
        return;
    if (store->hurry)
        sqlite3_busy_timeout(store->database.connection, HURRIED_BUSY_TIMEOUT_MS);
    do {
        code = store_transact(store, batch, &culprit);
        if (culprit)
            culprit->result = COMMIT_FAILED;
    } while (culprit);
    for (struct commit *commit = batch; commit && code != SQLITE_OK; commit = commit->next)
        commit->result = COMMIT_FAILED;
}

static void store_done(void *context, struct commit *batch)
{
    struct store *store = context;

    store->callbacks.done(store->callbacks.context, batch);
}

static void store_between(void *context, bool idle)
{
    struct store *store = context;
    int code;

    if (store->broken ||
        !database_checkpoint_due(&store->database, idle ? CHECKPOINT_FRAMES_IDLE : CHECKPOINT_FRAMES_LOADED))
        return;
    code = database_checkpoint(&store->database, SQLITE_CHECKPOINT_PASSIVE);
    if (code != SQLITE_OK && code != SQLITE_BUSY)
        store_failed(store, code, "the write-ahead log cannot be written back");
}

int store_open(const char *path, const struct store_callbacks *callbacks, struct store **ret_store, struct error *error)
{
    struct store *store = calloc(1, sizeof *store);
    struct commit_queue_functions functions = {store_write, store_done, store_between, store};
    int r;

    if (!store)
        return error_set(error, ENOMEM, "%s: out of memory", path);
    store->callbacks = *callbacks;
    r = database_open(&store->database, path, error);
    if (r < 0)
        goto fail;
    if (recorder_init(&store->recorder, store->database.connection) != SQLITE_OK) {
        r = database_error(store->database.connection, error);
        error_wrap(error, "%s", path);
        goto fail_recorder;
    }
    r = commit_queue_start(&store->queue, &functions, error);
    if (r < 0)
        goto fail_recorder;
    *ret_store = store;
    return 0;

fail_recorder:
    recorder_finish(&store->recorder);
    database_close(&store->database);
fail:
    free(store);
    return r;
}

void store_hurry(struct store *store)
{
    store->hurry = true;
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
    if (code == SQLITE_OK || code == SQLITE_BUSY)
        return;
    store_describe(store, "the write-ahead log is left for the next start", &error);
    log_error("%s", error.text);
}

void store_close(struct store *store)
{
    if (!store)
        return;
    commit_queue_stop(&store->queue);
    recorder_finish(&store->recorder);
    if (!store->broken)
        store_write_back(store);
    database_close(&store->database);
    free(store);
}

int store_check(const char *path, struct error *error)
{
    return database_check(path, error);
}
