// Deadlines need no timers: each list is sorted, so that only its first connections can have expired.
#include "connection.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "imcallbackd/base/clock.h"

// The service gives up on a call after 2 s, so a connection without a request after this time is useless to the
// service.
#define CALL_TIMEOUT_MS 2000
// A loop that is this late did not run: the process was stopped, or the machine was suspended.
#define SUSPENSION_MS 100

static void assert_is_owner(const struct http_connection_set *set)
{
    assert(!set->has_owner || pthread_equal(set->owner, pthread_self()));
}

void http_set_own(struct http_connection_set *set)
{
    assert(!set->has_owner);
    set->owner = pthread_self();
    set->has_owner = true;
}

void http_set_disown(struct http_connection_set *set)
{
    assert(set->has_owner);
    assert_is_owner(set);
    set->has_owner = false;
}

struct http_connection *http_connection_create(struct http_shared *shared)
{
    struct http_connection *connection = calloc(1, sizeof *connection);

    if (!connection)
        return NULL;
    connection->shared = shared;
    connection->transport.fd = -1;
    connection->transport.socket_address_length = sizeof connection->transport.socket_address;
    return connection;
}

void http_connection_destroy(struct http_connection *connection)
{
    struct http_connection_set *set;

    if (!connection)
        return;
    assert(!connection->deadline.list && !connection->exchange);
    set = connection->set;
    if (set) {
        assert(set->connection_count > 0);
        set->connection_count--;
        if (!connection->is_verified)
            set->unverified_count--;
    }
    if (connection->transport.credentials)
        http_shared_release(connection->shared, &connection->transport.address);
    http_credentials_unref(connection->transport.credentials);
    free(connection);
}

static struct http_connection_list *list_of(struct http_connection_set *set, enum http_stage stage)
{
    switch (stage) {
    case HTTP_STAGE_IDLE:
        return &set->idle;
    case HTTP_STAGE_HELD:
        return &set->held;
    case HTTP_STAGE_HANDSHAKE:
    case HTTP_STAGE_HEAD:
    case HTTP_STAGE_BODY:
    case HTTP_STAGE_ANSWER:
        break;
    }
    return &set->timed;
}

static void append(struct http_connection_list *list, struct http_connection *connection)
{
    struct http_deadline *deadline = &connection->deadline;

    assert(!deadline->list);
    assert(!list->last || list->last->deadline.since_ms <= deadline->since_ms);
    deadline->list = list;
    deadline->next = NULL;
    deadline->previous = list->last;
    if (list->last)
        list->last->deadline.next = connection;
    else
        list->first = connection;
    list->last = connection;
}

static void unlink_connection(struct http_connection *connection)
{
    struct http_deadline *deadline = &connection->deadline;
    struct http_connection_list *list = deadline->list;

    assert(list);
    assert(deadline->previous ? deadline->previous->deadline.next == connection : list->first == connection);
    assert(deadline->next ? deadline->next->deadline.previous == connection : list->last == connection);
    if (deadline->previous)
        deadline->previous->deadline.next = deadline->next;
    else
        list->first = deadline->next;
    if (deadline->next)
        deadline->next->deadline.previous = deadline->previous;
    else
        list->last = deadline->previous;
    deadline->list = NULL;
    deadline->previous = deadline->next = NULL;
}

void http_set_expect(struct http_connection_set *set, struct http_connection *connection)
{
    assert(!connection->set && !connection->is_verified);
    connection->set = set;
    set->connection_count++;
    set->unverified_count++;
}

static void start_stage(struct http_connection *connection, enum http_stage stage)
{
    connection->deadline.stage = stage;
    connection->deadline.since_ms = connection->set->now_ms;
    append(list_of(connection->set, stage), connection);
}

void http_set_add(struct http_connection_set *set, struct http_connection *connection)
{
    assert_is_owner(set);
    assert(connection->set == set);
    start_stage(connection, HTTP_STAGE_HANDSHAKE);
}

void http_set_remove(struct http_connection *connection)
{
    assert_is_owner(connection->set);
    unlink_connection(connection);
}

// A request can end at any time, because its connection can be closed. The connection is then idle.
static bool may_follow(enum http_stage from, enum http_stage to)
{
    switch (from) {
    case HTTP_STAGE_HANDSHAKE:
    case HTTP_STAGE_ANSWER:
        return to == HTTP_STAGE_IDLE;
    case HTTP_STAGE_IDLE:
        return to == HTTP_STAGE_HEAD;
    case HTTP_STAGE_HEAD:
        return to == HTTP_STAGE_BODY || to == HTTP_STAGE_IDLE;
    case HTTP_STAGE_BODY:
        return to == HTTP_STAGE_HELD || to == HTTP_STAGE_ANSWER || to == HTTP_STAGE_IDLE;
    case HTTP_STAGE_HELD:
        return to == HTTP_STAGE_ANSWER || to == HTTP_STAGE_IDLE;
    }
    return false;
}

