#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "private.h"
#include "tls.h"

#include <gnutls/abstract.h>

// What MHD may use for one connection: its read buffer, the headers, the answer's head.
#define CONNECTION_MEMORY_BYTES ((size_t)16 << 10)
// How often a drain looks whether a connection has become idle.
#define DRAIN_LOOK_MS 10
#define LAST_TURNS    4
// How long the loop sleeps although MHD wants another turn, after a turn in which nothing moved.
#define NOTHING_MOVED_MS 20

// From 1.0 on the library can be told to be strict about heads; before, see layout.h.
#if MHD_VERSION >= 0x01000000
#define CLIENT_DISCIPLINE MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1,
#else
#define CLIENT_DISCIPLINE
#endif

struct http_loop {
    struct http_server *server;
    struct MHD_Daemon *daemon;
    int epoll_fd; // MHD's own epoll descriptor and event_fd
    int event_fd; // the inbox has something
    pthread_t thread;
    struct http_connections connections; // this and what follows is the loop's thread's alone
    struct http_connection *arriving;    // handed to MHD, which has not begun them; linked by next
    bool length_fault;                   // an old MHD is about to answer a malformed Content-Length; see push in tls.c
    struct http_limits limits;
    int64_t now_ms;               // of this turn
    bool moved;                   // in this turn
    unsigned int pending;         // exchanges that the handler has to complete
    atomic_uint connection_count; // with those that are still in the inbox
    atomic_uint unproven_count;   // those of them on which no verified call came

    pthread_mutex_t lock; // guards the inbox: what follows
    struct http_connection *arrivals;
    struct http_exchange *completed;
    bool reconfigured; // the server has other limits
    bool crowded;      // a connection was turned away, for all the spare ones are taken
    bool stopping;
    atomic_bool wake_wanted;
};

// Takes the connection with this descriptor out of those that MHD has not begun yet; NULL when there is none.
static struct http_connection *take_arriving(struct http_loop *loop, int fd)
{
    for (struct http_connection **link = &loop->arriving; *link; link = &(*link)->next) {
        struct http_connection *connection = *link;

        if (connection->fd != fd)
            continue;
        *link = connection->next;
        connection->next = NULL;
        return connection;
    }
    return NULL;
}

static void forget(struct http_loop *loop, struct http_connection *connection)
{
    if (!connection)
        return;
    loop->connection_count--;
    if (!connection->proven)
        loop->unproven_count--;
    http_connection_free(connection);
}

// Who said nothing is no failure: a probe of the port does so.
static void log_handshake(struct http_server *server, const struct http_connection *connection)
{
    unsigned int left_out;

    if (connection->stage != HTTP_STAGE_HANDSHAKE || !connection->greeted)
        return;
    if (log_rate_limit_allows(&server->handshakes, &left_out))
        log_info("TLS handshake with %s failed (and %u more since the last such line)", connection->remote_address,
                 left_out);
    else
        log_debug("TLS handshake with %s failed", connection->remote_address);
}

static void on_connection(void *context, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    struct http_loop *loop = context;
    struct http_connection *connection = *socket_context;

    loop->moved = true;
    if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (connection->stage == HTTP_STAGE_HANDSHAKE)
            metric_add(&http_handshakes, HTTP_HANDSHAKE_FAILED, 1);
        log_handshake(loop->server, connection);
        http_request_end(connection);
        http_connections_remove(&loop->connections, connection);
        forget(loop, connection);
        return;
    }
    connection = take_arriving(loop, MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd);
    assert(connection);
    *socket_context = connection;
    connection->mhd = mhd;
    http_connections_add(&loop->connections, connection, loop->now_ms);
    if (!tls_session_begin(MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session, connection))
        (void)shutdown(connection->fd, SHUT_RDWR);
}

// MHD wants a certificate or this to speak TLS at all; tls_session_begin gives each session its own.
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

// MHD's own words tell of single connections that misbehave.
static void on_log(void *context, const char *format, va_list arguments) PRINTF_LIKE(2, 0);

