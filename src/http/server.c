// Runs the acceptor thread, and starts and stops this thread and the loops. The acceptor waits in poll for the
// listening sockets and for the eventfd that stops it. State that the loops use as well is in shared.h.
#include "imcallbackd/http/server.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/http/credentials.h"
#include "loop.h"

// How long an idle connection stays open in a drain. A client that sends a request within this time gets a response
// with Connection: close. A client that is disconnected without this announcement may lose an event.
#define DRAIN_GRACE_MS 1000

#define ACCEPTS_PER_BATCH 64  // the most connections that are accepted before the acceptor wakes the loops
#define SHORTAGE_PAUSE_MS 100 // the pause after running out of descriptors or memory, which closed connections free

#define OTHER_FILES 64 // descriptors for anything but connections and loops

struct http_server {
    struct http_settings settings; // its path is not used; shared.path is the copy
    struct http_shared shared;
    struct http_loop **loops; // settings.threads elements; an element is NULL until that loop is started
    struct pollfd *sockets;   // the listening sockets, then stop_fd
    int stop_fd;              // readable when the acceptor must stop; -1: not started
    pthread_t acceptor;
    bool is_accepting; // the acceptor's thread must be joined
    struct log_rate_limit shortages;
};

const struct metric *const http_metrics[] = {&http_connections_open, &http_requests_waiting, &http_handshakes,
                                             &http_proxy_headers,    &http_answer_seconds,   NULL};

// ---- The acceptor ----

// Returns the loop with the fewest connections. For a connection beyond a limit, returns the loop with the most
// unverified connections, because a loop evicts only its own connections, and unverified ones first.
static struct http_loop *choose_loop(const struct http_server *server, enum http_limit exceeded)
{
    struct http_loop *best = server->loops[0];

    for (unsigned int i = 1; i < server->settings.threads; i++) {
        struct http_loop *loop = server->loops[i];

        if (exceeded != HTTP_LIMIT_NONE ? http_loop_unverified_count(loop) > http_loop_unverified_count(best)
                                        : http_loop_connection_count(loop) < http_loop_connection_count(best))
            best = loop;
    }
    return best;
}

