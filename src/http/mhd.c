// Implements the callbacks of libmicrohttpd. The library has no thread of its own here: it calls back only within its
// functions, such as MHD_run, on the thread that calls them.
#include "mhd.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "imcallbackd/base/log.h"
#include "mhd_quirks.h"
#include "mhd_response.h"
#include "request.h"
#include "tls.h"

#include <gnutls/abstract.h>
#include <microhttpd.h>

// The memory of the library for one connection: read buffer, headers, head of the response. The library overwrites all
// of it after each request, so an idle connection occupies all of it.
#define CONNECTION_MEMORY_BYTES ((size_t)10 << 10)

// How many handshakes one call of MHD_run may start. A handshake takes up to a millisecond, for which all other
// connections of the loop have to wait.
#define MAX_HANDSHAKES 2

static struct http_connection *connection_of(struct MHD_Connection *mhd)
{
    struct http_connection *connection =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;

    assert(connection && connection->mhd == mhd);
    return connection;
}

static gnutls_session_t session_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
}

// The library calls this in a state from which it cannot continue. Like the library's default handler, this function
// aborts the process, but it logs the reason first. Aborting loses no event, because the daemon acknowledges only
// recorded events.
static void on_panic(void *context, const char *file, unsigned int line, const char *reason)
{
    (void)context;
    log_crit("libmicrohttpd panicked at %s:%u: %s", file, line, reason);
    abort();
}

// ---- Connections ----

static bool is_pending(const struct http_connection *connection)
{
    return connection->exchange && connection->exchange->phase == HTTP_PHASE_PENDING;
}

// Ends the current request, if there is one. A pending request belongs to the handler, so it ends in
// mhd_adapter_complete.
static void finish_request(struct http_connection *connection)
{
    if (!connection->exchange || is_pending(connection))
        return;
    (void)mhd_quirk_report_own_response(connection);
    http_request_finish(connection);
}

// The connection may still have a request, because the library does not report the end of some requests: before 1.0, of
// those that it cannot parse, and since 1.0, of those that mhd_quirk_remove_closed finds in stage BODY.
static void free_connection(struct http_connection *connection)
{
    http_request_finish(connection);
    http_set_remove(connection);
    http_connection_destroy(connection);
}

// If a request is pending, the connection stays in the set until the handler has completed the request.
static void on_connection_closed(struct http_connection *connection)
{
    struct http_read_ahead *ahead = &connection->set->read_ahead;

    if (connection->deadline.stage == HTTP_STAGE_HANDSHAKE)
        tls_report_failed_handshake(connection);
    if (ahead->owner == connection)
        ahead->owner = NULL;
    mhd_quirk_on_removal(connection);
    if (is_pending(connection))
        connection->mhd = NULL;
    else
        free_connection(connection);
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_connection_set *set = context;
    struct http_connection *connection = *socket_context;

    set->has_progress = true;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        assert(connection->mhd == mhd);
        on_connection_closed(connection);
        return;
    }
    connection = set->starting;
    set->starting = NULL;
    assert(connection &&
           connection->transport.fd == MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    *socket_context = connection;
    connection->mhd = mhd;
    http_set_add(set, connection);
    if (!tls_session_init(session_of(mhd), connection))
        (void)shutdown(connection->transport.fd, SHUT_RDWR);
}

void mhd_adapter_add(struct http_connection *connection)
{
    struct http_connection_set *set = connection->set;
    struct http_transport *transport = &connection->transport;

    assert(!set->starting && !connection->mhd);
    set->starting = connection;
    // If MHD_add_connection fails, the library has closed the descriptor. The library may have reported the start and
    // the end of the connection before; if not, the connection is still starting.
    if (MHD_add_connection(set->daemon, transport->fd, (struct sockaddr *)&transport->socket_address,
                           transport->socket_address_length) != MHD_YES) {
        http_connection_destroy(set->starting);
        set->starting = NULL;
    }
    assert(!set->starting);
}

// ---- Requests ----