static void on_log(void *context, const char *format, va_list arguments)
{
    struct http_loop *loop = context;
    struct buffer text = {0};

    if (http_library_is_old() && strstr(format, "Content-Length"))
        loop->length_fault = true;
    if (buffer_print_list(&text, format, arguments) == 0) {
        if (text.length > 0 && text.data[text.length - 1] == '\n')
            text.data[text.length - 1] = '\0';
        log_debug("libmicrohttpd: %s", buffer_text(&text));
    }
    buffer_finish(&text);
}

// Keeps '%' escapes: the target is read raw, and MHD's own view of it is not used. MHD calls this for each parameter
// and then for the path. When it has no memory for a parameter, 0.9.75 makes an answer here and now, and then forgets
// that it did: it neither sends the answer nor goes on.
static size_t keep_escapes(void *context, struct MHD_Connection *mhd, char *text)
{
    struct http_connection *connection = http_connection_of(mhd);

    (void)context;
    if (http_request_tell_library_answer(connection))
        http_connection_end(connection);
    return strlen(text);
}

static struct MHD_Daemon *start_daemon(struct http_loop *loop)
{
    struct http_server *server = loop->server;

    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_TLS | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL,
        NULL, http_request_on_data, server, MHD_OPTION_EXTERNAL_LOGGER, on_log, loop, MHD_OPTION_HTTPS_CERT_CALLBACK,
        on_certificate, MHD_OPTION_HTTPS_PRIORITIES, TLS_PRIORITIES, MHD_OPTION_URI_LOG_CALLBACK,
        http_request_on_target, server, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED,
        http_request_on_over, server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, loop, MHD_OPTION_CONNECTION_LIMIT,
        1U << 30, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY_BYTES, CLIENT_DISCIPLINE MHD_OPTION_END);
}

// Sheds another connection for one that came when a limit was reached.
static void make_room(struct http_loop *loop, struct http_connection *connection)
{
    struct address caller = address_client_network(&connection->address);

    if (http_connections_shed(&loop->connections, connection->limit_reached == HTTP_LIMIT_PER_ADDRESS ? &caller : NULL,
                              loop->now_ms))
        connection->limit_reached = HTTP_LIMIT_NONE;
}

static void take_arrivals(struct http_loop *loop, struct http_connection *arrivals)
{
    while (arrivals) {
        struct http_connection *connection = arrivals;

        arrivals = connection->next;
        if (connection->limit_reached != HTTP_LIMIT_NONE)
            make_room(loop, connection);
        // One that still waits with this descriptor was closed by MHD before it began, as from 1.0 on it can be.
        forget(loop, take_arriving(loop, connection->fd));
        connection->next = loop->arriving;
        loop->arriving = connection;
        // On failure MHD has closed the descriptor; the connection is still ours unless MHD has told of its end.
        if (MHD_add_connection(loop->daemon, connection->fd, (struct sockaddr *)&connection->socket_address,
                               connection->socket_address_length) != MHD_YES)
            forget(loop, take_arriving(loop, connection->fd));
    }
}

static void copy_limits(struct http_loop *loop)
{
    pthread_mutex_lock(&loop->server->lock);
    loop->limits = loop->server->limits;
    pthread_mutex_unlock(&loop->server->lock);
    loop->limits.allow_from = NULL; // the acceptor's business, and not ours to keep
}

