#include "connection.h"

#include <string.h>
#include <sys/socket.h>

#include "imcallbackd/base/clock.h"

// The service gives up on a call after 2 s, so a connection that has not come to a request within it serves nobody.
#define CALLER_PATIENCE_MS 2000
// A loop that is so late did not run: the process was stopped, or the machine suspended.
#define PAUSE_MS 100

static struct http_connection_list *list_of(struct http_connections *connections, enum http_stage stage)
{
    switch (stage) {
    case HTTP_STAGE_IDLE:
        return &connections->idle;
    case HTTP_STAGE_HELD:
        return &connections->held;
    case HTTP_STAGE_HANDSHAKE:
    case HTTP_STAGE_HEAD:
    case HTTP_STAGE_BODY:
    case HTTP_STAGE_ANSWER:
        break;
    }
    return &connections->timed;
}

static void append(struct http_connection_list *list, struct http_connection *connection)
{
    connection->next = NULL;
    connection->previous = list->last;
    if (list->last)
        list->last->next = connection;
    else
        list->first = connection;
    list->last = connection;
}

static void unlink_from(struct http_connection_list *list, struct http_connection *connection)
{
    if (connection->previous)
        connection->previous->next = connection->next;
    else
        list->first = connection->next;
    if (connection->next)
        connection->next->previous = connection->previous;
    else
        list->last = connection->previous;
}

void http_connections_add(struct http_connections *connections, struct http_connection *connection, int64_t now_ms)
{
    connection->stage = HTTP_STAGE_HANDSHAKE;
    connection->since_ms = now_ms;
    append(&connections->timed, connection);
}

void http_connections_remove(struct http_connections *connections, struct http_connection *connection)
{
    unlink_from(list_of(connections, connection->stage), connection);
}

void http_connections_enter(struct http_connections *connections, struct http_connection *connection,
                            enum http_stage stage, int64_t now_ms)
{
    unlink_from(list_of(connections, connection->stage), connection);
    connection->stage = stage;
    connection->since_ms = now_ms;
    connection->body_follows = stage == HTTP_STAGE_ANSWER;
    connection->ending = false; // a request that was under way when its connection was idle has deadlines too
    append(list_of(connections, stage), connection);
}

void http_connection_end_reading(struct http_connection *connection)
{
    connection->reading_ended = true;
    (void)shutdown(connection->fd, SHUT_RD);
}

void http_connection_end(struct http_connection *connection)
{
    if (connection->ending)
        return;
    connection->ending = true;
    http_connection_end_reading(connection);
    if (connection->stage != HTTP_STAGE_IDLE)
        (void)shutdown(connection->fd, SHUT_RDWR);
}

// Whether bytes wait that the loop has yet to read.
static bool is_unread(const struct http_connection *connection)
{
    char byte;

    return connection->stage != HTTP_STAGE_ANSWER && recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

// Who is over time by so much that the whole process must have been paused is read before he is judged.
static int64_t sweep_list(struct http_connections *connections, const struct http_connection_list *list,
                          int64_t timeout_ms, int64_t now_ms)
{
    struct http_connection *next;

    for (struct http_connection *connection = list->first; connection; connection = next) {
        int64_t left_ms = connection->since_ms + timeout_ms - now_ms;

        next = connection->next;
        if (left_ms > 0)
            return left_ms;
        if (left_ms < -PAUSE_MS && !connection->ending && is_unread(connection)) {
            http_connections_enter(connections, connection, connection->stage, now_ms);
            next = next ? next : connection; // it went to the end of the list
        } else {
            http_connection_end(connection);
        }
    }
    return -1;
}

int64_t http_connections_sweep(struct http_connections *connections, const struct http_limits *limits, int64_t now_ms)
{
    return clock_min_timeout_ms(sweep_list(connections, &connections->timed, limits->request_timeout_ms, now_ms),
                                sweep_list(connections, &connections->idle, limits->idle_timeout_ms, now_ms));
}

static bool is_of(const struct http_connection *connection, const struct address *caller)
{
    struct address of_connection;

    if (!caller)
        return true;
    of_connection = address_client_network(&connection->address);
    return memcmp(&of_connection, caller, sizeof *caller) == 0;
}

struct wanted {
    const struct address *caller; // NULL: anyone's
    bool proven;
    bool beyond_limit;
};

// The first in the list, so the one that has been there longest.
static struct http_connection *find(const struct http_connection_list *list, struct wanted wanted, int64_t until_ms)
{
    for (struct http_connection *connection = list->first; connection; connection = connection->next) {
        if (connection->since_ms > until_ms)
            return NULL;
        if (!connection->ending && connection->proven == wanted.proven &&
            (connection->limit_reached != HTTP_LIMIT_NONE) == wanted.beyond_limit && is_of(connection, wanted.caller))
            return connection;
    }
    return NULL;
}

static bool end_if_any(struct http_connection *victim)
{
    if (victim)
        http_connection_end(victim);
    return victim != NULL;
}

bool http_connections_shed(struct http_connections *connections, const struct address *caller, int64_t now_ms)
{
    struct http_connection *victim;

    victim = find(&connections->timed, (struct wanted){.caller = caller}, now_ms - CALLER_PATIENCE_MS);
    if (!victim)
        victim = find(&connections->idle, (struct wanted){.caller = caller}, now_ms);
    if (!victim)
        victim =
            find(&connections->idle, (struct wanted){.caller = caller, .proven = true}, now_ms - CALLER_PATIENCE_MS);
    return end_if_any(victim);
}

void http_connections_shed_beyond_limit(struct http_connections *connections, int64_t now_ms)
{
    const struct wanted wanted = {.beyond_limit = true};

    while (end_if_any(find(&connections->timed, wanted, now_ms - CALLER_PATIENCE_MS)) ||
           end_if_any(find(&connections->idle, wanted, now_ms - CALLER_PATIENCE_MS))) {
    }
}

void http_connections_end_idle(struct http_connections *connections)
{
    // A handshake is no request yet.
    for (struct http_connection *connection = connections->timed.first; connection; connection = connection->next) {
        if (connection->stage == HTTP_STAGE_HANDSHAKE)
            http_connection_end(connection);
    }
    for (struct http_connection *connection = connections->idle.first; connection; connection = connection->next)
        http_connection_end(connection);
}
