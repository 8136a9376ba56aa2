// Each iteration of the loop closes expired connections, sleeps, handles what other threads have requested, and runs
// libmicrohttpd. The loop's thread owns the connection set.
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "mhd.h"
#include "mhd_quirks.h"
#include "request.h"

// How often a draining loop checks whether a connection has become idle.
#define DRAIN_POLL_MS 10

struct inbox {
    struct http_connection *connections; // linked by deadline.next
    struct http_exchange *completed;     // linked by next
};

struct http_loop {
    struct http_connection_set set; // the first member, so that a pointer to it is also a pointer to the loop
    int event_fd;                   // readable when another thread wakes the loop
    pthread_t thread;

    pthread_mutex_t lock; // guards the inbox
    struct inbox inbox;
    atomic_bool has_queued;    // something was queued since http_loop_wake_if_queued last woke the loop
    atomic_bool reconfigured;  // the shared limits have changed
    atomic_bool evict_reserve; // a connection was refused at a hard limit
    atomic_bool ending;        // the thread ends once no request is pending; with shared.stopping, none becomes pending
};

static void process_inbox(struct http_loop *loop)
{
    struct inbox inbox;

    pthread_mutex_lock(&loop->lock);
    inbox = loop->inbox;
    loop->inbox = (struct inbox){0};
    pthread_mutex_unlock(&loop->lock);

    loop->set.has_progress = inbox.connections || inbox.completed;
    while (inbox.connections) {
        struct http_connection *connection = inbox.connections;

        inbox.connections = connection->deadline.next;
        connection->deadline.next = NULL;
        if (connection->exceeded_limit != HTTP_LIMIT_NONE)
            http_connection_make_room(connection);
        mhd_adapter_add(connection);
    }
    while (inbox.completed) {
        struct http_exchange *exchange = inbox.completed;

        inbox.completed = exchange->next;
        mhd_adapter_complete(exchange);
    }
}

// Closes the idle connections once the time drain_idle_at_ms has come. Returns the milliseconds until the next check.
static int64_t drain(struct http_loop *loop)
{
    int64_t left_ms = loop->set.shared->drain_idle_at_ms - loop->set.now_ms;

    if (left_ms <= 0)
        http_set_close_idle(&loop->set);
    return left_ms > DRAIN_POLL_MS ? left_ms : DRAIN_POLL_MS;
}

// Closes the connections whose deadlines have passed and, after the grace period of a drain, the idle ones. Returns how
// long the loop may sleep, in milliseconds, or -1 if there is no limit.
static int process_deadlines(struct http_loop *loop)
{
    int64_t timeout_ms;

    loop->set.now_ms = clock_monotonic_ms();
    timeout_ms = http_set_close_expired(&loop->set);
    if (loop->set.shared->draining)
        timeout_ms = clock_min_timeout_ms(timeout_ms, drain(loop));
    timeout_ms =
        clock_min_timeout_ms(timeout_ms, mhd_quirk_adjust_timeout(&loop->set, mhd_adapter_timeout_ms(&loop->set)));
    return timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX;
}

static void sleep_until_ready(struct http_loop *loop)
{
    struct pollfd ready[] = {{.fd = loop->event_fd, .events = POLLIN},
                             {.fd = mhd_adapter_epoll_fd(&loop->set), .events = POLLIN}};
    int count = poll(ready, 2, process_deadlines(loop));
    uint64_t wakes;

    loop->set.now_ms = clock_monotonic_ms();
    if (count > 0 && ready[0].revents && read(loop->event_fd, &wakes, sizeof wakes) < 0)
        log_debug("eventfd: %s", strerror(errno));
}