static int accept_connection(int listen_fd, struct http_transport *transport)
{
    transport->fd = accept4(listen_fd, (struct sockaddr *)&transport->socket_address, &transport->socket_address_length,
                            SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (transport->fd < 0)
        return -errno;
    if (address_from_socket(&transport->socket_address, &transport->address)) {
        transport->network = address_client_network(&transport->address);
        address_print(&transport->address, transport->remote_address);
    }
    return 0;
}

static enum http_refusal admit(struct http_connection *connection)
{
    struct http_transport *transport = &connection->transport;
    struct http_admission admission;
    enum http_refusal why;

    if (!transport->remote_address[0])
        return HTTP_REFUSE_PEER; // neither IPv4 nor IPv6
    why = http_shared_admit(connection->shared, &transport->address, &transport->network, &admission);
    transport->client = admission.is_trusted_proxy ? HTTP_CLIENT_UNDECIDED : HTTP_CLIENT_IS_PEER;
    transport->credentials = admission.credentials;
    connection->exceeded_limit = admission.exceeded_limit;
    return why;
}

static void refuse(struct http_server *server, struct http_connection *connection, enum http_refusal why)
{
    const struct http_handler *handler = &server->shared.handler;

    for (unsigned int i = 0; i < server->settings.threads && why == HTTP_REFUSE_TOO_MANY_CONNECTIONS; i++)
        http_loop_evict_reserve(server->loops[i]);
    (void)handler->on_refusal(handler->context, why, connection->transport.remote_address, "");
    close(connection->transport.fd);
    http_connection_destroy(connection);
}

// Accepts one connection from the kernel, and hands the connection to a loop or refuses it. Returns 0 in both cases,
// -EAGAIN if no connection is queued, or another negative errno value on failure.
static int accept_one(struct http_server *server, int listen_fd)
{
    const int on = 1;
    struct http_connection *connection = http_connection_create(&server->shared);
    enum http_refusal why;
    int r;

    if (!connection)
        return -ENOMEM;
    r = accept_connection(listen_fd, &connection->transport);
    if (r < 0) {
        http_connection_destroy(connection);
        return r;
    }
    why = admit(connection);
    if (why != HTTP_REFUSE_NONE) {
        refuse(server, connection, why);
        return 0;
    }
    (void)setsockopt(connection->transport.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    http_loop_add(choose_loop(server, connection->exceeded_limit), connection);
    return 0;
}

static bool is_shortage(int code)
{
    return code == -EMFILE || code == -ENFILE || code == -ENOMEM || code == -ENOBUFS;
}

static void wait_out_shortage(struct http_server *server, int code)
{
    struct pollfd stop = {.fd = server->stop_fd, .events = POLLIN};
    unsigned int suppressed;

    if (log_rate_limit_allows(&server->shortages, &suppressed))
        log_error("cannot accept connections: %s (and %u more since the last such line); raise LimitNOFILE= of the "
                  "service or give it more memory",
                  strerror(-code), suppressed);
    (void)poll(&stop, 1, SHORTAGE_PAUSE_MS);
}

// Accepts up to ACCEPTS_PER_BATCH connections. Returns false if the kernel has queued no more connections, or if
// descriptors or memory ran out, and true otherwise.
static bool accept_batch(struct http_server *server, int listen_fd)
{
    int r = 0;

    // Other errors, such as ECONNABORTED, concern only the connection that was about to be accepted, so the acceptor
    // continues with the next one.
    for (int i = 0; i < ACCEPTS_PER_BATCH && r != -EAGAIN && !is_shortage(r); i++)
        r = accept_one(server, listen_fd);
    http_server_wake(server);
    if (is_shortage(r))
        wait_out_shortage(server, r);
    return r != -EAGAIN && !is_shortage(r);
}

static void *acceptor_main(void *argument)
{
    struct http_server *server = argument;
    struct pollfd *stop = &server->sockets[server->settings.listen_fd_count];

    while (!stop->revents) {
        if (poll(server->sockets, server->settings.listen_fd_count + 1, -1) < 0)
            continue; // EINTR
        for (struct pollfd *socket = server->sockets; socket < stop; socket++) {
            if (socket->revents)
                (void)accept_batch(server, socket->fd);
        }
    }
    // The kernel has completed the TCP handshake of each queued connection. If no other process has the socket, closing
    // it would reset these connections, so accept them first.
    for (struct pollfd *socket = server->sockets; socket < stop; socket++) {
        while (server->settings.listening_is_ours && accept_batch(server, socket->fd)) {
        }
    }
    return NULL;
}

static int start_acceptor(struct http_server *server, struct error *error)
{
    size_t listening = server->settings.listen_fd_count;

    server->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (size_t i = 0; i < listening; i++)
        server->sockets[i] = (struct pollfd){.fd = server->settings.listen_fds[i], .events = POLLIN};
    server->sockets[listening] = (struct pollfd){.fd = server->stop_fd, .events = POLLIN};
    if (server->stop_fd < 0 || (errno = pthread_create(&server->acceptor, NULL, acceptor_main, server)) != 0)
        return error_set(error, errno, "the acceptor thread cannot be started: %s", strerror(errno));
    pthread_setname_np(server->acceptor, "http-acceptor");
    server->is_accepting = true;
    return 0;
}

// Ends the acceptor's thread if the thread runs. If settings.listening_is_ours, the acceptor first accepts the
// connections that the kernel has queued.
static void stop_acceptor(struct http_server *server)
{
    uint64_t one = 1;

    if (!server->is_accepting)
        return;
    if (write(server->stop_fd, &one, sizeof one) < 0)
        log_debug("eventfd: %s", strerror(errno));
    pthread_join(server->acceptor, NULL);
    server->is_accepting = false;
}

// ---- Start and stop ----

// Reduces the limit on connections until the process may open enough descriptors for the hard limit. Otherwise accept
// would fail before the server reaches its own limit, and the server would not evict old connections for new ones.
static struct http_limits fit_limits(const struct http_limits *limits, unsigned int threads)
{
    struct http_limits fitting = *limits;
    rlim_t others = OTHER_FILES + (rlim_t)threads * HTTP_LOOP_FILES;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return fitting;
    while (fitting.connections > 1 && files.rlim_cur < http_hard_limit(fitting.connections) + others)
        fitting.connections--;
    if (fitting.connections < limits->connections)
        log_warning("[limits] connections: reduced to %u: the process may open only %llu files; raise LimitNOFILE= of "
                    "the service",
                    fitting.connections, (unsigned long long)files.rlim_cur);
    return fitting;
}

int http_server_create(const struct http_settings *settings, const struct http_limits *limits,
                       struct http_credentials *credentials, const struct http_handler *handler,
                       struct http_server **ret_server, struct error *error)
{
    struct http_limits fitting = fit_limits(limits, settings->threads);
    struct http_server *server = calloc(1, sizeof *server);

    assert(settings->threads > 0 && settings->listen_fd_count > 0);
    if (!server)
        return error_set(error, ENOMEM, "out of memory");
    server->settings = *settings;
    server->settings.path = NULL;
    // NOLINTNEXTLINE(bugprone-sizeof-expression): loops is an array of pointers
    server->loops = calloc(settings->threads, sizeof *server->loops);
    server->sockets = calloc(settings->listen_fd_count + 1, sizeof *server->sockets);
    server->stop_fd = -1;
    if (http_shared_init(&server->shared, settings->path, handler, &fitting, credentials) < 0 || !server->loops ||
        !server->sockets) {
        http_server_destroy(server);
        return error_set(error, ENOMEM, "out of memory");
    }
    *ret_server = server;
    return 0;
}

int http_server_reconfigure(struct http_server *server, const struct http_limits *limits,
                            struct http_credentials *credentials, struct error *error)
{
    struct http_limits fitting = fit_limits(limits, server->settings.threads);

    if (http_shared_reconfigure(&server->shared, &fitting, credentials) < 0)
        return error_set(error, ENOMEM, "out of memory");
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_reconfigure(server->loops[i]);
    return 0;
}

int http_server_start(struct http_server *server, struct error *error)
{
    int r = 0;

    assert(!server->is_accepting && !server->loops[0]);
    for (unsigned int i = 0; i < server->settings.threads && r == 0; i++)
        r = http_loop_start(&server->shared, &server->loops[i], error);
    return r < 0 ? r : start_acceptor(server, error);
}

void http_server_wake(struct http_server *server)
{
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_wake_if_queued(server->loops[i]);
}

unsigned int http_server_drain(struct http_server *server, int timeout_ms)
{
    int64_t give_up_ms = clock_monotonic_ms() + timeout_ms;

    stop_acceptor(server);
    for (size_t i = 0; i < server->settings.listen_fd_count && server->settings.listening_is_ours; i++)
        (void)shutdown(server->settings.listen_fds[i], SHUT_RD);
    server->shared.drain_idle_at_ms = clock_monotonic_ms() + DRAIN_GRACE_MS;
    server->shared.draining = true;
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_wake(server->loops[i]);
    return http_shared_wait_until_empty(&server->shared, give_up_ms);
}

void http_server_stop(struct http_server *server)
{
    stop_acceptor(server);
    server->shared.stopping = true;
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_stop(server->loops[i]);
}

void http_server_destroy(struct http_server *server)
{
    if (!server)
        return;
    assert(!server->is_accepting);
    for (unsigned int i = 0; server->loops && i < server->settings.threads; i++)
        http_loop_destroy(server->loops[i]);
    free(server->loops);
    free(server->sockets);
    if (server->stop_fd >= 0)
        close(server->stop_fd);
    http_shared_finish(&server->shared);
    free(server);
}
