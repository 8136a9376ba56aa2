#include <sys/socket.h>

#include "private.h"

#include <gnutls/gnutls.h>

static size_t count_untaken(const struct http_connection *connection)
{
    return gnutls_record_check_pending(
        MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session);
}

// Bytes, or the end of the connection.
static bool has_more_to_say(const struct http_connection *connection)
{
    char byte;

    return connection->untaken > 0 || recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

// libmicrohttpd 0.9.75 waits for ever, and never sleeps, when its memory is full of something that must come whole,
// such as the size line of a chunk. What came just now may be read in the next turn, so it is looked at twice.
static void look_at(struct http_connection *connection)
{
    if ((connection->stage != HTTP_STAGE_HEAD && connection->stage != HTTP_STAGE_BODY) || connection->ending ||
        !has_more_to_say(connection)) {
        connection->unheard = false;
        return;
    }
    if (connection->unheard) {
        http_request_tell_fault(connection, "A part of the request does not fit into the connection's buffer.");
        http_connection_end(connection);
    }
    connection->unheard = true;
}

// Returns true when each has as many bytes untaken as before.
static bool take_stock(const struct http_connection_list *list)
{
    bool same = true;

    for (struct http_connection *connection = list->first; connection; connection = connection->next) {
        size_t untaken = count_untaken(connection);

        same = same && untaken == connection->untaken;
        connection->untaken = untaken;
    }
    return same;
}

bool http_connections_stand_still(struct http_connections *connections)
{
    bool same = take_stock(&connections->timed);

    same &= take_stock(&connections->idle);
    if (!same)
        return false;
    for (struct http_connection *connection = connections->timed.first; connection; connection = connection->next)
        look_at(connection);
    return true;
}
