// Generates load for Redis and PostgreSQL: one thread drives many TLS connections, and every request records the same
// events as those of imcallbackd-load. Like that program with --gated, it prints the number of connections and waits
// for a byte on standard input, and once more after the report, which is one line of JSON. The exit status is 0 only if
// every event was recorded.
#include "rivals.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/parse.h"

#define EVENTS_PER_WAIT 256
#define TIMEOUT_MS      120000

struct connection {
    void *client;
    int64_t started_at_us;
};

struct rivals {
    struct rivals_options options;
    const struct protocol *protocol;
    struct connection *connections;
    int epoll_fd;
    uint64_t started, answered, recorded;
    int64_t *latencies_us;
};

void die(const char *what, const char *why)
{
    fprintf(stderr, "imcallbackd-bench-rivals: %s: %s\n", what, why);
    exit(2);
}

void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (!memory)
        die("memory", strerror(ENOMEM));
    return memory;
}

static void start(struct rivals *rivals, struct connection *connection)
{
    if (rivals->started == rivals->options.total)
        return;
    connection->started_at_us = clock_monotonic_us();
    rivals->protocol->send(connection->client, &rivals->options, rivals->started++);
}

static void drive(struct rivals *rivals, struct connection *connection)
{
    enum progress progress = rivals->protocol->receive(connection->client);

    if (progress == WAITING)
        return;
    rivals->latencies_us[rivals->answered++] = clock_monotonic_us() - connection->started_at_us;
    rivals->recorded += progress == RECORDED;
    start(rivals, connection);
}

static void run(struct rivals *rivals)
{
    struct epoll_event events[EVENTS_PER_WAIT];

    for (uint64_t i = 0; i < rivals->options.connections; i++)
        start(rivals, &rivals->connections[i]);
    while (rivals->answered < rivals->options.total) {
        int count = epoll_wait(rivals->epoll_fd, events, EVENTS_PER_WAIT, TIMEOUT_MS);

        if (count < 0 && errno != EINTR)
            die("epoll_wait", strerror(errno));
        if (count == 0)
            die("server", "no answer before the timeout");
        for (int i = 0; i < count; i++)
            drive(rivals, events[i].data.ptr);
    }
}

static void connect_all(struct rivals *rivals)
{
    for (uint64_t i = 0; i < rivals->options.connections; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &rivals->connections[i]};
        int fd;

        rivals->connections[i].client = rivals->protocol->connect(&rivals->options, &fd);
        if (epoll_ctl(rivals->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
            die("epoll_ctl", strerror(errno));
    }
}

static int compare_us(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void print(struct rivals *rivals, double seconds)
{
    const int64_t *sorted = rivals->latencies_us;
    uint64_t last = rivals->answered - 1;

    qsort(rivals->latencies_us, rivals->answered, sizeof *rivals->latencies_us, compare_us);
    printf("{\"seconds\":%.3f,\"ok\":%" PRIu64 ",\"rate_per_second\":%.0f,\"resumed\":0,\"p50_us\":%" PRId64
           ",\"p99_us\":%" PRId64 ",\"p999_us\":%" PRId64 ",\"max_us\":%" PRId64 "}\n",
           seconds, rivals->recorded, (double)rivals->answered / seconds, sorted[last / 2], sorted[last * 99 / 100],
           sorted[last * 999 / 1000], sorted[last]);
}

static void wait_for_parent(void)
{
    if (fflush(stdout) != 0)
        die("standard output", strerror(errno));
    (void)getchar();
}

static uint64_t number(const char *text)
{
    uint64_t value;

    if (parse_decimal(text, strlen(text), 1000000000, &value) < 0 || value == 0)
        die(text, "not a number from 1 to 1000000000");
    return value;
}

int main(int argc, char **argv)
{
    struct rivals rivals = {0};
    int64_t start_us;

    if (argc != 8 || (strcmp(argv[1], "redis") != 0 && strcmp(argv[1], "postgresql") != 0)) {
        fprintf(stderr, "usage: imcallbackd-bench-rivals redis|postgresql PORT CA SEED CONNECTIONS TOTAL MEMBERS\n");
        return 2;
    }
    rivals.protocol = strcmp(argv[1], "redis") == 0 ? &redis_protocol : &postgres_protocol;
    rivals.options = (struct rivals_options){.port = number(argv[2]),
                                             .ca = argv[3],
                                             .seed = number(argv[4]),
                                             .connections = number(argv[5]),
                                             .total = number(argv[6]),
                                             .members = number(argv[7])};
    rivals.connections = allocate(rivals.options.connections, sizeof *rivals.connections);
    rivals.latencies_us = allocate(rivals.options.total, sizeof *rivals.latencies_us);
    rivals.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (rivals.epoll_fd < 0)
        die("start", strerror(errno));
    connect_all(&rivals);
    printf("%" PRIu64 " connections\n", rivals.options.connections);
    wait_for_parent();
    start_us = clock_monotonic_us();
    run(&rivals);
    print(&rivals, (double)(clock_monotonic_us() - start_us) / 1e6);
    wait_for_parent();
    return rivals.recorded == rivals.options.total ? 0 : 1;
}
