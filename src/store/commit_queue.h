// Passes commits in batches from the threads that submit them to the only writer thread. The queue does not depend on
// disks: struct commit_queue_functions defines what happens to a batch.

// The states of the writer thread. The thread changes its state only under the mutex, and starts in WRITER_BUSY.
//
//   BUSY      repeats three steps:
//             1. take: moves all waiting commits to the end of its list `taken`, and clears `woken`
//             2. if `taken` is not empty: write(batch), done(finished commits), and a pause if write() set retry
//             3. housekeep(idle)
//   BUSY ─► SLEEPING    in step 1, if nothing is taken or waiting, `woken` is not set, and stop was not called
//   SLEEPING ─► BUSY    on push, wake or stop, or when the time that housekeep returned has passed. After a spurious
//                       wake-up of the condition variable, the thread sleeps again without calling any function
//   BUSY ─► PAUSED      in step 2, if write() set retry in a commit, and stop was not called
//   PAUSED ─► BUSY      after COMMIT_RETRY_MS, or on wake, stop or a spurious wake-up. A push does not end PAUSED
//   BUSY ─► ENDED       in step 1, if stop was called and nothing is taken or waiting. By then, step 3 has run after
//                       the last batch
//
// Stages of a commit, and its owner in each stage:
//
//   AT_CALLER ─► WAITING   push: from here on the queue owns the commit, in the list `waiting` (guarded by the mutex)
//                          and later in the writer thread's list `taken`, both in the order of the pushes
//   WAITING ─► IN_BATCH    the writer thread cuts the batch off the front of `taken`
//   IN_BATCH ─► WAITING    write() set retry: back to the front of `taken`, in order, and into the next batch
//   IN_BATCH ─► AT_CALLER  otherwise: done() returns the commit to its owner
//
// Each commit goes to done() exactly once for each push. After a call of stop, write() must soon stop setting retry,
// because the writer thread does not end before every commit is finished.
//
// tests/model/handover.pml models this queue together with one or two event loops and up to three requests: no wake-up
// is lost, each held request ends exactly once, and nothing is used after its end. tests/README.md says for which
// configurations all states are checked. A change of the hand-over must change the model, too.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/commit.h"

// A batch ends at whichever limit comes first, which bounds the duration of a transaction: 8 MiB of bodies, some
// 150,000 members, take about a tenth of a second. A single commit may exceed the byte limit.
#define COMMIT_BATCH_MAX_COMMITS 1024
#define COMMIT_BATCH_MAX_BYTES   ((size_t)8 * 1024 * 1024)

// The pause of the writer thread before it retries commits.
#define COMMIT_RETRY_MS 100

// The writer thread calls these functions without holding the mutex.
struct commit_queue_functions {
    // Sets result and retry of each commit. Must not change the list.
    void (*write)(void *context, struct commit *batch);
    // Returns the finished commits to their owners. May call commit_queue_push.
    void (*done)(void *context, struct commit *finished);
    // The writer thread calls this after each batch and after each sleep. `idle` is true if no commit is waiting or has
    // to be retried. Returns the number of milliseconds after which the next call is due even if nothing else wakes the
    // writer thread, or -1 if no call is due.
    int64_t (*housekeep)(void *context, bool idle);
    void *context;
};

enum writer_state {
    WRITER_BUSY,
    WRITER_SLEEPING,
    WRITER_PAUSED,
    WRITER_ENDED,
};

struct commit_list {
    struct commit *first;
    struct commit **end; // the pointer that will point to the next appended commit
};

struct commit_queue {
    struct commit_queue_functions functions;
    pthread_t writer;
    atomic_int_fast64_t busy_since_ms;
    pthread_mutex_t mutex; // guards all fields below
    pthread_cond_t wake;
    enum writer_state state;
    struct commit_list waiting;
    bool woken; // push or wake was called since the writer thread last took the waiting commits
    bool stopping;
};

// Initializes the queue and starts the writer thread. The queue must not move in memory until commit_queue_stop
// returns. Returns 0 or -errno. After a failure, the caller must not use the queue.
int commit_queue_start(struct commit_queue *queue, const struct commit_queue_functions *functions,
                       struct error *error) MUST_CHECK;

// Passes the commit to the queue, which owns it until done(). Any thread may call this, including the writer thread in
// done(), until commit_queue_stop is called.
void commit_queue_push(struct commit_queue *queue, struct commit *commit);

// Makes the writer thread call housekeep() soon. Any thread may call this until commit_queue_stop is called.
void commit_queue_wake(struct commit_queue *queue);

// Returns true if the calling thread is the writer thread of this queue.
bool commit_queue_is_writer(const struct commit_queue *queue);

// Returns the time in milliseconds on the monotonic clock at which the writer thread started its current step (write,
// done or housekeep), or 0 between two steps, such as during a sleep or a pause. Any thread may call this.
int64_t commit_queue_busy_since_ms(const struct commit_queue *queue);

// Waits until done() has received every pushed commit and the writer thread has ended. Must be called exactly once, and
// not on the writer thread.
void commit_queue_stop(struct commit_queue *queue);
