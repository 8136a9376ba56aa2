// The header explains each workaround; the functions are in the order of the header.
#include "mhd_quirks.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#include "request.h"

#include <gnutls/gnutls.h>

#define CRLF_LENGTH    2
#define MAX_PARAMETERS 100
// The time between two checks of a connection that may be stalled.
#define STALL_CHECK_MS 20
// How long the loop sleeps if the library asks to run again at once although it has nothing to do. The limit is below
// the 2 s after which the service gives up on a call, in case this conclusion is ever wrong.
#define NOTHING_TO_DO_MS 500

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
    if (connection->set->read_ahead.owner == connection)
        connection->set->quirks.reread = connection;
}

// Makes the next call of MHD_run process the connection even if the kernel reports no event.
static void process_again(const struct http_connection *connection)
{
    MHD_suspend_connection(connection->mhd);
    MHD_resume_connection(connection->mhd);
}

bool mhd_quirk_reread(struct http_connection_set *set)
{
    struct http_connection *connection = set->quirks.reread;

    set->quirks.reread = NULL;
    if (!connection || set->read_ahead.owner != connection)
        return false;
    process_again(connection);
    return true;
}

unsigned int mhd_quirk_flags(void)
{
    // MHD_USE_NO_THREAD_SAFETY, which the header of 0.9.75 lacks
    return mhd_is_before_1_0() ? 0 : 1U << 19;
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

static void mark_closed(struct http_connection *connection)
{
    if (!connection->is_closed_by_mhd)
        connection->set->quirks.closed++;
    connection->is_closed_by_mhd = true;
}

static void unmark_closed(struct http_connection *connection)
{
    if (connection->is_closed_by_mhd)
        connection->set->quirks.closed--;
    connection->is_closed_by_mhd = false;
}

void mhd_quirk_on_removal(struct http_connection *connection)
{
    unmark_closed(connection);
}

void mhd_quirk_after_send(struct http_connection *connection)
{
    enum http_stage stage = connection->deadline.stage;
    // Before the first request, GnuTLS may send the rest of the handshake in stage IDLE.
    bool ends_session = stage == HTTP_STAGE_HEAD || (stage == HTTP_STAGE_IDLE && connection->has_ended_request);

    if (!ends_session || connection->transport.pull_disabled || own_status(connection) != 0)
        return;
    // If the set has no owner, the loop has ended and closes all its connections, which is not a refusal.
    if (stage == HTTP_STAGE_HEAD && !connection->exchange && !connection->transport.closing &&
        connection->set->has_owner && is_session_open(connection))
        http_request_report_fault(connection, UNREADABLE);
    if (!mhd_is_before_1_0())
        mark_closed(connection);
}

// In stage BODY the head has arrived, so the library reports the size of the head unless it has closed the connection.
static bool is_closed_in_body(const struct http_connection *connection)
{
    return connection->deadline.stage == HTTP_STAGE_BODY &&
           !MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
}

static void process_closed_again(const struct http_connection_list *list)
{
    for (struct http_connection *one = list->first; one; one = one->deadline.next) {
        if (!one->is_closed_by_mhd)
            continue;
        process_again(one);
        unmark_closed(one);
    }
}

void mhd_quirk_remove_closed(struct http_connection_set *set)
{
    struct mhd_quirks *quirks = &set->quirks;

    if (quirks->has_logged && !mhd_is_before_1_0()) {
        for (struct http_connection *one = set->timed.first; one; one = one->deadline.next) {
            if (!is_closed_in_body(one))
                continue;
            http_request_report_fault(one, TOO_LARGE_FOR_BUFFER);
            mark_closed(one);
        }
    }
    quirks->has_logged = false;
    if (quirks->closed > 0) {
        process_closed_again(&set->timed);
        process_closed_again(&set->idle);
        set->has_progress = true;
    }
}

// Returns how many bytes have been received that the library has not read: decrypted by GnuTLS, or read ahead by tls.c.
static size_t count_undelivered(const struct http_connection *connection)
{
    const struct http_read_ahead *ahead = &connection->set->read_ahead;
    size_t decrypted = gnutls_record_check_pending(
        MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session);

    return decrypted + (ahead->owner == connection ? ahead->end - ahead->start : 0);
}

void mhd_quirk_on_request_end(struct http_connection *connection)
{
    connection->has_ended_request = true;
    if (count_undelivered(connection) > 0)
        connection->set->quirks.has_idle_input = true;
}

// Records how many bytes each connection of the list has that the library has not read. Returns true if each number is
// the same as in the previous call. Sets *ret_has_input to whether one of the numbers is not 0.
static bool is_delivery_stalled(const struct http_connection_list *list, bool *ret_has_input)
{
    bool stalled = true;

    *ret_has_input = false;
    for (struct http_connection *one = list->first; one; one = one->deadline.next) {
        size_t undelivered = one->deadline.stage == HTTP_STAGE_HANDSHAKE ? 0 : count_undelivered(one);

        stalled = stalled && undelivered == one->stall.undelivered_bytes;
        one->stall.undelivered_bytes = undelivered;
        *ret_has_input = *ret_has_input || undelivered > 0;
    }
    return stalled;
}

// Returns true if this iteration of the loop, which had no progress, has moved nothing else: the library has read no
// byte from GnuTLS. This is known only if the numbers of bytes were recorded after the previous iteration.
static bool is_quiet(struct http_connection_set *set)
{
    struct mhd_quirks *quirks = &set->quirks;
    bool has_bytes;
    bool stalled = quirks->is_recorded & is_delivery_stalled(&set->timed, &has_bytes);

    // GnuTLS receives bytes of an idle connection only on the way to stage HEAD. An idle connection can therefore have
    // decrypted bytes only if they arrived together with the previous request. Bytes that were read ahead together with
    // the end of the handshake need no check, because receiving them is progress.
    if (quirks->has_idle_input)
        stalled &= is_delivery_stalled(&set->idle, &quirks->has_idle_input);
    quirks->is_recorded = true;
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
// stalled only if two successive checks find unread input and no byte has arrived in between. Returns true if the
// connection needs another check.
static bool close_if_stalled(struct http_connection *connection)
{
    enum http_stage stage = connection->deadline.stage;

    if ((stage != HTTP_STAGE_HEAD && stage != HTTP_STAGE_BODY) || connection->transport.closing ||
        !has_input(connection)) {
        connection->stall.has_unread_input = false;
        return false;
    }
    if (connection->stall.has_unread_input) {
        http_request_report_fault(connection, TOO_LARGE_FOR_BUFFER);
        http_connection_close(connection);
    }
    connection->stall.has_unread_input = true;
    return true;
}

int64_t mhd_quirk_adjust_timeout(struct http_connection_set *set, int64_t timeout_ms)
{
    bool check_again = false;

    if (timeout_ms != 0 || set->has_progress) {
        set->quirks.is_recorded = false;
        return timeout_ms;
    }
    if (!is_quiet(set))
        return timeout_ms;
    for (struct http_connection *one = set->timed.first; one; one = one->deadline.next)
        check_again |= close_if_stalled(one);
    return set->polled > 0 ? HELD_POLL_MS : check_again ? STALL_CHECK_MS : NOTHING_TO_DO_MS;
}
