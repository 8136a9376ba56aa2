#include "tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "credentials_session.h"
#include "private.h"

#define RECORD_OF_HANDSHAKE 22
// What a client may send in a handshake. GnuTLS keeps a message until it is whole, and 16 MiB can be announced.
#define HANDSHAKE_BYTES ((size_t)64 << 10)

// Whether a record of these bytes begins a handshake although there was one: up to TLS 1.2 its type is in the open.
static bool renegotiates(struct http_connection *connection, const unsigned char *data, size_t length)
{
    struct http_records *records = &connection->records;
    bool found = false;

    while (length > 0) {
        size_t taken = records->payload_left < length ? records->payload_left : length;

        if (taken > 0) {
            records->payload_left -= taken;
        } else {
            taken = 1;
            records->header[records->header_length++] = *data;
        }
        if (records->header_length == sizeof records->header) {
            records->header_length = 0;
            records->payload_left = (size_t)records->header[3] << 8 | records->header[4];
            found = found || (records->header[0] == RECORD_OF_HANDSHAKE && connection->stage != HTTP_STAGE_HANDSHAKE);
        }
        data += taken;
        length -= taken;
    }
    return found;
}

// True when it goes beyond what a client may send in a handshake.
static bool floods_handshake(struct http_connection *connection, size_t length)
{
    if (connection->stage != HTTP_STAGE_HANDSHAKE)
        return false;
    connection->handshake_bytes += length;
    return connection->handshake_bytes > HANDSHAKE_BYTES;
}

// Instead of GnuTLS's own recv, for three reasons, and to limit a handshake. The first byte of a request starts a
// deadline, and MHD does not tell of it before the request line is whole. And a client with Nagle's algorithm on holds
// its first request back until its Finished is acknowledged, which the kernel puts off by 40 ms, so the handshake is
// acknowledged at once. And libmicrohttpd ends a connection that renegotiates as if nothing were wrong.
static ssize_t pull(gnutls_transport_ptr_t pointer, void *data, size_t size)
{
    struct http_connection *connection = pointer;
    const int on = 1;
    ssize_t got = recv(connection->fd, data, size, 0);

    if (got >= 0 || errno != EAGAIN)
        http_loop_moved(connection->loop);
    if (got <= 0)
        return got;

    connection->greeted = true;
    connection->unheard = false;
    if (renegotiates(connection, data, (size_t)got) || floods_handshake(connection, (size_t)got)) {
        (void)shutdown(connection->fd, SHUT_RDWR);
        errno = ECONNRESET;
        return -1;
    }
    if (connection->stage == HTTP_STAGE_HANDSHAKE)
        (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    else if (connection->stage == HTTP_STAGE_IDLE)
        http_loop_enter(connection, HTTP_STAGE_HEAD);
    return got;
}

// Instead of GnuTLS's own sendmsg, because libmicrohttpd 0.9.75 answers a malformed Content-Length by itself, and then
// a second time; and because it sends the head and the body of an answer as two records, which shall be one packet: the
// kernel keeps the first until the second, or until libmicrohttpd sets TCP_NODELAY anew.
static ssize_t push(gnutls_transport_ptr_t pointer, const giovec_t *pieces, int count)
{
    struct http_connection *connection = pointer;
    const struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
    ssize_t sent;

    if (http_loop_must_not_send(connection)) {
        (void)shutdown(connection->fd, SHUT_RDWR);
        errno = EPIPE;
        return -1;
    }
    (void)http_request_tell_library_answer(connection);
    sent = sendmsg(connection->fd, &message, MSG_NOSIGNAL | (connection->body_follows ? MSG_MORE : 0));
    if (sent >= 0 || errno != EAGAIN)
        http_loop_moved(connection->loop);
    if (sent >= 0)
        connection->body_follows = false;
    return sent;
}

// GnuTLS wants one beside a pull function of one's own.
static int pull_timeout(gnutls_transport_ptr_t pointer, unsigned int timeout_ms)
{
    const struct http_connection *connection = pointer;
    struct pollfd socket = {.fd = connection->fd, .events = POLLIN};

    return poll(&socket, 1, (int)timeout_ms);
}

// After a key update libmicrohttpd believes that it has read all there is, and waits for the kernel to tell it of more.
// Setting the option has the kernel tell of what is there already.
static void tell_of_unread_bytes(const struct http_connection *connection)
{
    const int low_water_bytes = 1;

    (void)setsockopt(connection->fd, SOL_SOCKET, SO_RCVLOWAT, &low_water_bytes, sizeof low_water_bytes);
}

// Each message of a handshake. With the client's Finished it is done but for what the server has to send.
static int on_message(gnutls_session_t session, unsigned int type, unsigned int when, unsigned int incoming,
                      const gnutls_datum_t *message)
{
    struct http_connection *connection = gnutls_transport_get_ptr(session);

    (void)when;
    (void)message;
    if (incoming && type == GNUTLS_HANDSHAKE_KEY_UPDATE)
        tell_of_unread_bytes(connection);
    if (!incoming || type != GNUTLS_HANDSHAKE_FINISHED || connection->stage != HTTP_STAGE_HANDSHAKE)
        return 0;
    metric_add(&http_handshakes, gnutls_session_is_resumed(session) ? HTTP_HANDSHAKE_RESUMED : HTTP_HANDSHAKE_FULL, 1);
    http_loop_enter(connection, HTTP_STAGE_IDLE);
    return 0;
}

bool tls_session_begin(gnutls_session_t session, struct http_connection *connection)
{
    static const gnutls_datum_t protocol = {(unsigned char *)"http/1.1", sizeof "http/1.1" - 1};

    gnutls_transport_set_ptr(session, connection);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_vec_push_function(session, push);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_POST, on_message);
    return http_credentials_apply(connection->identity, session) &&
           gnutls_alpn_set_protocols(session, &protocol, 1, 0) == 0;
}
