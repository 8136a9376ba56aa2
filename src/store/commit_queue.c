#include "commit_queue.h"

#include <assert.h>
#include <string.h>

#include "imcallbackd/base/clock.h"

static void chain_clear(struct commit_chain *chain)
{
    chain->first = NULL;
    chain->end = &chain->first;
}

// Moves all of more behind the chain.
static void chain_append(struct commit_chain *chain, struct commit_chain *more)
{
    if (!more->first)
        return;
    *chain->end = more->first;
    chain->end = more->end;
    chain_clear(more);
}

// Cuts the next batch, at least one commit, off the front.
static struct commit *chain_cut_batch(struct commit_chain *chain)
{
    struct commit *batch = chain->first, *last = NULL;
    size_t commits = 0, bytes = 0;

    for (struct commit *commit = batch; commit; commit = commit->next) {
        commits++;
        bytes += commit->group ? commit->group->body_length : commit->rejected->body_length;
        if (last && (commits > COMMIT_BATCH_MAX_COMMITS || bytes > COMMIT_BATCH_MAX_BYTES))
            break;
        last = commit;
    }
    assert(last);
    chain->first = last->next;
    if (!chain->first)
        chain_clear(chain);
    last->next = NULL;
    return batch;
}

// Puts those of the batch that are held in front of the chain again. Returns the finished ones.
static struct commit *chain_take_back(struct commit_chain *chain, struct commit *batch)
{
    struct commit_chain finished, held;

    chain_clear(&finished);
    chain_clear(&held);
    while (batch) {
        struct commit_chain *to = batch->held ? &held : &finished;
        struct commit *commit = batch;

        batch = commit->next;
        commit->next = NULL;
        *to->end = commit;
        to->end = &commit->next;
    }
    chain_append(&held, chain);
    chain_append(chain, &held);
    return finished.first;
}

// With the mutex held. Until somebody signals or the time is over, whatever comes first; -1: for ever. False: it is
// over.
static bool queue_sleep(struct commit_queue *queue, int64_t timeout_ms)
{
    struct timespec end;

    if (timeout_ms < 0)
        return pthread_cond_wait(&queue->wake, &queue->mutex) == 0;
    end = clock_timespec(clock_monotonic_ms() + timeout_ms);
    return pthread_cond_timedwait(&queue->wake, &queue->mutex, &end) == 0;
}

// Moves all that waits behind what was taken before; sleeps while there is neither, but no longer than wait_ms. False:
// stopping, and all is done.
static bool queue_take(struct commit_queue *queue, struct commit_chain *taken, int64_t wait_ms)
{
    bool stopping;

    pthread_mutex_lock(&queue->mutex);
    while (!taken->first && !queue->waiting.first && !queue->stopping && !queue->woken) {
        queue->sleeping = true;
        if (!queue_sleep(queue, wait_ms))
            break;
    }
    queue->sleeping = false;
    queue->woken = false;
    chain_append(taken, &queue->waiting);
    stopping = queue->stopping;
    pthread_mutex_unlock(&queue->mutex);
    return taken->first || !stopping;
}

// Pushes do not cut it short.
static void queue_pause(struct commit_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    if (!queue->stopping)
        (void)queue_sleep(queue, COMMIT_RETRY_MS);
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

static void queue_step(struct commit_queue *queue)
{
    atomic_store_explicit(&queue->busy_since_ms, clock_monotonic_ms(), memory_order_relaxed);
}

static void queue_rest(struct commit_queue *queue)
{
    atomic_store_explicit(&queue->busy_since_ms, 0, memory_order_relaxed);
}

// One batch off the front of the chain. False: some of it is held.
static bool queue_write(struct commit_queue *queue, struct commit_chain *taken)
{
    const struct commit_queue_functions *functions = &queue->functions;
    struct commit *batch = chain_cut_batch(taken), *next = taken->first, *finished;

    queue_step(queue);
    functions->write(functions->context, batch);
    finished = chain_take_back(taken, batch);
    queue_step(queue);
    if (finished)
        functions->done(functions->context, finished);
    queue_rest(queue);
    return taken->first == next;
}

static void *writer_main(void *argument)
{
    struct commit_queue *queue = argument;
    struct commit_chain taken;
    int64_t wait_ms = -1;

    chain_clear(&taken);
    while (queue_take(queue, &taken, wait_ms)) {
        if (taken.first && !queue_write(queue, &taken))
            queue_pause(queue);
        queue_step(queue);
        wait_ms = queue->functions.between(queue->functions.context, !taken.first && queue_is_empty(queue));
        queue_rest(queue);
    }
    return NULL;
}

int commit_queue_start(struct commit_queue *queue, const struct commit_queue_functions *functions, struct error *error)
{
    pthread_condattr_t attributes;
    int code;

    *queue = (struct commit_queue){.functions = *functions};
    chain_clear(&queue->waiting);
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    code = pthread_create(&queue->writer, NULL, writer_main, queue);
    if (code != 0) {
        pthread_cond_destroy(&queue->wake);
        pthread_mutex_destroy(&queue->mutex);
        return error_set(error, code, "the writer's thread cannot be started: %s", strerror(code));
    }
    pthread_setname_np(queue->writer, "store-writer");
    return 0;
}

void commit_queue_push(struct commit_queue *queue, struct commit *commit)
{
    bool wake;

    assert(!commit->group != !commit->rejected);
    commit->next = NULL;
    pthread_mutex_lock(&queue->mutex);
    assert(!queue->stopping);
    *queue->waiting.end = commit;
    queue->waiting.end = &commit->next;
    wake = queue->sleeping;
    queue->sleeping = false; // the next push need not wake it again
    pthread_mutex_unlock(&queue->mutex);
    if (wake)
        pthread_cond_signal(&queue->wake);
}

void commit_queue_wake(struct commit_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    queue->woken = true;
    pthread_mutex_unlock(&queue->mutex);
    pthread_cond_signal(&queue->wake);
}

int64_t commit_queue_busy_since_ms(const struct commit_queue *queue)
{
    return atomic_load_explicit(&queue->busy_since_ms, memory_order_relaxed);
}

void commit_queue_stop(struct commit_queue *queue)
{
    pthread_mutex_lock(&queue->mutex);
    assert(!queue->stopping);
    queue->stopping = true;
    pthread_mutex_unlock(&queue->mutex);
    pthread_cond_signal(&queue->wake);
    pthread_join(queue->writer, NULL);
    pthread_cond_destroy(&queue->wake);
    pthread_mutex_destroy(&queue->mutex);
}
