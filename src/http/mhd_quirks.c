// The header explains each workaround; the functions are in the order of the header.
#include "mhd_quirks.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "request.h"

#include <gnutls/gnutls.h>

#define CRLF_LENGTH    2
#define MAX_PARAMETERS 100
// How long the loop sleeps after an iteration without progress if the library asks to run again at once.
#define NO_PROGRESS_SLEEP_MS 20

static const char TOO_LARGE_FOR_BUFFER[] = "A part of the request does not fit into the connection's buffer.";
static const char UNREADABLE[] = "libmicrohttpd cannot parse the request.";

bool mhd_is_before_1_0(void)
{
    return strncmp(MHD_get_version(), "0.", 2) == 0;
}

static void expect_next(struct mhd_head_layout *layout, const char *part)
{
    layout->is_altered = layout->is_altered || (uintptr_t)part != layout->next;
}

void mhd_head_layout_init(struct mhd_head_layout *layout, const char *method, const char *url, size_t target_length,
                          const char *version)
{
    *layout = (struct mhd_head_layout){.next = (uintptr_t)method + strlen(method) + 1};
    expect_next(layout, url);
    layout->next += target_length + 1;
    expect_next(layout, version);
    layout->next += strlen(version) + CRLF_LENGTH;
}

void mhd_head_layout_add(struct mhd_head_layout *layout, const char *name, size_t name_length, const char *value,
                         size_t value_length)
{
    expect_next(layout, name);
    // The value may start anywhere after the colon, because the library skips the spaces and tabs there.
    layout->is_altered = layout->is_altered || (uintptr_t)value <= (uintptr_t)name + name_length;
    layout->next = (uintptr_t)value + value_length + CRLF_LENGTH;
}

// The library has replaced the CRLF of the last line and the empty line after it with four NULs, which end the head.
bool mhd_head_layout_is_altered(const struct mhd_head_layout *layout, const char *head_end)
{
    static const char line_ends[2 * CRLF_LENGTH];

    return layout->is_altered || layout->next + CRLF_LENGTH != (uintptr_t)head_end ||
           memcmp(head_end - sizeof line_ends, line_ends, sizeof line_ends) != 0;
}

bool mhd_quirk_exceeds_parameters(const char *target)
{
    size_t count = 1;

    for (const char *next = strchr(target, '?'); next && (next = strchr(next + 1, '&'));)
        count++;
    return count > MAX_PARAMETERS;
}

// Returns the status of the response that the library has made itself, or 0 if there is none.
static unsigned int own_status(struct http_connection *connection)
{
    const struct http_exchange *exchange = connection->exchange;
    const union MHD_ConnectionInfo *info = NULL;

    if (!exchange || exchange->phase != HTTP_PHASE_ANSWERED)
        info = MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_HTTP_STATUS);
    return info ? info->http_status : 0;
}

bool mhd_quirk_report_own_response(struct http_connection *connection)
{
    const struct http_exchange *exchange = connection->exchange;
    const char *fault = exchange ? exchange->framing.fault : NULL;

    switch (own_status(connection)) {
    case 0:
        return false;
    case MHD_HTTP_CONTENT_TOO_LARGE:
    case MHD_HTTP_URI_TOO_LONG:
    case MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE:
        fault = fault ? fault : TOO_LARGE_FOR_BUFFER;
        break;
    default:
        fault = fault ? fault : UNREADABLE;
    }
    http_request_report_fault(connection, fault);
    return true;
}

void mhd_quirk_on_unescape(struct http_connection *connection)
{
    if (mhd_quirk_report_own_response(connection))
        http_connection_close(connection);
}

void mhd_quirk_on_log(struct http_connection_set *set, const char *format)
{
    if (mhd_is_before_1_0() && strstr(format, "Content-Length"))
        set->quirks.has_length_fault = true;
    set->quirks.has_logged = true;
}

bool mhd_quirk_before_send(struct http_connection *connection)
{
    struct mhd_quirks *quirks = &connection->set->quirks;

    if (quirks->has_length_fault && connection->deadline.stage == HTTP_STAGE_HEAD) {
        quirks->has_length_fault = false;
        return false;
    }
    (void)mhd_quirk_report_own_response(connection);
    return true;
}

void mhd_quirk_on_key_update(struct http_connection *connection)
{
    const int low_water_bytes = 1;

    (void)setsockopt(connection->transport.fd, SOL_SOCKET, SO_RCVLOWAT, &low_water_bytes, sizeof low_water_bytes);
}