static void *loop_main(void *argument)
{
    struct http_loop *loop = argument;
    struct http_connection_set *set = &loop->set;
    bool ending;

    set->owner = pthread_self();
    set->has_owner = true;
    do {
        sleep_until_ready(loop);
        if (atomic_exchange(&loop->reconfigured, false))
            http_shared_copy_limits(set->shared, &set->limits);
        if (atomic_exchange(&loop->evict_reserve, false))
            http_set_evict_reserve(set);
        ending = loop->ending; // read before the inbox: once the flag is set, no thread queues a connection
        process_inbox(loop);
        mhd_adapter_run(set);
    } while (!ending || set->pending > 0);
    for (int i = 0; i < MHD_QUIRK_LAST_TURNS; i++)
        mhd_adapter_run(set);
    set->has_owner = false;
    return NULL;
}

static int start_thread(struct http_loop *loop, struct error *error)
{
    int r = mhd_adapter_start(&loop->set, error);

    if (r < 0)
        return r;
    loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->event_fd < 0 || (errno = pthread_create(&loop->thread, NULL, loop_main, loop)) != 0)
        return error_set(error, errno, "the event loop thread cannot be started: %s", strerror(errno));
    pthread_setname_np(loop->thread, "http-loop");
    return 0;
}

int http_loop_start(struct http_shared *shared, struct http_loop **ret_loop, struct error *error)
{
    struct http_loop *loop = calloc(1, sizeof *loop);
    int r;

    if (!loop)
        return error_set(error, ENOMEM, "out of memory");
    loop->event_fd = -1;
    loop->set.shared = shared;
    http_shared_copy_limits(shared, &loop->set.limits);
    pthread_mutex_init(&loop->lock, NULL);
    r = start_thread(loop, error);
    if (r < 0) {
        http_loop_destroy(loop);
        return r;
    }
    *ret_loop = loop;
    return 0;
}

void http_loop_stop(struct http_loop *loop)
{
    if (!loop)
        return;
    assert(loop->set.shared->stopping && !loop->ending);
    loop->ending = true;
    http_loop_wake(loop);
    pthread_join(loop->thread, NULL);
}

void http_loop_destroy(struct http_loop *loop)
{
    if (!loop)
        return;
    assert(!loop->set.has_owner && loop->set.pending == 0 && !loop->inbox.connections);
    mhd_adapter_stop(&loop->set);
    if (loop->event_fd >= 0)
        close(loop->event_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

void http_loop_add(struct http_loop *loop, struct http_connection *connection)
{
    http_set_expect(&loop->set, connection);
    pthread_mutex_lock(&loop->lock);
    connection->deadline.next = loop->inbox.connections;
    loop->inbox.connections = connection;
    pthread_mutex_unlock(&loop->lock);
    loop->has_queued = true;
}

void http_request_complete(struct http_request *request, struct http_response *response)
{
    struct http_exchange *exchange = (struct http_exchange *)request;
    struct http_loop *loop = (struct http_loop *)exchange->connection->set;

    assert(exchange->phase == HTTP_PHASE_PENDING && !exchange->response);
    exchange->response = response;
    pthread_mutex_lock(&loop->lock);
    exchange->next = loop->inbox.completed;
    loop->inbox.completed = exchange;
    pthread_mutex_unlock(&loop->lock);
    loop->has_queued = true;
}

void http_loop_evict_reserve(struct http_loop *loop)
{
    loop->evict_reserve = true;
    loop->has_queued = true;
}

void http_loop_wake_if_queued(struct http_loop *loop)
{
    if (atomic_exchange(&loop->has_queued, false))
        http_loop_wake(loop);
}

void http_loop_reconfigure(struct http_loop *loop)
{
    loop->reconfigured = true;
    http_loop_wake(loop);
}

void http_loop_wake(struct http_loop *loop)
{
    uint64_t one = 1;

    // The write fails only if the counter is full, and then the loop is already awake.
    if (write(loop->event_fd, &one, sizeof one) < 0)
        log_debug("eventfd: %s", strerror(errno));
}

unsigned int http_loop_connection_count(const struct http_loop *loop)
{
    return loop->set.connection_count;
}

unsigned int http_loop_unverified_count(const struct http_loop *loop)
{
    return loop->set.unverified_count;
}
