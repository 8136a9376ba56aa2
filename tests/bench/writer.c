// Measures the upper limit of the store's speed: the daemon's schema and statements without sockets, HTTP, JSON or a
// queue. Events like those of the load generator go straight into the database, a fixed number in each transaction. The
// measured time does not include creating the events. The result is one line of JSON on standard output.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/parse.h"
#include "store/database.h"
#include "store/recorder.h"

#define TEXT_BYTES 32
// The value of CHECKPOINT_FRAMES_LOADED in store.c.
#define CHECKPOINT_FRAMES 4000

struct event {
    struct destroyed_group group;
    struct commit commit;
    char group_id[TEXT_BYTES];
    char (*texts)[TEXT_BYTES];
    const char **members;
};

struct writer {
    struct database database;
    struct recorder recorder;
    struct event *events; // the events of one batch
    uint64_t seed, total, members, batch;
    uint64_t recorded;
    int64_t *commits_us;
    size_t commit_count;
    int64_t spent_us;
};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "imcallbackd-bench-writer: %s: %s\n", what, why);
    exit(1);
}

static void require(enum store_failure failure, const struct error *error)
{
    if (failure != STORE_FAILURE_NONE)
        die("database", error->text);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);

    if (!memory)
        die("memory", strerror(ENOMEM));
    return memory;
}

static void fill(struct event *event, const struct writer *writer, uint64_t number)
{
    (void)snprintf(event->group_id, TEXT_BYTES, "load-%" PRIu64 "-%" PRIu64, writer->seed, number);
    for (uint64_t i = 0; i < writer->members; i++) {
        (void)snprintf(event->texts[i], TEXT_BYTES, "member-%" PRIu64 "-%" PRIu64, number, i);
        event->members[i] = event->texts[i];
    }
    event->group = (struct destroyed_group){.sdk_appid = 1400000001,
                                            .group_id = event->group_id,
                                            .has_event_time = true,
                                            .event_time_ms = INT64_C(1700000000000) + (int64_t)number,
                                            .type = "Public",
                                            .owner_account = "owner",
                                            .operator_account = "administrator",
                                            .name = "load",
                                            .has_member_list = true,
                                            .member_count = writer->members,
                                            .members = event->members,
                                            .opt_platform = "RESTAPI",
                                            .client_ip = "127.0.0.1",
                                            .remote_address = "127.0.0.1",
                                            .received_at_ms = clock_realtime_ms()};
    event->commit = (struct commit){.group = &event->group};
}

static void write_batch(struct writer *writer, uint64_t count)
{
    struct error error;

    require(recorder_begin(&writer->recorder, &error), &error);
    for (uint64_t i = 0; i < count; i++)
        require(recorder_record(&writer->recorder, &writer->events[i].commit, &error), &error);
    require(recorder_commit(&writer->recorder, &error), &error);
}

static void run(struct writer *writer)
{
    struct error error;

    while (writer->recorded < writer->total) {
        uint64_t left = writer->total - writer->recorded, count = left < writer->batch ? left : writer->batch;
        int64_t start_us;

        for (uint64_t i = 0; i < count; i++)
            fill(&writer->events[i], writer, writer->recorded + i);
        start_us = clock_monotonic_us();
        write_batch(writer, count);
        writer->commits_us[writer->commit_count++] = clock_monotonic_us() - start_us;
        if (database_checkpoint_due(&writer->database, CHECKPOINT_FRAMES))
            require(database_checkpoint(&writer->database, SQLITE_CHECKPOINT_PASSIVE, &error), &error);
        writer->spent_us += clock_monotonic_us() - start_us;
        writer->recorded += count;
    }
}

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void print(struct writer *writer)
{
    double seconds = (double)writer->spent_us / 1e6;
    const int64_t *sorted = writer->commits_us;
    size_t last = writer->commit_count - 1;

    qsort(writer->commits_us, writer->commit_count, sizeof *writer->commits_us, compare_us);
    printf("{\"seconds\":%.6f,\"events\":%" PRIu64 ",\"rate_per_second\":%.0f,\"p50_us\":%" PRId64
           ",\"p99_us\":%" PRId64 ",\"p999_us\":%" PRId64 "}\n",
           seconds, writer->recorded, (double)writer->recorded / seconds, sorted[last / 2], sorted[last * 99 / 100],
           sorted[last * 999 / 1000]);
}

static uint64_t number(const char *text)
{
    uint64_t value;

    if (parse_decimal(text, strlen(text), 1000000000, &value) < 0)
        die(text, "not a number up to 1000000000");
    return value;
}

int main(int argc, char **argv)
{
    struct writer writer = {0};
    struct error error;

    if (argc != 6) {
        fprintf(stderr, "usage: imcallbackd-bench-writer DATABASE SEED EVENTS MEMBERS EVENTS-PER-COMMIT\n");
        return 2;
    }
    writer.seed = number(argv[2]);
    writer.total = number(argv[3]);
    writer.members = number(argv[4]);
    writer.batch = number(argv[5]);
    if (writer.total == 0 || writer.batch == 0)
        die("arguments", "EVENTS and EVENTS-PER-COMMIT must not be 0");
    writer.events = allocate(writer.batch, sizeof *writer.events);
    writer.commits_us = allocate(writer.total / writer.batch + 1, sizeof *writer.commits_us);
    for (uint64_t i = 0; i < writer.batch; i++) {
        writer.events[i].texts = allocate(writer.members, TEXT_BYTES);
        writer.events[i].members = allocate(writer.members, sizeof *writer.events[i].members);
    }
    if (database_open(&writer.database, argv[1], &error) < 0)
        die("database", error.text);
    require(database_recover_wal(&writer.database, &error), &error);
    if (recorder_init(&writer.recorder, writer.database.connection, &error) < 0)
        die("database", error.text);
    run(&writer);
    print(&writer);
    recorder_finish(&writer.recorder);
    require(database_checkpoint(&writer.database, SQLITE_CHECKPOINT_TRUNCATE, &error), &error);
    database_close(&writer.database);
    for (uint64_t i = 0; i < writer.batch; i++) {
        free(writer.events[i].members);
        free(writer.events[i].texts);
    }
    free(writer.commits_us);
    free(writer.events);
    return 0;
}
