// The queue in front of the one thread that writes. It knows nothing of disks: what to do with a batch comes as a
// struct of functions.
//
// The writer, and what may follow what:
//
//   SLEEPING ──push, wake, or the time that between() gave is over──► BUSY
//   BUSY     write(batch), done(what is finished of it), PAUSED for COMMIT_RETRY_MS if commits are held, between()
//            ──something waits──► BUSY
//            ──nothing waits──► SLEEPING; ENDED once stop was called
//   stop     wakes the writer in SLEEPING and PAUSED; from then on it does not pause
//
// A commit, and who has it: the pusher ──push──► waiting (guarded by the mutex) ──taken──► the writer's chain, in the
// order of the pushes ──batch──► write(), which finishes it or holds it. Held: back to the front of the writer's chain,
// so that it is in the next batch again. Finished: done(), and it is the receiver's. Each commit comes to done()
// exactly once.
//
// push is allowed on any thread, from inside done() too, until stop is called; stop once. After stop was called write()
// must hold nothing for ever.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/store.h"

// A batch ends at whichever comes first, so that nobody waits for an endless transaction: with 8 MiB of bodies, some
// 150,000 members, it takes about a tenth of a second. One commit alone may be larger.
#define COMMIT_BATCH_MAX_COMMITS 1024
#define COMMIT_BATCH_MAX_BYTES   ((size_t)8 * 1024 * 1024)

// How long the writer pauses before it tries again what was held.
#define COMMIT_RETRY_MS 100

// All are called on the writer's thread, without any lock held.
struct commit_queue_functions {
    // Sets the result of each, or holds it: it wants it again. Must not relink them.
    void (*write)(void *context, struct commit *batch);
    // Those that are not held; they are the receiver's now.
    void (*done)(void *context, struct commit *finished);
    // After each batch; idle: nothing waits at the moment. Returns after how many ms it is to be called again although
    // nothing came; -1: never.
    int64_t (*between)(void *context, bool idle);
    void *context;
};

struct commit_chain {
    struct commit *first;
    struct commit **end; // where the next one is hooked in
};

struct commit_queue {
    struct commit_queue_functions functions;
    pthread_t writer;
    atomic_int_fast64_t busy_since_ms;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t wake;
    struct commit_chain waiting;
    bool sleeping;
    bool woken;
    bool stopping;
};

// Starts the thread. The queue must not move in memory from now on.
int commit_queue_start(struct commit_queue *queue, const struct commit_queue_functions *functions,
                       struct error *error) MUST_CHECK;

void commit_queue_push(struct commit_queue *queue, struct commit *commit);

// Has between() called soon. Any thread.
void commit_queue_wake(struct commit_queue *queue);

// When the writer began the step that it is at, write(), done() or between(), by the monotonic clock; 0 while it sleeps
// or pauses. Any thread may call.
int64_t commit_queue_busy_since_ms(const struct commit_queue *queue);

// Returns when all that was pushed was given to done() and the thread has ended.
void commit_queue_stop(struct commit_queue *queue);
