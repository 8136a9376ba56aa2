// A turn of the loop: deadlines, sleep, inbox, libmicrohttpd. The thread owns the connection set.
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
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
    bool reconfigured;                   // the shared limits have changed
    bool evict_reserve;                  // the server refused a connection at a hard limit
    bool stopping;                       // stays set
};

struct http_loop {
    struct http_connection_set set; // the first member, so that a pointer to it is also a pointer to the loop
    struct mhd_adapter *adapter;
    int epoll_fd; // watches the adapter's epoll descriptor and event_fd
    int event_fd; // readable when another thread wakes the loop
    pthread_t thread;

    pthread_mutex_t lock; // guards the inbox
    struct inbox inbox;
    atomic_bool has_queued; // since http_loop_wake_if_queued woke the loop
};

// A connection that arrived beyond a limit stays within the limit if another one can be evicted for it.
static void make_room(struct http_connection_set *set, struct http_connection *connection)
{
    struct address network = address_client_network(&connection->transport.address);

    if (http_set_evict(set, connection->exceeded_limit == HTTP_LIMIT_PER_ADDRESS ? &network : NULL))
        connection->exceeded_limit = HTTP_LIMIT_NONE;
}

static void start_connections(struct http_loop *loop, struct http_connection *connections)
{
    while (connections) {
        struct http_connection *connection = connections;

        connections = connection->deadline.next;
        connection->deadline.next = NULL;
        if (connection->exceeded_limit != HTTP_LIMIT_NONE)
            make_room(&loop->set, connection);
        mhd_adapter_add(loop->adapter, connection);
    }
}

static void resume_completed(struct http_exchange *completed)
{
    while (completed) {
        struct http_exchange *exchange = completed;

        completed = exchange->next;
        mhd_adapter_resume(exchange);
    }
}

static struct inbox empty_inbox(struct http_loop *loop)
{
    struct inbox inbox;

    pthread_mutex_lock(&loop->lock);
    inbox = loop->inbox;
    loop->inbox = (struct inbox){.stopping = inbox.stopping};
    pthread_mutex_unlock(&loop->lock);
    return inbox;
}

// Returns true if the loop must stop as soon as no request is pending.
static bool process_inbox(struct http_loop *loop)
{
    struct inbox inbox = empty_inbox(loop);

    if (inbox.reconfigured)
        http_shared_copy_limits(loop->set.shared, &loop->set.limits);
    if (inbox.evict_reserve)
        http_set_evict_reserve(&loop->set);
    loop->set.has_progress = inbox.connections || inbox.completed;
    start_connections(loop, inbox.connections);
    resume_completed(inbox.completed);
    return inbox.stopping;
}

// In a drain, closes idle connections from drain_idle_at_ms on. Returns the milliseconds until the next check.
static int64_t drain(struct http_loop *loop)
{
    int64_t left_ms = loop->set.shared->drain_idle_at_ms - loop->set.now_ms;

    if (left_ms <= 0)
        http_set_close_idle(&loop->set);
    return left_ms > DRAIN_POLL_MS ? left_ms : DRAIN_POLL_MS;
}

// Closes the connections whose time has come. Returns how long the loop may sleep, in milliseconds; -1: without a
// limit.
static int process_deadlines(struct http_loop *loop)
{
    int64_t timeout_ms;

    loop->set.now_ms = clock_monotonic_ms();
    timeout_ms = http_set_close_expired(&loop->set);
    if (loop->set.shared->draining)
        timeout_ms = clock_min_timeout_ms(timeout_ms, drain(loop));
    timeout_ms = clock_min_timeout_ms(timeout_ms, mhd_adapter_timeout_ms(loop->adapter));
    timeout_ms = mhd_quirk_adjust_timeout(&loop->set, timeout_ms);
    return timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX;
}

static void sleep_until_ready(struct http_loop *loop)
{
    struct epoll_event events[2];
    int count = epoll_wait(loop->epoll_fd, events, 2, process_deadlines(loop));
    uint64_t wakes;

    loop->set.now_ms = clock_monotonic_ms();
    for (int i = 0; i < count; i++) {
        if (events[i].data.fd == loop->event_fd && read(loop->event_fd, &wakes, sizeof wakes) < 0)
            log_debug("eventfd: %s", strerror(errno));
    }
}

static void *loop_main(void *argument)
{
    struct http_loop *loop = argument;
    bool stopping;

    http_set_own(&loop->set);
    do {
        sleep_until_ready(loop);
        stopping = process_inbox(loop);
        mhd_adapter_run(loop->adapter);
    } while (!stopping || loop->set.pending > 0);
    mhd_adapter_run_last(loop->adapter);
    http_set_disown(&loop->set);
    return NULL;
}

static int watch(const struct http_loop *loop, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int init_loop(struct http_loop *loop, struct error *error)
{
    int r;

    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->event_fd < 0)
        return error_set(error, errno, "cannot create an event loop: %s", strerror(errno));
    r = mhd_adapter_create(&loop->set, &loop->adapter, error);
    if (r < 0)
        return r;
    if (watch(loop, loop->event_fd) < 0 || watch(loop, mhd_adapter_epoll_fd(loop->adapter)) < 0)
        return error_set(error, errno, "cannot create an event loop: %s", strerror(errno));
    if ((errno = pthread_create(&loop->thread, NULL, loop_main, loop)) != 0)
        return error_set(error, errno, "the event loop thread cannot be started: %s", strerror(errno));
    return 0;
}

int http_loop_start(struct http_shared *shared, struct http_loop **ret_loop, struct error *error)
{
    struct http_loop *loop = calloc(1, sizeof *loop);
    int r;

    if (!loop)
        return error_set(error, ENOMEM, "out of memory");
    loop->set.shared = shared;
    http_shared_copy_limits(shared, &loop->set.limits);
    pthread_mutex_init(&loop->lock, NULL);
    r = init_loop(loop, error);
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
    pthread_mutex_lock(&loop->lock);
    assert(!loop->inbox.stopping);
    loop->inbox.stopping = true;
    pthread_mutex_unlock(&loop->lock);
    http_loop_wake(loop);
    pthread_join(loop->thread, NULL);
}

void http_loop_destroy(struct http_loop *loop)
{
    if (!loop)
        return;
    assert(!loop->set.has_owner && loop->set.pending == 0 && !loop->inbox.connections);
    mhd_adapter_destroy(loop->adapter);
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
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

void http_loop_complete(struct http_request *request, struct http_response *response)
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
    pthread_mutex_lock(&loop->lock);
    loop->inbox.evict_reserve = true;
    pthread_mutex_unlock(&loop->lock);
    loop->has_queued = true;
}

void http_loop_wake_if_queued(struct http_loop *loop)
{
    if (atomic_exchange(&loop->has_queued, false))
        http_loop_wake(loop);
}

void http_loop_reconfigure(struct http_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->inbox.reconfigured = true;
    pthread_mutex_unlock(&loop->lock);
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
