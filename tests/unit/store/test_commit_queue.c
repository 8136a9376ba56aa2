// Tests the queue without SQLite. The tests are also meant to run with ThreadSanitizer.
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../../../src/store/commit_queue.h"
#include "../unit.h"

#define PRODUCERS    4
#define PER_PRODUCER 20000
#define MAX_BATCHES  64

struct item {
    struct commit commit; // first, so that a pointer to it is a pointer to the item
    size_t producer;
    size_t number; // position among the pushes of the producer, from 0
};

// Counts the calls that the queue makes, and controls how the called functions behave. While the queue runs, the main
// thread may use only gate_closed, arrivals and wakes, and must hold the mutex for them. After the queue has stopped,
// the main thread checks the other fields.
struct harness {
    struct commit_queue queue;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool gate_closed; // write() waits until the gate opens
    size_t arrivals;  // number of batches that have reached the gate

    size_t written, done, idle, batch_count;
    size_t batches[MAX_BATCHES]; // number of commits in each of the first calls of done()
    size_t next[PRODUCERS];      // the number expected next from each producer
    size_t faults;               // violations of the contract of the queue that write() and done() have found
    bool last_was_idle;
    const struct commit *written_first;
    struct item *again; // done() pushes this once

    uint32_t random;           // state of the writer thread's random numbers; 0: no delays
    size_t retry_batches_left; // number of batches in which write() may still set retry
    size_t retried;            // number of commits for which write() set retry
    size_t wakes;              // calls of housekeep() that did not follow a batch
    bool batch_came;
    int64_t wait_ms; // what housekeep() returns
};

// Uses xorshift, which is random enough for delays and reproducible from its seed.
static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

// Yields the processor in about one of 8 calls, and sleeps for up to 0.5 ms in about one of 512. Does nothing if
// *random is 0.
static void delay(uint32_t *random)
{
    if (*random == 0)
        return;
    if (next_random(random) % 8 == 0)
        sched_yield();
    if (next_random(random) % 512 == 0)
        (void)usleep(next_random(random) % 500);
}

static void wait_at_gate(struct harness *harness)
{
    pthread_mutex_lock(&harness->mutex);
    harness->arrivals++;
    pthread_cond_broadcast(&harness->changed);
    while (harness->gate_closed)
        pthread_cond_wait(&harness->changed, &harness->mutex);
    pthread_mutex_unlock(&harness->mutex);
}

static void record_write(void *context, struct commit *batch)
{
    struct harness *harness = context;

    bool may_retry = harness->retry_batches_left > 0, retries = false;

    wait_at_gate(harness);
    delay(&harness->random);
    harness->written_first = batch;
    harness->batch_came = true;
    for (struct commit *commit = batch; commit; commit = commit->next) {
        harness->faults += commit->result != COMMIT_FAILED;
        commit->retry = may_retry && next_random(&harness->random) % 2;
        harness->retried += commit->retry;
        retries = retries || commit->retry;
        if (!commit->retry) {
            commit->result = COMMIT_RECORDED;
            harness->written++;
        }
    }
    harness->retry_batches_left -= retries;
}

static void record_done(void *context, struct commit *batch)
{
    struct harness *harness = context;
    size_t size = 0;

    delay(&harness->random);
    harness->faults += harness->retried == 0 && batch != harness->written_first;
    for (struct commit *commit = batch; commit; commit = commit->next) {
        struct item *item = (struct item *)commit;

        harness->faults += commit->result != COMMIT_RECORDED || commit->retry;
        harness->faults += harness->retried == 0 && item->number != harness->next[item->producer];
        harness->next[item->producer]++;
        commit->result = COMMIT_REPEATED;
        size++;
    }
    harness->faults += size > COMMIT_BATCH_MAX_COMMITS;
    if (harness->batch_count < MAX_BATCHES)
        harness->batches[harness->batch_count] = size;
    harness->batch_count++;
    harness->done += size;
    if (harness->again) {
        commit_queue_push(&harness->queue, &harness->again->commit);
        harness->again = NULL;
    }
}

