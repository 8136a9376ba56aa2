// Implements the functions through which GnuTLS receives and sends. These functions see each received byte before
// libmicrohttpd does.
#include "tls.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "mhd_quirks.h"
#include "trusted_proxy.h"

#define HANDSHAKE_RECORD 22
// The most bytes that a client may send in a handshake. GnuTLS buffers a message until it is complete, and a client can
// announce 16 MiB.
#define MAX_HANDSHAKE_BYTES ((size_t)64 << 10)
#define MAX_UNSENT_BYTES    4096

// Returns true if one of the records in these bytes starts a handshake after the first one. Up to TLS 1.2 the type of a
// record is not encrypted, and TLS 1.3 has no renegotiation.
static bool renegotiates(struct http_connection *connection, const unsigned char *data, size_t length)
{
    struct http_record_parser *records = &connection->transport.records;
    bool found = false;

    while (length > 0) {
        size_t taken = records->payload_left < length ? records->payload_left : length;

        if (taken > 0) {
            records->payload_left -= taken;
        } else {
            taken = 1;
            assert(records->header_length < sizeof records->header);
            records->header[records->header_length++] = *data;
        }
        if (records->header_length == sizeof records->header) {
            records->header_length = 0;
            records->payload_left = (size_t)records->header[3] << 8 | records->header[4];
            found =
                found || (records->header[0] == HANDSHAKE_RECORD && connection->deadline.stage != HTTP_STAGE_HANDSHAKE);
        }
        data += taken;
        length -= taken;
    }
    return found;
}

static bool exceeds_handshake(struct http_connection *connection, size_t length)
{
    if (connection->deadline.stage != HTTP_STAGE_HANDSHAKE)
        return false;
    connection->transport.handshake_bytes += length;
    return connection->transport.handshake_bytes > MAX_HANDSHAKE_BYTES;
}

// Any result except EAGAIN means that this iteration of the loop had something to do.
static void note_progress(struct http_connection *connection, ssize_t result)
{
    if (result >= 0 || errno != EAGAIN)
        connection->set->has_progress = true;
}