void mhd_quirk_add_starting(struct http_connection *connection)
{
    struct mhd_quirks *quirks = &connection->set->quirks;

    assert(!connection->deadline.list && !connection->deadline.next && !connection->mhd);
    connection->deadline.next = quirks->starting;
    quirks->starting = connection;
}

struct http_connection *mhd_quirk_take_starting(struct http_connection_set *set, int fd)
{
    for (struct http_connection **link = &set->quirks.starting; *link; link = &(*link)->deadline.next) {
        struct http_connection *connection = *link;

        if (connection->transport.fd != fd)
            continue;
        *link = connection->deadline.next;
        connection->deadline.next = NULL;
        return connection;
    }
    return NULL;
}

// Returns true if neither the client nor an error has ended the TLS session. This function runs while GnuTLS is
// sending; GnuTLS allows a call of gnutls_record_recv at that time.
static bool is_session_open(struct http_connection *connection)
{
    gnutls_session_t session =
        MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    char byte;
    ssize_t received;

    // If the end of the session arrives after the library has closed the connection, that end is not the reason for
    // closing the connection, so GnuTLS must not receive it.
    connection->transport.pull_disabled = true;
    received = gnutls_record_recv(session, &byte, 1);
    connection->transport.pull_disabled = false;
    return received > 0 || received == GNUTLS_E_AGAIN;
}

void mhd_quirk_after_send(struct http_connection *connection)
{
    if (connection->deadline.stage != HTTP_STAGE_HEAD || connection->transport.pull_disabled ||
        own_status(connection) != 0)
        return;
    // If the set has no owner, the loop has ended and closes all its connections, which is not a refusal.
    if (!connection->exchange && !connection->transport.closing && connection->set->has_owner &&
        is_session_open(connection))
        http_request_report_fault(connection, UNREADABLE);
    (void)shutdown(connection->transport.fd, SHUT_RDWR);
}

void mhd_quirk_close_forgotten(struct http_connection_set *set)
{
    if (mhd_is_before_1_0() || !set->quirks.has_logged)
        return;
    set->quirks.has_logged = false;
    for (struct http_connection *one = set->timed.first; one; one = one->deadline.next) {
        // In stage BODY the head has arrived, so the library reports the size of the head unless it has closed the
        // connection.
        if (one->deadline.stage != HTTP_STAGE_BODY ||
            MHD_get_connection_info(one->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE))
            continue;
        http_request_report_fault(one, TOO_LARGE_FOR_BUFFER);
        http_connection_close(one);
    }
}

// Records how many bytes GnuTLS holds for the library. Returns true if this number is the same as in the previous call
// for each connection of the list.
static bool is_delivery_stalled(const struct http_connection_list *list)
{
    bool stalled = true;

    for (struct http_connection *connection = list->first; connection; connection = connection->deadline.next) {
        size_t undelivered = gnutls_record_check_pending(
            MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session);

        stalled = stalled && undelivered == connection->stall.undelivered_bytes;
        connection->stall.undelivered_bytes = undelivered;
    }
    return stalled;
}

// The end of the connection counts as input.
static bool has_input(const struct http_connection *connection)
{
    char byte;

    return connection->stall.undelivered_bytes > 0 ||
           recv(connection->transport.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

// The library may need another iteration of the loop to read input that has just arrived. A connection is therefore
// stalled only if two successive checks find unread input and no byte has arrived in between.
static void close_if_stalled(struct http_connection *connection)
{
    enum http_stage stage = connection->deadline.stage;

    if ((stage != HTTP_STAGE_HEAD && stage != HTTP_STAGE_BODY) || connection->transport.closing ||
        !has_input(connection)) {
        connection->stall.has_unread_input = false;
        return;
    }
    if (connection->stall.has_unread_input) {
        http_request_report_fault(connection, TOO_LARGE_FOR_BUFFER);
        http_connection_close(connection);
    }
    connection->stall.has_unread_input = true;
}

int64_t mhd_quirk_adjust_timeout(struct http_connection_set *set, int64_t timeout_ms)
{
    bool stalled;

    if (timeout_ms != 0 || set->has_progress)
        return timeout_ms;
    stalled = is_delivery_stalled(&set->timed);
    stalled &= is_delivery_stalled(&set->idle);
    if (!stalled)
        return timeout_ms;
    if (set->polled > 0)
        return HELD_POLL_MS;
    for (struct http_connection *one = set->timed.first; one; one = one->deadline.next)
        close_if_stalled(one);
    return NO_PROGRESS_SLEEP_MS;
}
