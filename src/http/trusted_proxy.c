// The PROXY header stays in the kernel's buffer until all of it has arrived. A connection therefore needs no memory for
// the header, and recv consumes exactly the header, without a byte of TLS.
#include "trusted_proxy.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#include "imcallbackd/base/log.h"
#include "proxy_header.h"

static bool close_now(const struct http_connection *connection)
{
    (void)shutdown(connection->transport.fd, SHUT_RDWR);
    errno = ECONNRESET;
    return false;
}

static bool close_malformed(struct http_connection *connection, const char *fault)
{
    unsigned int suppressed;

    metric_add(&http_proxy_headers, HTTP_PROXY_HEADER_MALFORMED, 1);
    if (log_rate_limit_allows(&connection->shared->malformed_proxy_headers, &suppressed))
        log_warning("trusted proxy %s: malformed PROXY header (and %u more since the last such line): %s; correct the "
                    "configuration of the proxy",
                    connection->transport.remote_address, suppressed, fault);
    connection->transport.header_bytes = 0; // so that tls_report_failed_handshake writes no second line
    return close_now(connection);
}

// Returns true if the peer has sent its last byte or the connection has failed.
static bool has_ended(const struct http_connection *connection)
{
    struct pollfd socket = {.fd = connection->transport.fd, .events = POLLRDHUP};

    return poll(&socket, 1, 0) > 0 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static bool wait_for_more(struct http_connection *connection, size_t received)
{
    connection->transport.header_bytes = received;
    if (connection->transport.closing)
        return close_now(connection);
    // The bytes that were not consumed hide the end of the connection from recv.
    if (has_ended(connection))
        return close_malformed(connection, "the connection ended within the header");
    errno = EAGAIN;
    return false;
}

static bool admit(struct http_connection *connection, const struct address *client)
{
    const struct http_handler *handler = &connection->shared->handler;
    struct http_transport *transport = &connection->transport;
    enum http_limit exceeded = HTTP_LIMIT_NONE;
    enum http_refusal why;

    transport->address = *client;
    transport->network = address_client_network(client);
    address_print(client, transport->remote_address);
    why = http_shared_admit_client(connection->shared, client, &transport->network, &exceeded);
    if (why != HTTP_REFUSE_NONE) {
        if (why == HTTP_REFUSE_TOO_MANY_CONNECTIONS)
            http_set_evict_reserve(connection->set);
        (void)handler->on_refusal(handler->context, why, transport->remote_address, "");
        return close_now(connection);
    }
    transport->client = HTTP_CLIENT_FROM_HEADER;
    if (exceeded != HTTP_LIMIT_NONE) {
        connection->exceeded_limit = exceeded;
        http_connection_make_room(connection);
    }
    return true;
}

static bool accept_header(struct http_connection *connection, enum proxy_header_result result,
                          const struct proxy_header *header)
{
    struct http_transport *transport = &connection->transport;

    transport->header_bytes = 0;
    if (result == PROXY_HEADER_CLIENT) {
        metric_add(&http_proxy_headers, HTTP_PROXY_HEADER_CLIENT, 1);
        return admit(connection, &header->client);
    }
    metric_add(&http_proxy_headers, HTTP_PROXY_HEADER_LOCAL, 1);
    transport->client = HTTP_CLIENT_IS_PROXY;
    return true;
}

bool trusted_proxy_receive(struct http_connection *connection)
{
    struct http_transport *transport = &connection->transport;
    unsigned char data[PROXY_HEADER_BYTES];
    struct proxy_header header;
    enum proxy_header_result result;
    ssize_t received;

    assert(transport->client == HTTP_CLIENT_UNDECIDED && connection->deadline.stage == HTTP_STAGE_HANDSHAKE);
    received = recv(transport->fd, data, sizeof data, MSG_PEEK);
    if (received <= 0)
        return received == 0;
    result = proxy_header_parse(data, (size_t)received, &header);
    if (result == PROXY_HEADER_INCOMPLETE)
        return wait_for_more(connection, (size_t)received);
    connection->set->has_progress = true;
    if (result == PROXY_HEADER_MALFORMED)
        return close_malformed(connection, header.fault);
    if (result == PROXY_HEADER_ABSENT) {
        transport->client = HTTP_CLIENT_FROM_REQUESTS;
        return true;
    }
    assert(header.length <= (size_t)received);
    if (recv(transport->fd, data, header.length, 0) != (ssize_t)header.length)
        return close_now(connection);
    return accept_header(connection, result, &header);
}