// Replaces GnuTLS's recv for six reasons:
// - A trusted proxy may send a PROXY header before the first byte of TLS.
// - The first byte of a request starts a deadline, but libmicrohttpd reports a request only after its request line.
// - A client that uses Nagle's algorithm holds its first request back until the kernel acknowledges its Finished. The
//   kernel may delay the acknowledgement by 40 ms, so TCP_QUICKACK acknowledges handshake bytes at once.
// - libmicrohttpd does not report a connection that it closes because of a renegotiation. This function refuses
//   renegotiation.
// - This function limits the size of a handshake.
// - While mhd_quirk_after_send examines the session, GnuTLS must not receive more bytes.
static ssize_t pull(gnutls_transport_ptr_t pointer, void *data, size_t size)
{
    struct http_connection *connection = pointer;
    struct http_transport *transport = &connection->transport;
    const int on = 1;
    ssize_t received;

    if (transport->pull_disabled) {
        errno = EAGAIN;
        return -1;
    }
    if (transport->client == HTTP_CLIENT_UNDECIDED && !trusted_proxy_receive(connection))
        return -1;
    received = recv(transport->fd, data, size, 0);
    note_progress(connection, received);
    if (received <= 0)
        return received;
    transport->has_received = true;
    connection->stall.has_unread_input = false;
    if (renegotiates(connection, data, (size_t)received) || exceeds_handshake(connection, (size_t)received)) {
        (void)shutdown(transport->fd, SHUT_RDWR);
        errno = ECONNRESET;
        return -1;
    }
    if (connection->deadline.stage == HTTP_STAGE_HANDSHAKE)
        (void)setsockopt(transport->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    else if (connection->deadline.stage == HTTP_STAGE_IDLE)
        http_connection_enter(connection, HTTP_STAGE_HEAD);
    return received;
}

// Replaces GnuTLS's sendmsg for two reasons:
// - mhd_quirk_before_send must see when libmicrohttpd sends a response that it has made itself.
// - mhd_quirk_after_send must see when libmicrohttpd closes a connection without a response.
static ssize_t push(gnutls_transport_ptr_t pointer, const giovec_t *pieces, int count)
{
    struct http_connection *connection = pointer;
    struct http_transport *transport = &connection->transport;
    const struct msghdr message = {.msg_iov = (struct iovec *)pieces, .msg_iovlen = (size_t)count};
    ssize_t sent;

    if (!mhd_quirk_before_send(connection)) {
        (void)shutdown(transport->fd, SHUT_RDWR);
        errno = EPIPE;
        return -1;
    }
    sent = sendmsg(transport->fd, &message, MSG_NOSIGNAL);
    note_progress(connection, sent);
    mhd_quirk_after_send(connection);
    return sent;
}

// GnuTLS requires this function if the pull function is replaced.
static int pull_timeout(gnutls_transport_ptr_t pointer, unsigned int timeout_ms)
{
    const struct http_connection *connection = pointer;
    struct pollfd socket = {.fd = connection->transport.fd, .events = POLLIN};

    return poll(&socket, 1, (int)timeout_ms);
}

// GnuTLS calls this after each handshake message. When the client's Finished has arrived, the handshake needs nothing
// more from the client, so the connection becomes idle.
static int on_handshake_message(gnutls_session_t session, unsigned int type, unsigned int when, unsigned int incoming,
                                const gnutls_datum_t *message)
{
    struct http_connection *connection = gnutls_transport_get_ptr(session);

    (void)when;
    (void)message;
    if (incoming && type == GNUTLS_HANDSHAKE_KEY_UPDATE)
        mhd_quirk_on_key_update(connection);
    if (!incoming || type != GNUTLS_HANDSHAKE_FINISHED || connection->deadline.stage != HTTP_STAGE_HANDSHAKE)
        return 0;
    metric_add(&http_handshakes, gnutls_session_is_resumed(session) ? HTTP_HANDSHAKE_RESUMED : HTTP_HANDSHAKE_FULL, 1);
    http_connection_enter(connection, HTTP_STAGE_IDLE);
    return 0;
}

bool tls_session_init(gnutls_session_t session, struct http_connection *connection)
{
    static const gnutls_datum_t protocol = {(unsigned char *)"http/1.1", sizeof "http/1.1" - 1};

    assert(connection->transport.credentials);
    gnutls_transport_set_ptr(session, connection);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_vec_push_function(session, push);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_POST, on_handshake_message);
    return http_credentials_apply(connection->transport.credentials, session) &&
           gnutls_alpn_set_protocols(session, &protocol, 1, 0) == 0;
}

void tls_begin_response(gnutls_session_t session, struct http_connection *connection)
{
    struct http_transport *transport = &connection->transport;
    int unsent = 0;

    transport->is_gathering = ioctl(transport->fd, SIOCOUTQ, &unsent) == 0 && unsent < MAX_UNSENT_BYTES;
    if (transport->is_gathering)
        gnutls_record_cork(session);
}

void tls_end_response(gnutls_session_t session, struct http_connection *connection)
{
    struct http_transport *transport = &connection->transport;
    const int off = 0;

    if (!transport->is_gathering)
        return;
    transport->is_gathering = false;
    if (!transport->is_uncorked)
        (void)setsockopt(transport->fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    transport->is_uncorked = true;
    if (gnutls_record_uncork(session, 0) < 0)
        (void)shutdown(transport->fd, SHUT_RDWR);
}

void tls_report_failed_handshake(const struct http_connection *connection)
{
    const char *client = connection->transport.remote_address;
    unsigned int suppressed;

    assert(connection->deadline.stage == HTTP_STAGE_HANDSHAKE);
    metric_add(&http_handshakes, HTTP_HANDSHAKE_FAILED, 1);
    // A client that sends nothing, or nothing after a PROXY header, is not logged: port probes and health checks behave
    // like this.
    if (!connection->transport.has_received && connection->transport.header_bytes == 0)
        return;
    if (log_rate_limit_allows(&connection->shared->failed_handshakes, &suppressed))
        log_info("TLS handshake with %s failed (and %u more since the last such line)", client, suppressed);
    else
        log_debug("TLS handshake with %s failed", client);
}
