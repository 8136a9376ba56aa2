// The thread waits in poll for the listening sockets and for the eventfd that stops it.
#include "acceptor.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "imcallbackd/base/log.h"

#define ACCEPTS_PER_BATCH 64  // after a batch, the acceptor wakes the loops
#define SHORTAGE_PAUSE_MS 100 // without descriptors or memory, the acceptor waits for connections to close

struct http_acceptor {
    struct http_shared *shared;
    const struct http_settings *settings;
    struct http_loop *const *loops;
    struct pollfd *sockets; // the listening sockets, then stop_fd
    nfds_t socket_count;
    int stop_fd;
    struct log_rate_limit shortages;
    pthread_t thread;
    pthread_t self; // the same thread, stored by the thread itself
};

// Returns the loop with the fewest connections. At a limit, returns the loop with the most unverified connections,
// because a loop evicts only its own connections.
static struct http_loop *choose_loop(const struct http_acceptor *acceptor, enum http_limit exceeded)
{
    struct http_loop *best = acceptor->loops[0];

    for (unsigned int i = 1; i < acceptor->settings->threads; i++) {
        struct http_loop *loop = acceptor->loops[i];

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
    if (address_from_socket(&transport->socket_address, &transport->address))
        address_print(&transport->address, transport->remote_address);
    return 0;
}

static enum http_refusal admit(struct http_connection *connection)
{
    struct http_transport *transport = &connection->transport;

    if (!transport->remote_address[0])
        return HTTP_REFUSE_PEER; // neither IPv4 nor IPv6
    return http_shared_admit(connection->shared, &transport->address, &connection->exceeded_limit,
                             &transport->credentials);
}

static void refuse(struct http_acceptor *acceptor, struct http_connection *connection, enum http_refusal why)
{
    const struct http_handler *handler = &acceptor->shared->handler;

    for (unsigned int i = 0; i < acceptor->settings->threads && why == HTTP_REFUSE_TOO_MANY_CONNECTIONS; i++)
        http_loop_evict_reserve(acceptor->loops[i]);
    (void)handler->on_refusal(handler->context, why, connection->transport.remote_address, "");
    close(connection->transport.fd);
    http_connection_destroy(connection);
}

// Accepts one connection and hands it to a loop. Returns a negative errno value on failure; -EAGAIN: none is queued.
static int accept_one(struct http_acceptor *acceptor, int listen_fd)
{
    const int on = 1;
    struct http_connection *connection = http_connection_create(acceptor->shared);
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
        refuse(acceptor, connection, why);
        return 0;
    }
    (void)setsockopt(connection->transport.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    http_loop_add(choose_loop(acceptor, connection->exceeded_limit), connection);
    return 0;
}

static bool is_shortage(int code)
{
    return code == -EMFILE || code == -ENFILE || code == -ENOMEM || code == -ENOBUFS;
}

static void wait_out_shortage(struct http_acceptor *acceptor, int code)
{
    struct pollfd stop = {.fd = acceptor->stop_fd, .events = POLLIN};
    unsigned int suppressed;

    if (log_rate_limit_allows(&acceptor->shortages, &suppressed))
        log_error("cannot accept connections: %s (and %u more since the last such line); raise LimitNOFILE= of the "
                  "service or give it more memory",
                  strerror(-code), suppressed);
    (void)poll(&stop, 1, SHORTAGE_PAUSE_MS);
}

// Returns true if more connections may be queued.
static bool accept_batch(struct http_acceptor *acceptor, int listen_fd)
{
    int r = 0;

    assert(pthread_equal(acceptor->self, pthread_self()));
    // Other errors, such as ECONNABORTED, belong to the connection that was about to be accepted.
    for (int i = 0; i < ACCEPTS_PER_BATCH && r != -EAGAIN && !is_shortage(r); i++)
        r = accept_one(acceptor, listen_fd);
    for (unsigned int i = 0; i < acceptor->settings->threads; i++)
        http_loop_wake_if_queued(acceptor->loops[i]);
    if (is_shortage(r))
        wait_out_shortage(acceptor, r);
    return r != -EAGAIN && !is_shortage(r);
}

static void *acceptor_main(void *argument)
{
    struct http_acceptor *acceptor = argument;
    struct pollfd *stop = &acceptor->sockets[acceptor->socket_count - 1];

    acceptor->self = pthread_self();
    assert(stop->fd == acceptor->stop_fd);
    while (!stop->revents) {
        if (poll(acceptor->sockets, acceptor->socket_count, -1) < 0)
            continue; // EINTR
        for (struct pollfd *socket = acceptor->sockets; socket < stop; socket++) {
            if (socket->revents)
                (void)accept_batch(acceptor, socket->fd);
        }
    }
    // For the clients in the backlog, the TCP handshake is complete. Closing the socket would reset their connections.
    for (struct pollfd *socket = acceptor->sockets; socket < stop; socket++) {
        while (acceptor->settings->listening_is_ours && accept_batch(acceptor, socket->fd)) {
        }
    }
    return NULL;
}

static void acceptor_destroy(struct http_acceptor *acceptor)
{
    if (acceptor->stop_fd >= 0)
        close(acceptor->stop_fd);
    free(acceptor->sockets);
    free(acceptor);
}

// Returns an errno value, or 0.
static int start_thread(struct http_acceptor *acceptor)
{
    size_t listening = acceptor->settings->listen_fd_count;

    acceptor->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (acceptor->stop_fd < 0)
        return errno;
    acceptor->socket_count = listening + 1;
    acceptor->sockets = calloc(acceptor->socket_count, sizeof *acceptor->sockets);
    if (!acceptor->sockets)
        return ENOMEM;
    for (size_t i = 0; i < listening; i++)
        acceptor->sockets[i] = (struct pollfd){.fd = acceptor->settings->listen_fds[i], .events = POLLIN};
    acceptor->sockets[listening] = (struct pollfd){.fd = acceptor->stop_fd, .events = POLLIN};
    return pthread_create(&acceptor->thread, NULL, acceptor_main, acceptor);
}

int http_acceptor_start(struct http_shared *shared, const struct http_settings *settings,
                        struct http_loop *const *loops, struct http_acceptor **ret_acceptor, struct error *error)
{
    struct http_acceptor *acceptor = calloc(1, sizeof *acceptor);
    int code;

    assert(settings->threads > 0);
    if (!acceptor)
        return error_set(error, ENOMEM, "out of memory");
    acceptor->shared = shared;
    acceptor->settings = settings;
    acceptor->loops = loops;
    code = start_thread(acceptor);
    if (code != 0) {
        acceptor_destroy(acceptor);
        return error_set(error, code, "the acceptor thread cannot be started: %s", strerror(code));
    }
    *ret_acceptor = acceptor;
    return 0;
}

void http_acceptor_stop(struct http_acceptor *acceptor)
{
    uint64_t one = 1;

    if (!acceptor)
        return;
    if (write(acceptor->stop_fd, &one, sizeof one) < 0)
        log_debug("eventfd: %s", strerror(errno));
    pthread_join(acceptor->thread, NULL);
    acceptor_destroy(acceptor);
}