static int64_t count_housekeeping(void *context, bool idle)
{
    struct harness *harness = context;

    delay(&harness->random);
    pthread_mutex_lock(&harness->mutex);
    harness->idle += idle;
    harness->last_was_idle = idle;
    harness->wakes += !harness->batch_came;
    harness->batch_came = false;
    pthread_cond_broadcast(&harness->changed);
    pthread_mutex_unlock(&harness->mutex);
    return harness->wait_ms;
}

static void start(struct harness *harness)
{
    struct commit_queue_functions functions = {record_write, record_done, count_housekeeping, harness};
    struct error error;

    pthread_mutex_init(&harness->mutex, NULL);
    pthread_cond_init(&harness->changed, NULL);
    assert_int_equal(commit_queue_start(&harness->queue, &functions, &error), 0);
}

static void finish(struct harness *harness)
{
    commit_queue_stop(&harness->queue);
    pthread_cond_destroy(&harness->changed);
    pthread_mutex_destroy(&harness->mutex);
    assert_int_equal(harness->faults, 0);
    assert_int_equal(harness->written, harness->done);
}

static void open_gate(struct harness *harness)
{
    pthread_mutex_lock(&harness->mutex);
    harness->gate_closed = false;
    pthread_cond_broadcast(&harness->changed);
    pthread_mutex_unlock(&harness->mutex);
}

// Waits until the writer thread has started this number of batches.
static void await_arrivals(struct harness *harness, size_t count)
{
    pthread_mutex_lock(&harness->mutex);
    while (harness->arrivals < count)
        pthread_cond_wait(&harness->changed, &harness->mutex);
    pthread_mutex_unlock(&harness->mutex);
}

static const struct destroyed_group small = {.body_length = 1};

static struct item new_item(size_t producer, size_t number, const struct destroyed_group *group)
{
    return (struct item){.commit = {.group = group, .result = COMMIT_FAILED}, .producer = producer, .number = number};
}

struct producer {
    struct commit_queue *queue;
    struct item *items;
    uint32_t random; // state of the random numbers; 0: no delays
};

static void *produce(void *argument)
{
    struct producer *producer = argument;

    for (size_t i = 0; i < PER_PRODUCER; i++) {
        commit_queue_push(producer->queue, &producer->items[i].commit);
        delay(&producer->random);
    }
    return NULL;
}

