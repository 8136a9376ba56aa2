// The queue alone, without SQLite: meant to be run under ThreadSanitizer too.
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../../../src/store/commit_queue.h"

#include <cmocka.h>

#define PRODUCERS    4
#define PER_PRODUCER 20000
#define MAX_BATCHES  64

struct item {
    struct commit commit; // first, so that a commit is its item
    size_t producer;
    size_t number; // in the order in which the producer pushes
};

// All but the gate is the writer's alone until the queue was stopped; asserts belong to the main thread.
struct observer {
    struct commit_queue *queue;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool gate_closed;
    size_t arrivals; // at the gate

    size_t written, done, idle, batch_count;
    size_t batches[MAX_BATCHES]; // how many commits the first ones held
    size_t next[PRODUCERS];      // number expected from each
    size_t faults;               // out of order, twice, not written, written batch is not the one that is done
    bool last_was_idle;
    const struct commit *written_first;
    struct item *again; // is pushed from inside done(), once

    uint32_t random;         // of the writer's delays and choices; 0: none
    size_t holds_left, held; // batches of which something may still be held; commits that were
    size_t wakes;            // calls of between() that no batch came before
    bool batch_came;
    int64_t wait_ms; // what between() answers
};

// xorshift: good enough for delays, and repeatable from its seed.
static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

// Now and then somebody else gets the processor, or a good while passes.
static void delay(uint32_t *random)
{
    if (*random == 0)
        return;
    if (next_random(random) % 8 == 0)
        sched_yield();
    if (next_random(random) % 512 == 0)
        (void)usleep(next_random(random) % 500);
}

static void wait_at_gate(struct observer *observer)
{
    pthread_mutex_lock(&observer->mutex);
    observer->arrivals++;
    pthread_cond_broadcast(&observer->changed);
    while (observer->gate_closed)
        pthread_cond_wait(&observer->changed, &observer->mutex);
    pthread_mutex_unlock(&observer->mutex);
}

static void record_write(void *context, struct commit *batch)
{
    struct observer *observer = context;

    bool may_hold = observer->holds_left > 0, holds = false;

    wait_at_gate(observer);
    delay(&observer->random);
    observer->written_first = batch;
    observer->batch_came = true;
    for (struct commit *commit = batch; commit; commit = commit->next) {
        observer->faults += commit->result != COMMIT_FAILED;
        commit->held = may_hold && next_random(&observer->random) % 2;
        observer->held += commit->held;
        holds = holds || commit->held;
        if (!commit->held) {
            commit->result = COMMIT_RECORDED;
            observer->written++;
        }
    }
    observer->holds_left -= holds;
}

static void record_done(void *context, struct commit *batch)
{
    struct observer *observer = context;
    size_t size = 0;

    delay(&observer->random);
    observer->faults += observer->held == 0 && batch != observer->written_first;
    for (struct commit *commit = batch; commit; commit = commit->next) {
        struct item *item = (struct item *)commit;

        observer->faults += commit->result != COMMIT_RECORDED || commit->held;
        observer->faults += observer->held == 0 && item->number != observer->next[item->producer];
        observer->next[item->producer]++;
        commit->result = COMMIT_REPEATED;
        size++;
    }
    observer->faults += size > COMMIT_BATCH_MAX_COMMITS;
    if (observer->batch_count < MAX_BATCHES)
        observer->batches[observer->batch_count] = size;
    observer->batch_count++;
    observer->done += size;
    if (observer->again) {
        commit_queue_push(observer->queue, &observer->again->commit);
        observer->again = NULL;
    }
}

static int64_t record_between(void *context, bool idle)
{
    struct observer *observer = context;

    delay(&observer->random);
    pthread_mutex_lock(&observer->mutex);
    observer->idle += idle;
    observer->last_was_idle = idle;
    observer->wakes += !observer->batch_came;
    observer->batch_came = false;
    pthread_cond_broadcast(&observer->changed);
    pthread_mutex_unlock(&observer->mutex);
    return observer->wait_ms;
}

static void start_with(struct commit_queue *queue, struct observer *observer, int64_t wait_ms)
{
    struct commit_queue_functions functions = {record_write, record_done, record_between, observer};
    struct error error;

    observer->queue = queue;
    observer->wait_ms = wait_ms;
    pthread_mutex_init(&observer->mutex, NULL);
    pthread_cond_init(&observer->changed, NULL);
    assert_int_equal(commit_queue_start(queue, &functions, &error), 0);
}

static void start(struct commit_queue *queue, struct observer *observer)
{
    start_with(queue, observer, -1);
}

static void finish(struct commit_queue *queue, struct observer *observer)
{
    commit_queue_stop(queue);
    pthread_cond_destroy(&observer->changed);
    pthread_mutex_destroy(&observer->mutex);
    assert_int_equal(observer->faults, 0);
    assert_int_equal(observer->written, observer->done);
}

static void open_gate(struct observer *observer)
{
    pthread_mutex_lock(&observer->mutex);
    observer->gate_closed = false;
    pthread_cond_broadcast(&observer->changed);
    pthread_mutex_unlock(&observer->mutex);
}

// Until the writer has begun so many batches.
static void await_arrivals(struct observer *observer, size_t count)
{
    pthread_mutex_lock(&observer->mutex);
    while (observer->arrivals < count)
        pthread_cond_wait(&observer->changed, &observer->mutex);
    pthread_mutex_unlock(&observer->mutex);
}

