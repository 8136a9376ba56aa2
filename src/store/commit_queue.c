#include "commit_queue.h"

#include <assert.h>
#include <string.h>

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

// Moves all that waits behind what was taken before; sleeps while there is neither. False: stopping, and all is done.
static bool queue_take(struct commit_queue *queue, struct commit_chain *taken)
{
    pthread_mutex_lock(&queue->mutex);
    while (!taken->first && !queue->waiting.first && !queue->stopping) {
        queue->sleeping = true;
        pthread_cond_wait(&queue->wake, &queue->mutex);
    }
    queue->sleeping = false;
    chain_append(taken, &queue->waiting);
    pthread_mutex_unlock(&queue->mutex);
    return taken->first;
}

static bool queue_is_empty(struct commit_queue *queue)
{
    bool empty;

    pthread_mutex_lock(&queue->mutex);
    empty = !queue->waiting.first;
    pthread_mutex_unlock(&queue->mutex);
    return empty;
}

static void *writer_main(void *argument)
{
    struct commit_queue *queue = argument;
    const struct commit_queue_functions *functions = &queue->functions;
    struct commit_chain taken;

    chain_clear(&taken);
    while (queue_take(queue, &taken)) {
        struct commit *batch = chain_cut_batch(&taken);

        functions->write(functions->context, batch);
        functions->done(functions->context, batch);
        functions->between(functions->context, !taken.first && queue_is_empty(queue));
    }
    return NULL;
}

int commit_queue_start(struct commit_queue *queue, const struct commit_queue_functions *functions, struct error *error)
{
    int code;

    *queue = (struct commit_queue){.functions = *functions};
    chain_clear(&queue->waiting);
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->wake, NULL);
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