// Stops the queue right after the last push, so that commit_queue_stop must wait for all commits that are left.
static void push_from_many_threads(struct harness *harness, uint32_t random)
{
    struct item *items = calloc((size_t)PRODUCERS * PER_PRODUCER, sizeof *items);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];

    assert_non_null(items);
    for (size_t i = 0; i < (size_t)PRODUCERS * PER_PRODUCER; i++)
        items[i] = new_item(i / PER_PRODUCER, i % PER_PRODUCER, &small);
    harness->random = random;
    start(harness);
    for (size_t i = 0; i < PRODUCERS; i++) {
        producers[i] =
            (struct producer){&harness->queue, items + i * PER_PRODUCER, random ? random + (uint32_t)i + 1 : 0};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (size_t i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    finish(harness);
    assert_int_equal(harness->done, PRODUCERS * PER_PRODUCER);
    assert_true(harness->last_was_idle);
    for (size_t i = 0; i < (size_t)PRODUCERS * PER_PRODUCER; i++)
        assert_int_equal(items[i].commit.result, COMMIT_REPEATED);
    free(items);
}

TEST(returns_every_commit_once_and_in_order)
{
    struct harness harness = {.wait_ms = -1};

    push_from_many_threads(&harness, 0);
}

// Random delays at every step give ThreadSanitizer a different order in each run. SEED=n in the environment repeats the
// delays of an earlier run.
TEST(returns_every_commit_once_despite_retries)
{
    const char *given = getenv("SEED");
    uint32_t seed = given ? (uint32_t)strtoul(given, NULL, 10) : (uint32_t)time(NULL) | 1;
    struct harness harness = {.wait_ms = -1, .retry_batches_left = 8};

    print_message("SEED=%u\n", seed);
    push_from_many_threads(&harness, seed);
    assert_int_equal(harness.retry_batches_left, 0);
    assert_true(harness.retried > 0);
}

TEST(housekeeps_without_pushes)
{
    for (int64_t wait_ms = 0; wait_ms <= 1; wait_ms++) {
        struct item item = new_item(0, 0, &small);
        struct harness harness = {.wait_ms = wait_ms};

        start(&harness);
        commit_queue_push(&harness.queue, &item.commit);
        pthread_mutex_lock(&harness.mutex);
        while (harness.wakes < 3)
            pthread_cond_wait(&harness.changed, &harness.mutex);
        pthread_mutex_unlock(&harness.mutex);
        finish(&harness);
        assert_int_equal(harness.done, 1);
    }
}

TEST(limits_batches)
{
    // Each row has the number and the size of the commits that are pushed while the writer thread writes another one,
    // and the sizes of the batches in which the queue then returns these commits.
    static const struct {
        size_t commits, bytes_each;
        size_t batches[4];
    } rows[] = {
        {COMMIT_BATCH_MAX_COMMITS - 1, 1, {COMMIT_BATCH_MAX_COMMITS - 1}},
        {COMMIT_BATCH_MAX_COMMITS, 1, {COMMIT_BATCH_MAX_COMMITS}},
        {COMMIT_BATCH_MAX_COMMITS + 1, 1, {COMMIT_BATCH_MAX_COMMITS, 1}},
        {2 * COMMIT_BATCH_MAX_COMMITS + 3, 0, {COMMIT_BATCH_MAX_COMMITS, COMMIT_BATCH_MAX_COMMITS, 3}},
        {4, COMMIT_BATCH_MAX_BYTES / 4 - 1, {4}},
        {4, COMMIT_BATCH_MAX_BYTES / 4, {4}},
        {4, COMMIT_BATCH_MAX_BYTES / 4 + 1, {3, 1}},
        {3, COMMIT_BATCH_MAX_BYTES + 1, {1, 1, 1}},
    };

    for (size_t row = 0; row < COUNT(rows); row++) {
        struct destroyed_group group = {.body_length = rows[row].bytes_each};
        struct item *items = calloc(rows[row].commits + 1, sizeof *items);
        struct harness harness = {.wait_ms = -1, .gate_closed = true};
        size_t batch_count = 1;

        assert_non_null(items);
        start(&harness);
        for (size_t i = 0; i < rows[row].commits + 1; i++) {
            items[i] = new_item(0, i, &group);
            commit_queue_push(&harness.queue, &items[i].commit);
            if (i == 0)
                await_arrivals(&harness, 1);
        }
        open_gate(&harness);
        finish(&harness);
        assert_int_equal(harness.batches[0], 1);
        for (; batch_count <= 4 && rows[row].batches[batch_count - 1] > 0; batch_count++)
            assert_int_equal(harness.batches[batch_count], rows[row].batches[batch_count - 1]);
        assert_int_equal(harness.batch_count, batch_count);
        assert_int_equal(harness.idle, 1);
        assert_true(harness.last_was_idle);
        free(items);
    }
}

TEST(allows_a_push_in_done)
{
    struct item first = new_item(0, 0, &small), second = new_item(0, 1, &small);
    struct harness harness = {.wait_ms = -1, .again = &second};

    start(&harness);
    commit_queue_push(&harness.queue, &first.commit);
    await_arrivals(&harness, 2);
    finish(&harness);
    assert_int_equal(harness.done, 2);
    assert_int_equal(harness.batch_count, 2);
}

TEST(stops_without_a_commit)
{
    struct harness harness = {.wait_ms = -1};

    start(&harness);
    finish(&harness);
    assert_int_equal(harness.batch_count, 0);
}

TEST_MAIN(NULL, NULL)