void http_connection_enter(struct http_connection *connection, enum http_stage stage)
{
    assert_is_owner(connection->set);
    assert(may_follow(connection->deadline.stage, stage));
    unlink_connection(connection);
    start_stage(connection, stage);
    connection->transport.body_follows = stage == HTTP_STAGE_ANSWER;
    // If the connection was closed while it was idle, a request that had already arrived still has its deadlines.
    connection->transport.closing = false;
    connection->set->has_progress = true;
}

void http_connection_mark_verified(struct http_connection *connection)
{
    assert_is_owner(connection->set);
    if (connection->is_verified)
        return;
    assert(connection->set->unverified_count > 0);
    connection->set->unverified_count--;
    connection->is_verified = true;
}

void http_connection_close_receive(struct http_connection *connection)
{
    connection->transport.receive_closed = true;
    (void)shutdown(connection->transport.fd, SHUT_RD);
}

void http_connection_close(struct http_connection *connection)
{
    assert_is_owner(connection->set);
    if (connection->transport.closing)
        return;
    connection->transport.closing = true;
    http_connection_close_receive(connection);
    if (connection->deadline.stage != HTTP_STAGE_IDLE)
        (void)shutdown(connection->transport.fd, SHUT_RDWR);
}

// Returns true if the kernel has bytes that the loop still has to read.
static bool has_unread_bytes(const struct http_connection *connection)
{
    char byte;

    return connection->deadline.stage != HTTP_STAGE_ANSWER &&
           recv(connection->transport.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static void restart_stage(struct http_connection *connection)
{
    enum http_stage stage = connection->deadline.stage;

    unlink_connection(connection);
    start_stage(connection, stage);
}

// A connection that is overdue by so much that the process was suspended may have unread data. The loop reads that data
// first, because the process was slow and not the connection.
static int64_t close_expired(const struct http_connection_list *list, int64_t timeout_ms, int64_t now_ms)
{
    struct http_connection *next;

    for (struct http_connection *connection = list->first; connection; connection = next) {
        int64_t left_ms = connection->deadline.since_ms + timeout_ms - now_ms;

        next = connection->deadline.next;
        if (left_ms > 0)
            return left_ms;
        if (left_ms < -SUSPENSION_MS && !connection->transport.closing && has_unread_bytes(connection)) {
            restart_stage(connection);
            next = next ? next : connection; // which is now at the end of the list
        } else {
            http_connection_close(connection);
        }
    }
    return -1;
}

int64_t http_set_close_expired(struct http_connection_set *set)
{
    assert_is_owner(set);
    return clock_min_timeout_ms(close_expired(&set->timed, set->limits.request_timeout_ms, set->now_ms),
                                close_expired(&set->idle, set->limits.idle_timeout_ms, set->now_ms));
}

static bool is_in_network(const struct http_connection *connection, const struct address *network)
{
    struct address of_connection;

    if (!network)
        return true;
    of_connection = address_client_network(&connection->transport.address);
    return memcmp(&of_connection, network, sizeof *network) == 0;
}

struct criteria {
    const struct address *network; // NULL: any
    bool is_verified;
    bool beyond_limit;
};

// Returns the connection that has been in the list longest, but at least since `since_ms`, and meets the criteria.
static struct http_connection *find(const struct http_connection_list *list, struct criteria criteria, int64_t since_ms)
{
    for (struct http_connection *connection = list->first; connection; connection = connection->deadline.next) {
        if (connection->deadline.since_ms > since_ms)
            return NULL;
        if (!connection->transport.closing && connection->is_verified == criteria.is_verified &&
            (connection->exceeded_limit != HTTP_LIMIT_NONE) == criteria.beyond_limit &&
            is_in_network(connection, criteria.network))
            return connection;
    }
    return NULL;
}

static bool close_if_found(struct http_connection *connection)
{
    if (connection)
        http_connection_close(connection);
    return connection != NULL;
}

bool http_set_evict(struct http_connection_set *set, const struct address *network)
{
    const struct criteria unverified = {.network = network}, verified = {.network = network, .is_verified = true};
    int64_t call_timed_out_ms = set->now_ms - CALL_TIMEOUT_MS;

    assert_is_owner(set);
    return close_if_found(find(&set->timed, unverified, call_timed_out_ms)) ||
           close_if_found(find(&set->idle, unverified, set->now_ms)) ||
           close_if_found(find(&set->idle, verified, call_timed_out_ms));
}

void http_set_evict_reserve(struct http_connection_set *set)
{
    const struct criteria reserve = {.beyond_limit = true};
    int64_t call_timed_out_ms = set->now_ms - CALL_TIMEOUT_MS;

    assert_is_owner(set);
    while (close_if_found(find(&set->timed, reserve, call_timed_out_ms)) ||
           close_if_found(find(&set->idle, reserve, call_timed_out_ms))) {
    }
}

void http_set_close_idle(struct http_connection_set *set)
{
    assert_is_owner(set);
    // A connection in its handshake has no request yet.
    for (struct http_connection *one = set->timed.first; one; one = one->deadline.next) {
        if (one->deadline.stage == HTTP_STAGE_HANDSHAKE)
            http_connection_close(one);
    }
    for (struct http_connection *one = set->idle.first; one; one = one->deadline.next)
        http_connection_close(one);
}
