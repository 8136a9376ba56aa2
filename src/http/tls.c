// Implements the functions through which GnuTLS receives and sends. These functions see each received byte before
// libmicrohttpd does.
#include "tls.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "mhd_quirks.h"
#include "trusted_proxy.h"

#define HANDSHAKE_RECORD 22
// The most bytes that a client may send in a handshake. GnuTLS buffers a message until it is complete, and a client can
// announce 16 MiB.
#define MAX_HANDSHAKE_BYTES ((size_t)64 << 10)
// A response is gathered into one record only if the bytes that wait to be sent or acknowledged take less than this
// part of the send buffer. The kernel counts each packet with its overhead, which is up to seven times a small
// response.
#define UNSENT_PART 16

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

static bool is_within_record(const struct http_record_parser *records)
{
    return records->header_length > 0 || records->payload_left > 0;
}

// Returns true if the connection is in its handshake, nothing was received from the client so far, and this call of
// MHD_run has started enough handshakes. Reading the ClientHello starts the costly part of a handshake. libmicrohttpd
// tries each unfinished handshake again in each call, the oldest first. The loop does not sleep before the next call,
// because the started handshakes were progress.
static bool must_defer(const struct http_connection *connection)
{
    return connection->deadline.stage == HTTP_STAGE_HANDSHAKE && !connection->transport.has_received &&
           connection->set->handshakes == 0;
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

// Receives into `data`. What follows goes into the loop's buffer, unless the buffer has bytes of another connection.
static ssize_t receive(struct http_connection *connection, void *data, size_t size)
{
    struct http_read_ahead *ahead = &connection->set->read_ahead;
    struct iovec pieces[] = {{data, size}, {ahead->data, sizeof ahead->data}};
    ssize_t received = readv(connection->transport.fd, pieces, ahead->owner ? 1 : 2);

    if (received > (ssize_t)size) {
        ahead->owner = connection;
        ahead->start = 0;
        ahead->end = (size_t)received - size;
        received = (ssize_t)size;
    }
    return received;
}

static ssize_t take_read_ahead(struct http_read_ahead *ahead, void *data, size_t size)
{
    size_t length = ahead->end - ahead->start;

    length = length < size ? length : size;
    memcpy(data, ahead->data + ahead->start, length);
    ahead->start += length;
    if (ahead->start == ahead->end)
        ahead->owner = NULL;
    return (ssize_t)length;
}

// Replaces GnuTLS's recv for eight reasons:
// - GnuTLS reads the header and the payload of a record separately. This function reads ahead. The checks below see the
//   bytes when GnuTLS takes them.
// - A trusted proxy may send a PROXY header before the first byte of TLS.
// - The first byte of a request starts a deadline, but libmicrohttpd reports a request only after its request line.
// - A client that uses Nagle's algorithm holds its first request back until the kernel acknowledges its Finished. The
//   kernel may delay the acknowledgement by 40 ms, so TCP_QUICKACK acknowledges handshake bytes at once.
// - libmicrohttpd does not report a connection that it closes because of a renegotiation. This function refuses
//   renegotiation.
// - This function limits the size of a handshake.
// - If the connection ends within a record, GnuTLS reports the incomplete record as GNUTLS_E_AGAIN, and libmicrohttpd
//   would wait for an event that the kernel has already reported. This function reports an error instead of the end.
// - While mhd_quirk_after_send examines the session, GnuTLS must not receive more bytes.
static ssize_t pull(gnutls_transport_ptr_t pointer, void *data, size_t size)
{
    struct http_connection *connection = pointer;
    struct http_transport *transport = &connection->transport;
    struct http_read_ahead *ahead = &connection->set->read_ahead;
    const int on = 1;
    ssize_t received;

    if (transport->pull_disabled || must_defer(connection)) {
        errno = EAGAIN;
        return -1;
    }
    if (transport->client == HTTP_CLIENT_UNDECIDED && !trusted_proxy_receive(connection))
        return -1;
    received = ahead->owner == connection ? take_read_ahead(ahead, data, size) : receive(connection, data, size);
    note_progress(connection, received);
    if (received == 0 && is_within_record(&transport->records)) {
        errno = ECONNRESET;
        return -1;
    }
    if (received <= 0)
        return received;
    if (!transport->has_received)
        connection->set->handshakes--;
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
    if (sent > 0)
        transport->unsent_bytes += (size_t)sent;
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
    int buffer_bytes;
    socklen_t length = sizeof buffer_bytes;

    assert(connection->transport.credentials);
    if (getsockopt(connection->transport.fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, &length) == 0)
        connection->transport.max_unsent_bytes = (size_t)buffer_bytes / UNSENT_PART;
    gnutls_transport_set_ptr(session, connection);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_vec_push_function(session, push);
    gnutls_transport_set_pull_timeout_function(session, pull_timeout);
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_ANY, GNUTLS_HOOK_POST, on_handshake_message);
    return http_credentials_apply(connection->transport.credentials, session) &&
           gnutls_alpn_set_protocols(session, &protocol, 1, 0) == 0;
}

// Returns true if the kernel can certainly take a response at once. unsent_bytes only grows until it reaches the limit,
// which saves most system calls.
static bool has_room(struct http_transport *transport)
{
    int unsent;

    if (transport->unsent_bytes >= transport->max_unsent_bytes && ioctl(transport->fd, SIOCOUTQ, &unsent) == 0)
        transport->unsent_bytes = (size_t)unsent;
    return transport->unsent_bytes < transport->max_unsent_bytes;
}

// GnuTLS cannot tell libmicrohttpd to wait if the kernel does not take a gathered response, so a response is gathered
// only if the kernel has room for it.
void tls_begin_response(gnutls_session_t session, struct http_connection *connection)
{
    connection->transport.is_gathering = has_room(&connection->transport);
    if (connection->transport.is_gathering)
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