// Returns true when the loop has to stop as soon as nothing is pending.
static bool take_inbox(struct http_loop *loop)
{
    struct http_connection *arrivals;
    struct http_exchange *completed;
    bool stopping, reconfigured, crowded;

    pthread_mutex_lock(&loop->lock);
    arrivals = loop->arrivals;
    completed = loop->completed;
    stopping = loop->stopping;
    reconfigured = loop->reconfigured;
    crowded = loop->crowded;
    loop->arrivals = NULL;
    loop->completed = NULL;
    loop->reconfigured = false;
    loop->crowded = false;
    pthread_mutex_unlock(&loop->lock);

    if (reconfigured)
        copy_limits(loop);
    if (crowded)
        http_connections_shed_beyond_limit(&loop->connections, loop->now_ms);
    loop->moved = arrivals || completed;
    take_arrivals(loop, arrivals);
    while (completed) {
        struct http_exchange *exchange = completed;

        completed = exchange->next;
        loop->pending--;
        metric_add(&http_requests_waiting, 0, -1);
        MHD_resume_connection(exchange->connection->mhd);
    }
    return stopping;
}

// What is due by the clock: deadlines, and in a drain the end of idle connections. Returns how long the loop may sleep,
// in ms; -1 for ever.
static int run_clock(struct http_loop *loop)
{
    MHD_UNSIGNED_LONG_LONG mhd_ms;
    int64_t timeout_ms;

    loop->now_ms = clock_monotonic_ms();
    timeout_ms = http_connections_sweep(&loop->connections, &loop->limits, loop->now_ms);
    if (loop->server->draining) {
        int64_t left_ms = loop->server->drain_idle_at_ms - loop->now_ms;

        if (left_ms <= 0)
            http_connections_end_idle(&loop->connections);
        timeout_ms = clock_min_timeout_ms(timeout_ms, left_ms > DRAIN_LOOK_MS ? left_ms : DRAIN_LOOK_MS);
    }
    if (MHD_get_timeout(loop->daemon, &mhd_ms) == MHD_YES)
        timeout_ms = clock_min_timeout_ms(timeout_ms, mhd_ms < INT_MAX ? (int64_t)mhd_ms : INT_MAX);
    // While a handshake waits for its client, MHD holds the connection for ready and never wants to sleep; likewise a
    // connection whose request it cannot go on with. But when nothing came and nothing went in a whole turn, there is
    // nothing to do before the kernel says so.
    if (timeout_ms == 0 && !loop->moved && http_connections_stand_still(&loop->connections))
        timeout_ms = NOTHING_MOVED_MS;
    return timeout_ms < INT_MAX ? (int)timeout_ms : INT_MAX;
}

static void *loop_main(void *argument)
{
    struct http_loop *loop = argument;
    struct epoll_event events[2];
    bool stopping;

    do {
        int count = epoll_wait(loop->epoll_fd, events, 2, run_clock(loop));
        uint64_t times;

        loop->now_ms = clock_monotonic_ms();
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == loop->event_fd && read(loop->event_fd, &times, sizeof times) < 0)
                log_debug("eventfd: %s", strerror(errno));
        }
        stopping = take_inbox(loop);
        (void)MHD_run(loop->daemon);
    } while (!stopping || loop->pending > 0);
    // What was resumed last may take MHD another turn to send.
    for (int i = 0; i < LAST_TURNS; i++)
        (void)MHD_run(loop->daemon);
    return NULL;
}