static const struct destroyed_group small = {.body_length = 1};

static struct item new_item(size_t producer, size_t number, const struct destroyed_group *group)
{
    return (struct item){.commit = {.group = group, .result = COMMIT_FAILED}, .producer = producer, .number = number};
}

struct producer {
    struct commit_queue *queue;
    struct item *items;
    uint32_t random; // of its delays; 0: none
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

// Stopped right behind the last push: draining is part of it.
static void push_from_all_sides(struct observer *observer, uint32_t random)
{
    struct item *items = calloc((size_t)PRODUCERS * PER_PRODUCER, sizeof *items);
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    struct commit_queue queue;

    assert_non_null(items);
    for (size_t i = 0; i < (size_t)PRODUCERS * PER_PRODUCER; i++)
        items[i] = new_item(i / PER_PRODUCER, i % PER_PRODUCER, &small);
    observer->random = random;
    start(&queue, observer);
    for (size_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){&queue, items + i * PER_PRODUCER, random ? random + (uint32_t)i + 1 : 0};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }
    for (size_t i = 0; i < PRODUCERS; i++)
        pthread_join(threads[i], NULL);
    finish(&queue, observer);
    assert_int_equal(observer->done, PRODUCERS * PER_PRODUCER);
    assert_true(observer->last_was_idle);
    for (size_t i = 0; i < (size_t)PRODUCERS * PER_PRODUCER; i++)
        assert_int_equal(items[i].commit.result, COMMIT_REPEATED);
    free(items);
}

static void every_commit_comes_back_once_and_in_order(void **state)
{
    struct observer observer = {0};

    (void)state;
    push_from_all_sides(&observer, 0);
}

// With delays at every step, which ThreadSanitizer gets to see in other orders each time.
static void every_commit_comes_back_once_whatever_is_held(void **state)
{
    const char *given = getenv("SEED");
    uint32_t seed = given ? (uint32_t)strtoul(given, NULL, 10) : (uint32_t)time(NULL) | 1;
    struct observer observer = {.holds_left = 8};

    (void)state;
    print_message("SEED=%u\n", seed);
    push_from_all_sides(&observer, seed);
    assert_int_equal(observer.holds_left, 0);
    assert_true(observer.held > 0);
}

static void the_writer_wakes_by_itself(void **state)
{
    (void)state;
    for (int64_t wait_ms = 0; wait_ms <= 1; wait_ms++) {
        struct item item = new_item(0, 0, &small);
        struct observer observer = {0};
        struct commit_queue queue;

        start_with(&queue, &observer, wait_ms);
        commit_queue_push(&queue, &item.commit);
        pthread_mutex_lock(&observer.mutex);
        while (observer.wakes < 3)
            pthread_cond_wait(&observer.changed, &observer.mutex);
        pthread_mutex_unlock(&observer.mutex);
        finish(&queue, &observer);
        assert_int_equal(observer.done, 1);
    }
}

static void batches_are_bounded(void **state)
{
    // What waits while the writer is busy with one commit, and how it is taken then.
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

    (void)state;
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        struct destroyed_group group = {.body_length = rows[row].bytes_each};
        struct item *items = calloc(rows[row].commits + 1, sizeof *items);
        struct observer observer = {.gate_closed = true};
        struct commit_queue queue;
        size_t batch_count = 1;

        assert_non_null(items);
        start(&queue, &observer);
        for (size_t i = 0; i < rows[row].commits + 1; i++) {
            items[i] = new_item(0, i, &group);
            commit_queue_push(&queue, &items[i].commit);
            if (i == 0)
                await_arrivals(&observer, 1);
        }
        open_gate(&observer);
        finish(&queue, &observer);
        assert_int_equal(observer.batches[0], 1);
        for (; batch_count <= 4 && rows[row].batches[batch_count - 1] > 0; batch_count++)
            assert_int_equal(observer.batches[batch_count], rows[row].batches[batch_count - 1]);
        assert_int_equal(observer.batch_count, batch_count);
        assert_int_equal(observer.idle, 1);
        assert_true(observer.last_was_idle);
        free(items);
    }
}

static void done_may_push(void **state)
{
    struct item first = new_item(0, 0, &small), second = new_item(0, 1, &small);
    struct observer observer = {.again = &second};
    struct commit_queue queue;

    (void)state;
    start(&queue, &observer);
    commit_queue_push(&queue, &first.commit);
    await_arrivals(&observer, 2);
    finish(&queue, &observer);
    assert_int_equal(observer.done, 2);
    assert_int_equal(observer.batch_count, 2);
}

static void an_unused_queue_stops(void **state)
{
    struct observer observer = {0};
    struct commit_queue queue;

    (void)state;
    start(&queue, &observer);
    finish(&queue, &observer);
    assert_int_equal(observer.batch_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_commit_comes_back_once_and_in_order),
        cmocka_unit_test(every_commit_comes_back_once_whatever_is_held),
        cmocka_unit_test(the_writer_wakes_by_itself),
        cmocka_unit_test(batches_are_bounded),
        cmocka_unit_test(done_may_push),
        cmocka_unit_test(an_unused_queue_stops),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