void mhd_adapter_complete(struct http_exchange *exchange)
{
    struct http_connection *connection = exchange->connection;

    http_request_unhold(exchange);
    if (!connection->mhd)
        free_connection(connection);
    else if (exchange->suspended)
        MHD_resume_connection(connection->mhd);
}

static enum MHD_Result carry_out(struct http_exchange *exchange, enum http_verdict verdict)
{
    struct MHD_Connection *mhd = exchange->connection->mhd;
    struct http_response *response;
    bool closing;

    switch (verdict) {
    case HTTP_VERDICT_CONTINUE:
    case HTTP_VERDICT_HOLD:
        break;
    case HTTP_VERDICT_SUSPEND:
        // The completion arrives through the loop's inbox, so it cannot overtake the suspension.
        assert(exchange->connection->deadline.stage == HTTP_STAGE_HELD);
        MHD_suspend_connection(mhd);
        break;
    case HTTP_VERDICT_ANSWER:
        response = http_request_take_response(exchange, &closing);
        tls_begin_response(session_of(mhd), exchange->connection);
        return http_response_queue(response, mhd, closing) ? MHD_YES : MHD_NO;
    case HTTP_VERDICT_CLOSE:
        return MHD_NO;
    }
    return MHD_YES;
}

// The library calls this with the raw target before it splits and unescapes the target. The result becomes the context
// of the request.
static void *on_target(void *context, const char *target, struct MHD_Connection *mhd)
{
    struct http_connection *connection = connection_of(mhd);
    struct http_exchange *exchange = http_request_start(connection, target);

    (void)context;
    if (exchange && mhd_quirk_exceeds_parameters(target)) {
        http_request_set_fault(exchange, "The query has more than 100 parameters.");
        http_connection_close_receive(connection);
    }
    return exchange;
}

struct head {
    struct http_exchange *exchange;
    struct mhd_head_layout layout;
};

static enum MHD_Result on_header(void *context, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                 const char *value, size_t value_length)
{
    struct head *head = context;

    (void)kind;
    http_request_receive_header(head->exchange, name, name_length, value, value_length);
    mhd_head_layout_add(&head->layout, name, name_length, value, value_length);
    return MHD_YES;
}

// The library knows the length as soon as it has parsed the head.
static size_t head_length(const struct http_exchange *exchange)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

    assert(info);
    return info->header_size;
}

static enum http_verdict receive_head(struct http_exchange *exchange, const char *url, const char *method,
                                      const char *version)
{
    struct head head = {.exchange = exchange};

    if (!exchange->target)
        return HTTP_VERDICT_CLOSE;
    mhd_head_layout_init(&head.layout, method, url, strlen(exchange->target), version);
    (void)MHD_get_connection_values_n(exchange->connection->mhd, MHD_HEADER_KIND, on_header, &head);
    if (mhd_is_before_1_0() && mhd_head_layout_is_altered(&head.layout, method + head_length(exchange)))
        http_request_set_fault(exchange,
                               "The head contains NUL bytes, folded lines, bare line feeds or superfluous spaces.");
    return http_request_receive_head(exchange, method, version);
}

// The library calls this once for the head, once for each piece of the body, once without data at the end of the body,
// and then, as long as there is no response, in each call of MHD_run in which the connection is not suspended.
static enum MHD_Result on_data(void *context, struct MHD_Connection *mhd, const char *url, const char *method,
                               const char *version, const char *data, size_t *length, void **request_context)
{
    struct http_exchange *exchange = *request_context;

    (void)context;
    if (!exchange) {
        // Memory was exhausted when the request line arrived.
        http_connection_close(connection_of(mhd));
        return MHD_NO;
    }
    assert(exchange->connection == connection_of(mhd) && exchange->connection->exchange == exchange);
    // GnuTLS may hold more decrypted bytes, which the kernel does not report, so the loop must not sleep longer than
    // the library asks for. While the request is pending, the library reads nothing.
    if (exchange->phase != HTTP_PHASE_PENDING)
        exchange->connection->set->has_progress = true;
    switch (exchange->phase) {
    case HTTP_PHASE_TARGET:
        return carry_out(exchange, receive_head(exchange, url, method, version));
    case HTTP_PHASE_BODY:
        if (*length == 0)
            return carry_out(exchange, http_request_receive_end(exchange));
        http_request_receive_data(exchange, data, *length);
        *length = 0;
        break;
    case HTTP_PHASE_PENDING:
    case HTTP_PHASE_COMPLETED:
        return carry_out(exchange, http_request_poll(exchange));
    case HTTP_PHASE_ANSWERED:
        break;
    }
    return MHD_YES;
}

