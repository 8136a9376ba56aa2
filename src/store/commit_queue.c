// Implements the states and stages that commit_queue.h describes. Each transition asserts the state or stage that it
// leaves.
#include "commit_queue.h"

#include <assert.h>
#include <string.h>

#include "imcallbackd/base/clock.h"

// The queue that the current thread serves as the writer thread, or NULL. A comparison of the current thread with
// queue->writer is not reliable: pthread_create may store queue->writer after the thread has started to run.
static _Thread_local const struct commit_queue *own_queue;

static void list_clear(struct commit_list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_append(struct commit_list *list, struct commit *commit)
{
    assert(!*list->end);
    commit->next = NULL;
    *list->end = commit;
    list->end = &commit->next;
}

// Moves all commits of `more` to the end of the list.
static void list_concatenate(struct commit_list *list, struct commit_list *more)
{
    assert(list != more && !*list->end && !*more->end);
    if (!more->first)
        return;
    *list->end = more->first;
    list->end = more->end;
    list_clear(more);
}

static void change_stage(struct commit *commit, enum commit_stage from, enum commit_stage to)
{
    assert(commit->stage == from);
    commit->stage = to;
}

// Removes the next batch from the front of the list, which must not be empty, and returns the batch. A batch has at
// least one commit, even if this commit exceeds COMMIT_BATCH_MAX_BYTES.
static struct commit *list_cut_batch(struct commit_list *list)
{
    struct commit *batch = list->first, *last = NULL;
    size_t commits = 0, bytes = 0;

    for (struct commit *commit = batch; commit; commit = commit->next) {
        commits++;
        bytes += commit->group ? commit->group->body_length : commit->rejected->body_length;
        if (last && (commits > COMMIT_BATCH_MAX_COMMITS || bytes > COMMIT_BATCH_MAX_BYTES))
            break;
        change_stage(commit, COMMIT_WAITING, COMMIT_IN_BATCH);
        last = commit;
    }
    assert(last);
    list->first = last->next;
    if (!list->first)
        list_clear(list);
    last->next = NULL;
    return batch;
}

// Puts the commits of the batch that are to be retried back at the front of the list, in their order. Returns the list
// of the finished commits, or NULL if there are none.
static struct commit *list_take_back(struct commit_list *list, struct commit *batch)
{
    struct commit_list finished, retried;

    list_clear(&finished);
    list_clear(&retried);
    while (batch) {
        struct commit *commit = batch;

        batch = commit->next;
        change_stage(commit, COMMIT_IN_BATCH, commit->retry ? COMMIT_WAITING : COMMIT_AT_CALLER);
        list_append(commit->retry ? &retried : &finished, commit);
    }
    list_concatenate(&retried, list);
    list_concatenate(list, &retried);
    return finished.first;
}

// Waits in the given state until queue->wake is signaled or timeout_ms have passed; -1 means no timeout. A spurious
// wake-up also ends the wait. The caller holds the mutex, which is released during the wait. Returns false after the
// timeout.
static bool queue_wait(struct commit_queue *queue, enum writer_state state, int64_t timeout_ms)
{
    struct timespec end;
    int code;

    assert(commit_queue_is_writer(queue));
    assert(queue->state == WRITER_BUSY && (state == WRITER_SLEEPING || state == WRITER_PAUSED));
    assert(!queue->stopping && timeout_ms >= -1);
    queue->state = state;
    if (timeout_ms < 0) {
        code = pthread_cond_wait(&queue->wake, &queue->mutex);
    } else {
        end = clock_timespec(clock_monotonic_ms() + timeout_ms);
        code = pthread_cond_timedwait(&queue->wake, &queue->mutex, &end);
    }
    assert(queue->state == state);
    queue->state = WRITER_BUSY;
    return code == 0;
}

// Appends all waiting commits to the list of taken commits. First sleeps if both lists are empty, unless stop was
// called, or wake was called since the last call of this function. The sleep ends on push, wake or stop, or after
// timeout_ms; -1 means no timeout. Returns false if stop was called and no commit is left; the state is then
// WRITER_ENDED.
static bool queue_take(struct commit_queue *queue, struct commit_list *taken, int64_t timeout_ms)
{
    pthread_mutex_lock(&queue->mutex);
    while (!taken->first && !queue->waiting.first && !queue->stopping && !queue->woken) {
        if (!queue_wait(queue, WRITER_SLEEPING, timeout_ms))
            break;
    }
    queue->woken = false;
    list_concatenate(taken, &queue->waiting);
    assert(queue->state == WRITER_BUSY);
    if (!taken->first && queue->stopping)
        queue->state = WRITER_ENDED;
    pthread_mutex_unlock(&queue->mutex);
    return taken->first || queue->state != WRITER_ENDED; // needs no mutex, because only this thread changes the state
}

static void queue_pause(struct commit_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    if (!queue->stopping)
        (void)queue_wait(queue, WRITER_PAUSED, COMMIT_RETRY_MS);
    pthread_mutex_unlock(&queue->mutex);
}

static bool queue_is_empty(struct commit_queue *queue)
{
    bool empty;

    pthread_mutex_lock(&queue->mutex);
    empty = !queue->waiting.first;
    pthread_mutex_unlock(&queue->mutex);
    return empty;
}

static void queue_begin_step(struct commit_queue *queue)
{
    atomic_store_explicit(&queue->busy_since_ms, clock_monotonic_ms(), memory_order_relaxed);
}

static void queue_end_step(struct commit_queue *queue)
{
    atomic_store_explicit(&queue->busy_since_ms, 0, memory_order_relaxed);
}

// Writes one batch from the front of the list, and passes its finished commits to done(). Returns false if some of its
// commits are to be retried.
static bool queue_write(struct commit_queue *queue, struct commit_list *taken)
{
    const struct commit_queue_functions *functions = &queue->functions;
    struct commit *batch = list_cut_batch(taken), *next = taken->first, *finished;

    queue_begin_step(queue);
    functions->write(functions->context, batch);
    finished = list_take_back(taken, batch);
    queue_begin_step(queue);
    if (finished)
        functions->done(functions->context, finished);
    queue_end_step(queue);
    return taken->first == next;
}

static void *writer_main(void *argument)
{
    struct commit_queue *queue = argument;
    struct commit_list taken;
    int64_t timeout_ms = -1;

    own_queue = queue;
    list_clear(&taken);
    while (queue_take(queue, &taken, timeout_ms)) {
        if (taken.first && !queue_write(queue, &taken))
            queue_pause(queue);
        queue_begin_step(queue);
        timeout_ms = queue->functions.housekeep(queue->functions.context, !taken.first && queue_is_empty(queue));
        queue_end_step(queue);
    }
    assert(!taken.first);
    return NULL;
}

int commit_queue_start(struct commit_queue *queue, const struct commit_queue_functions *functions, struct error *error)
{
    pthread_condattr_t attributes;
    int code;

    assert(functions->write && functions->done && functions->housekeep);
    *queue = (struct commit_queue){.functions = *functions, .state = WRITER_BUSY};
    list_clear(&queue->waiting);
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    code = pthread_create(&queue->writer, NULL, writer_main, queue);
    if (code != 0) {
        pthread_cond_destroy(&queue->wake);
        pthread_mutex_destroy(&queue->mutex);
        return error_set(error, code, "the writer thread cannot be started: %s", strerror(code));
    }
    pthread_setname_np(queue->writer, "store-writer");
    return 0;
}

void commit_queue_push(struct commit_queue *queue, struct commit *commit)
{
    bool signal;

    assert(!commit->group != !commit->rejected);
    change_stage(commit, COMMIT_AT_CALLER, COMMIT_WAITING);
    pthread_mutex_lock(&queue->mutex);
    assert(!queue->stopping && queue->state != WRITER_ENDED);
    list_append(&queue->waiting, commit);
    signal = queue->state == WRITER_SLEEPING && !queue->woken; // one signal is enough for all pushes during one sleep
    queue->woken = true;
    pthread_mutex_unlock(&queue->mutex);
    if (signal)
        pthread_cond_signal(&queue->wake);
}

void commit_queue_wake(struct commit_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->woken = true;
    pthread_mutex_unlock(&queue->mutex);
    pthread_cond_signal(&queue->wake);
}

bool commit_queue_is_writer(const struct commit_queue *queue)
{
    return own_queue == queue;
}

int64_t commit_queue_busy_since_ms(const struct commit_queue *queue)
{
    return atomic_load_explicit(&queue->busy_since_ms, memory_order_relaxed);
}

void commit_queue_stop(struct commit_queue *queue)
{
    assert(!commit_queue_is_writer(queue));
    pthread_mutex_lock(&queue->mutex);
    assert(!queue->stopping && queue->state != WRITER_ENDED);
    queue->stopping = true;
    pthread_mutex_unlock(&queue->mutex);
    pthread_cond_signal(&queue->wake);
    pthread_join(queue->writer, NULL);
    assert(queue->state == WRITER_ENDED && !queue->waiting.first);
    pthread_cond_destroy(&queue->wake);
    pthread_mutex_destroy(&queue->mutex);
}