static int watch(struct http_loop *loop, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

void http_loop_destroy(struct http_loop *loop)
{
    if (!loop)
        return;
    if (loop->daemon)
        MHD_stop_daemon(loop->daemon);
    while (loop->arriving)
        forget(loop, take_arriving(loop, loop->arriving->fd));
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    if (loop->event_fd >= 0)
        close(loop->event_fd);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

static int set_up(struct http_loop *loop, struct error *error)
{
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll_fd < 0 || loop->event_fd < 0)
        return error_set(error, errno, "cannot create an event loop: %s", strerror(errno));
    errno = 0;
    loop->daemon = start_daemon(loop);
    if (!loop->daemon)
        return error_set(error, EIO, "cannot start libmicrohttpd: %s",
                         errno ? strerror(errno) : "it may lack TLS support");
    if (watch(loop, loop->event_fd) < 0 ||
        watch(loop, MHD_get_daemon_info(loop->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd) < 0)
        return error_set(error, errno, "cannot create an event loop: %s", strerror(errno));
    if ((errno = pthread_create(&loop->thread, NULL, loop_main, loop)) != 0)
        return error_set(error, errno, "the event loop thread cannot be started: %s", strerror(errno));
    return 0;
}

int http_loop_start(struct http_server *server, struct http_loop **ret_loop, struct error *error)
{
    struct http_loop *loop = calloc(1, sizeof *loop);
    int r;

    if (!loop)
        return error_set(error, ENOMEM, "out of memory");
    loop->server = server;
    copy_limits(loop);
    pthread_mutex_init(&loop->lock, NULL);
    r = set_up(loop, error);
    if (r < 0) {
        http_loop_destroy(loop);
        return r;
    }
    *ret_loop = loop;
    return 0;
}

void http_loop_reconfigure(struct http_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->reconfigured = true;
    pthread_mutex_unlock(&loop->lock);
    http_loop_nudge(loop);
}

void http_loop_tell_crowd(struct http_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    loop->crowded = true;
    pthread_mutex_unlock(&loop->lock);
    loop->wake_wanted = true;
}

const struct http_limits *http_loop_limits(const struct http_loop *loop)
{
    return &loop->limits;
}

// An answer of our own is sent in a later stage, so nobody else is hit.
bool http_loop_must_not_send(struct http_connection *connection)
{
    struct http_loop *loop = connection->loop;
    bool must_not = loop->length_fault && connection->stage == HTTP_STAGE_HEAD;

    if (must_not)
        loop->length_fault = false;
    return must_not;
}

void http_loop_moved(struct http_loop *loop)
{
    loop->moved = true;
}

void http_loop_enter(struct http_connection *connection, enum http_stage stage)
{
    http_loop_moved(connection->loop);
    http_connections_enter(&connection->loop->connections, connection, stage, connection->loop->now_ms);
}

void http_loop_add(struct http_loop *loop, struct http_connection *connection)
{
    connection->loop = loop;
    loop->connection_count++;
    loop->unproven_count++;
    pthread_mutex_lock(&loop->lock);
    connection->next = loop->arrivals;
    loop->arrivals = connection;
    pthread_mutex_unlock(&loop->lock);
    loop->wake_wanted = true;
}

// The completion arrives through this loop's inbox, so it cannot overtake the suspension.
void http_loop_suspend(struct http_loop *loop, struct http_exchange *exchange)
{
    loop->pending++;
    metric_add(&http_requests_waiting, 0, 1);
    http_loop_enter(exchange->connection, HTTP_STAGE_HELD);
    MHD_suspend_connection(exchange->connection->mhd);
}

void http_loop_complete(struct http_loop *loop, struct http_exchange *exchange)
{
    pthread_mutex_lock(&loop->lock);
    exchange->next = loop->completed;
    loop->completed = exchange;
    pthread_mutex_unlock(&loop->lock);
    loop->wake_wanted = true;
}

void http_loop_wake(struct http_loop *loop)
{
    if (atomic_exchange(&loop->wake_wanted, false))
        http_loop_nudge(loop);
}

void http_loop_nudge(struct http_loop *loop)
{
    uint64_t one = 1;

    // Can only fail when the counter is full, and then the loop is awake anyway.
    if (write(loop->event_fd, &one, sizeof one) < 0)
        log_debug("eventfd: %s", strerror(errno));
}

unsigned int http_loop_connections(const struct http_loop *loop)
{
    return loop->connection_count;
}

unsigned int http_loop_unproven(const struct http_loop *loop)
{
    return loop->unproven_count;
}

void http_loop_prove(struct http_connection *connection)
{
    if (!connection->proven)
        connection->loop->unproven_count--;
    connection->proven = true;
}

void http_loop_stop(struct http_loop *loop)
{
    if (!loop)
        return;
    pthread_mutex_lock(&loop->lock);
    loop->stopping = true;
    pthread_mutex_unlock(&loop->lock);
    http_loop_nudge(loop);
    pthread_join(loop->thread, NULL);
}