static void on_request_end(void *context, struct MHD_Connection *mhd, void **request_context,
                           enum MHD_RequestTerminationCode how)
{
    (void)context;
    if (how == MHD_REQUEST_TERMINATED_COMPLETED_OK)
        tls_end_response(session_of(mhd), connection_of(mhd));
    if (*request_context)
        finish_request(connection_of(mhd));
    mhd_quirk_on_request_end(connection_of(mhd));
    *request_context = NULL;
}

// The library calls this for each name and value in the query, and then for the path. This function leaves the escapes
// as they are, because the daemon reads the raw target.
static size_t on_unescape(void *context, struct MHD_Connection *mhd, char *text)
{
    (void)context;
    mhd_quirk_on_unescape(connection_of(mhd));
    return strlen(text);
}

// ---- The library ----

// The library accepts TLS connections only if it has a certificate or this callback. tls_session_init gives each
// session its credentials, so GnuTLS never calls this function.
static int on_certificate(gnutls_session_t session, const gnutls_datum_t *authorities, int authority_count,
                          const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **chain,
                          unsigned int *chain_length, gnutls_privkey_t *key)
{
    (void)session;
    (void)authorities;
    (void)authority_count;
    (void)algorithms;
    (void)algorithm_count;
    (void)chain;
    (void)chain_length;
    (void)key;
    return -1;
}

// The messages of the library concern faults of single connections, so the daemon logs them at the level debug.
static void on_log(void *context, const char *format, va_list arguments) PRINTF_LIKE(2, 0);

static void on_log(void *context, const char *format, va_list arguments)
{
    struct buffer text = {0};

    mhd_quirk_on_log(context, format);
    if (buffer_print_list(&text, format, arguments) == 0) {
        if (text.length > 0 && text.data[text.length - 1] == '\n')
            text.data[text.length - 1] = '\0';
        log_debug("libmicrohttpd: %s", buffer_text(&text));
    }
    buffer_finish(&text);
}

int mhd_adapter_start(struct http_connection_set *set, struct error *error)
{
    MHD_set_panic_func(on_panic, NULL);
    errno = 0;
    set->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_TLS | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
            mhd_quirk_flags(),
        0, NULL, NULL, on_data, NULL, MHD_OPTION_EXTERNAL_LOGGER, on_log, set, MHD_OPTION_HTTPS_CERT_CALLBACK,
        on_certificate, MHD_OPTION_HTTPS_PRIORITIES, TLS_PRIORITIES, MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_request_end, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, set, MHD_OPTION_CONNECTION_LIMIT, 1U << 30,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY_BYTES, MHD_QUIRK_STRICT_OPTION MHD_OPTION_END);
    if (!set->daemon)
        return error_set(error, EIO, "cannot start libmicrohttpd: %s",
                         errno ? strerror(errno) : "it may lack TLS support");
    return 0;
}

void mhd_adapter_stop(struct http_connection_set *set)
{
    if (!set->daemon)
        return;
    MHD_stop_daemon(set->daemon);
    assert(set->connection_count == 0);
}

int mhd_adapter_epoll_fd(const struct http_connection_set *set)
{
    return MHD_get_daemon_info(set->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

int64_t mhd_adapter_timeout_ms(const struct http_connection_set *set)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;

    return MHD_get_timeout(set->daemon, &timeout_ms) == MHD_YES ? (int64_t)timeout_ms : -1;
}

void mhd_adapter_run(struct http_connection_set *set)
{
    do {
        set->handshakes = MAX_HANDSHAKES;
        (void)MHD_run(set->daemon);
    } while (mhd_quirk_reread(set)); // this ends, because GnuTLS limits the number of key updates per second
    mhd_quirk_remove_closed(set);
}
