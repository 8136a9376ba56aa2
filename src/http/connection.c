// Deadlines need no timers: each list is sorted by the start of the stage, so only its first connections can have
// expired.
#include "connection.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "imcallbackd/base/clock.h"

// The service gives up on a call after 2 s. A connection that has been in the same stage for this long therefore has no
// call that can still succeed.
#define CALL_TIMEOUT_MS 2000
// A loop that is this late did not run: the process was stopped, or the machine was suspended.
#define SUSPENSION_MS 100

// Before the loop's thread starts and after it ends, the set has no owner, and any one thread may use the set.
static void assert_is_owner(const struct http_connection_set *set)
{
    assert(!set->has_owner || pthread_equal(set->owner, pthread_self()));
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

// A connection of a trusted proxy counts for a client network only if a PROXY header has named the client.
static bool counts_for_network(const struct http_transport *transport)
{
    return transport->client == HTTP_CLIENT_IS_PEER || transport->client == HTTP_CLIENT_FROM_HEADER;
}

void http_connection_destroy(struct http_connection *connection)
{
    const struct http_transport *transport;

    if (!connection)
        return;
    transport = &connection->transport;
    assert(!connection->deadline.list && !connection->exchange);
    if (connection->set) {
        assert(connection->set->connection_count > 0);
        connection->set->connection_count--;
        if (!connection->is_verified)
            connection->set->unverified_count--;
    }
    if (transport->credentials)
        http_shared_release(connection->shared, counts_for_network(transport) ? &transport->network : NULL);
    http_credentials_unref(transport->credentials);
    free(connection);
}

// Puts the connection at the end of the stage's list, so that the list stays sorted.
static void start_stage(struct http_connection *connection, enum http_stage stage)
{
    struct http_connection_set *set = connection->set;
    struct http_connection_list *list = stage == HTTP_STAGE_IDLE   ? &set->idle
                                        : stage == HTTP_STAGE_HELD ? &set->held
                                                                   : &set->timed;

    assert(!connection->deadline.list);
    assert(!list->last || list->last->deadline.since_ms <= set->now_ms);
    connection->deadline = (struct http_deadline){stage, set->now_ms, list, list->last, NULL};
    *(list->last ? &list->last->deadline.next : &list->first) = connection;
    list->last = connection;
}

void http_set_remove(struct http_connection *connection)
{
    struct http_deadline *deadline = &connection->deadline;
    struct http_connection_list *list = deadline->list;
    struct http_connection **from_previous, **from_next;

    assert_is_owner(connection->set);
    assert(list);
    from_previous = deadline->previous ? &deadline->previous->deadline.next : &list->first;
    from_next = deadline->next ? &deadline->next->deadline.previous : &list->last;
    assert(*from_previous == connection && *from_next == connection);
    *from_previous = deadline->next;
    *from_next = deadline->previous;
    deadline->list = NULL;
}

void http_set_expect(struct http_connection_set *set, struct http_connection *connection)
{
    assert(!connection->set && !connection->is_verified);
    connection->set = set;
    set->connection_count++;
    set->unverified_count++;
}

void http_set_add(struct http_connection_set *set, struct http_connection *connection)
{
    assert_is_owner(set);
    assert(connection->set == set);
    start_stage(connection, HTTP_STAGE_HANDSHAKE);
}

#define MAY_BE(stage) (1U << HTTP_STAGE_##stage)

// The stages that may follow each stage. The connection can be closed while a request is in any of its stages, HEAD to
// ANSWER; http_request_finish then moves the connection to IDLE.
static const unsigned int followers[] = {
    [HTTP_STAGE_HANDSHAKE] = MAY_BE(IDLE),
    [HTTP_STAGE_IDLE] = MAY_BE(HEAD),
    [HTTP_STAGE_HEAD] = MAY_BE(BODY) | MAY_BE(IDLE),
    [HTTP_STAGE_BODY] = MAY_BE(HELD) | MAY_BE(ANSWER) | MAY_BE(IDLE),
    [HTTP_STAGE_HELD] = MAY_BE(ANSWER) | MAY_BE(IDLE),
    [HTTP_STAGE_ANSWER] = MAY_BE(IDLE),
};

void http_connection_enter(struct http_connection *connection, enum http_stage stage)
{
    assert(followers[connection->deadline.stage] & 1U << stage);
    http_set_remove(connection);
    start_stage(connection, stage);
    // If http_connection_close was called while the connection was idle, a request that had already arrived is still
    // answered, and its deadlines must be able to close the connection again.
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

// Returns true if the kernel has bytes that the loop has not seen yet and has to read in this stage. In stage ANSWER
// the loop reads nothing.
static bool has_unread_bytes(const struct http_connection *connection)
{
    int unread = 0;

    return connection->deadline.stage != HTTP_STAGE_ANSWER && ioctl(connection->transport.fd, FIONREAD, &unread) == 0 &&
           (size_t)unread > connection->transport.header_bytes;
}

// Closes the connections whose stage has timed out. Returns the milliseconds until the next deadline in the list, or -1
// if there is none. If a connection is overdue by more than SUSPENSION_MS, the process was suspended, so the client was
// not slow. If such a connection has unread data and is not closing yet, its stage starts again, so that the loop can
// read the data.
static int64_t close_expired(const struct http_connection_list *list, int64_t timeout_ms, int64_t now_ms)
{
    struct http_connection *next;

    for (struct http_connection *connection = list->first; connection; connection = next) {
        int64_t left_ms = connection->deadline.since_ms + timeout_ms - now_ms;

        next = connection->deadline.next;
        if (left_ms > 0)
            return left_ms;
        if (left_ms < -SUSPENSION_MS && !connection->transport.closing && has_unread_bytes(connection)) {
            http_set_remove(connection);
            start_stage(connection, connection->deadline.stage);
            next = next ? next : connection; // `connection` is now at the end of the list
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

static bool is_from(const struct http_transport *transport, const struct address *network)
{
    return counts_for_network(transport) && memcmp(&transport->network, network, sizeof *network) == 0;
}

// Among the connections of the list that match `is_verified`, `beyond_limit` and `network` and are not closing yet,
// closes the one that has been in its stage longest, provided that the stage started at `since_ms` or earlier. If
// `network` is NULL, every network matches. Returns false if there is no such connection.
static bool close_oldest(const struct http_connection_list *list, bool is_verified, bool beyond_limit,
                         const struct address *network, int64_t since_ms)
{
    for (struct http_connection *one = list->first; one && one->deadline.since_ms <= since_ms;
         one = one->deadline.next) {
        if (!one->transport.closing && one->is_verified == is_verified &&
            (one->exceeded_limit != HTTP_LIMIT_NONE) == beyond_limit &&
            (!network || is_from(&one->transport, network))) {
            http_connection_close(one);
            return true;
        }
    }
    return false;
}

bool http_set_evict(struct http_connection_set *set, const struct address *network)
{
    int64_t call_timed_out_ms = set->now_ms - CALL_TIMEOUT_MS;

    assert_is_owner(set);
    return close_oldest(&set->timed, false, false, network, call_timed_out_ms) ||
           close_oldest(&set->idle, false, false, network, set->now_ms) ||
           close_oldest(&set->idle, true, false, network, call_timed_out_ms);
}

void http_connection_make_room(struct http_connection *connection)
{
    bool per_address = connection->exceeded_limit == HTTP_LIMIT_PER_ADDRESS;

    // http_set_evict never evicts a connection beyond a limit, so it never evicts this one.
    assert(connection->exceeded_limit != HTTP_LIMIT_NONE);
    if (http_set_evict(connection->set, per_address ? &connection->transport.network : NULL))
        connection->exceeded_limit = HTTP_LIMIT_NONE;
}

void http_set_evict_reserve(struct http_connection_set *set)
{
    int64_t call_timed_out_ms = set->now_ms - CALL_TIMEOUT_MS;

    assert_is_owner(set);
    while (close_oldest(&set->timed, false, true, NULL, call_timed_out_ms) ||
           close_oldest(&set->idle, false, true, NULL, call_timed_out_ms)) {
    }
}

void http_set_close_idle(struct http_connection_set *set)
{
    assert_is_owner(set);
    // A connection in its handshake has no request yet, so it is closed, too.
    for (struct http_connection *one = set->timed.first; one; one = one->deadline.next) {
        if (one->deadline.stage == HTTP_STAGE_HANDSHAKE)
            http_connection_close(one);
    }
    for (struct http_connection *one = set->idle.first; one; one = one->deadline.next)
        http_connection_close(one);
}
