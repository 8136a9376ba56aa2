// The queue in front of the one thread that writes. It knows nothing of disks: what to do with a batch comes as a
// struct of functions.
//
//                 push                          nothing waits
//   SLEEPING ────────────► BUSY ◄──┐   BUSY ──────────────────► SLEEPING
//       │                   │ └────┘ write(batch), done(batch), between(): as long as something waits
//       │ stop              │ stop
//       ▼                   ▼
//     ENDED ◄────────── DRAINING   as BUSY, but ENDED instead of SLEEPING when nothing waits
//
// push is allowed on any thread, from inside done() too, until stop is called; stop once.
#pragma once

#include <pthread.h>
#include <stdbool.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/store.h"

// A batch ends at whichever comes first, so that nobody waits for an endless transaction: with 8 MiB of bodies, some
// 150,000 members, it takes about a tenth of a second. One commit alone may be larger.
#define COMMIT_BATCH_MAX_COMMITS 1024
#define COMMIT_BATCH_MAX_BYTES   ((size_t)8 * 1024 * 1024)

// All are called on the writer's thread, without any lock held.
struct commit_queue_functions {
    void (*write)(void *context, struct commit *batch); // sets the result of each; must not relink them
    void (*done)(void *context, struct commit *batch);  // the batch is the receiver's now
    void (*between)(void *context, bool idle);          // after each done; idle: nothing waits at the moment
    void *context;
};

struct commit_chain {
    struct commit *first;
    struct commit **end; // where the next one is hooked in
};

struct commit_queue {
    struct commit_queue_functions functions;
    pthread_t writer;
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t wake;
    struct commit_chain waiting;
    bool sleeping;
    bool stopping;
};

// Starts the thread. The queue must not move in memory from now on.
int commit_queue_start(struct commit_queue *queue, const struct commit_queue_functions *functions,
                       struct error *error) MUST_CHECK;

void commit_queue_push(struct commit_queue *queue, struct commit *commit);

// Returns when all that was pushed was given to done() and the thread has ended.
void commit_queue_stop(struct commit_queue *queue);
