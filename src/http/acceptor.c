#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/http/credentials.h"
#include "private.h"

#define ACCEPTS_PER_WAKE  64  // then the loops are woken, so that the first of a crowd need not wait for the last
#define SHORTAGE_PAUSE_MS 100 // out of descriptors or memory: let some connections end first

struct http_acceptor {
    struct http_server *server;
    struct pollfd *sockets; // the listening ones; the last is stop_fd
    nfds_t socket_count;
    int stop_fd;
    struct log_rate_limit shortages;
    pthread_t thread;
};

unsigned int http_with_spare(unsigned int limit)
{
    return limit + limit / 16 + 16;
}

// The loop that has the least to do; at a limit, the one that has the most connections which proved nothing, since a
// loop sheds among its own.
static struct http_loop *choose_loop(const struct http_server *server, enum http_limit limit_reached)
{
    struct http_loop *best = server->loops[0];

    for (unsigned int i = 1; i < server->settings.threads; i++) {
        struct http_loop *loop = server->loops[i];

        if (limit_reached != HTTP_LIMIT_NONE ? http_loop_unproven(loop) > http_loop_unproven(best)
                                             : http_loop_connections(loop) < http_loop_connections(best))
            best = loop;
    }
    return best;
}

// Counts the connection in and gives it an identity; HTTP_REFUSE_NONE, or why it is not taken.
static enum http_refusal admit(struct http_server *server, struct http_connection *connection)
{
    struct address caller = address_client_network(&connection->address);
    const struct http_limits *limits = &server->limits;
    bool allowed;
    unsigned int all = server->connections + 1, of_caller = 0;

    pthread_mutex_lock(&server->lock);
    allowed = limits->allow_from_count == 0;
    for (size_t i = 0; i < limits->allow_from_count && !allowed; i++)
        allowed = address_block_contains(&limits->allow_from[i], &connection->address);
    if (allowed && all <= http_with_spare(limits->connections))
        of_caller = peers_add(server->peers, &caller);
    if (of_caller > http_with_spare(limits->connections_per_address)) {
        peers_remove(server->peers, &caller);
        of_caller = 0;
    }
    if (of_caller > limits->connections_per_address)
        connection->limit_reached = HTTP_LIMIT_PER_ADDRESS;
    else if (all > limits->connections)
        connection->limit_reached = HTTP_LIMIT_CONNECTIONS;
    if (of_caller > 0) {
        connection->identity = http_credentials_ref(server->identity);
        server->connections++;
        metric_add(&http_connections_open, 0, 1);
    }
    pthread_mutex_unlock(&server->lock);
    if (!allowed)
        return HTTP_REFUSE_PEER;
    return of_caller > 0 ? HTTP_REFUSE_NONE : HTTP_REFUSE_TOO_MANY_CONNECTIONS;
}

// Accepts one connection and gives it to a loop. 0, or a negative errno value; -EAGAIN when nobody waits.
static int accept_one(struct http_server *server, int listen_fd)
{
    const int on = 1;
    struct http_connection *connection = calloc(1, sizeof *connection);
    enum http_refusal why;
    int code;

    if (!connection)
        return -ENOMEM;
    connection->server = server;
    connection->socket_address_length = sizeof connection->socket_address;
    connection->fd = accept4(listen_fd, (struct sockaddr *)&connection->socket_address,
                             &connection->socket_address_length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection->fd < 0) {
        code = errno;
        free(connection);
        return -code;
    }
    if (address_from_socket(&connection->socket_address, &connection->address))
        address_print(&connection->address, connection->remote_address);
    why = connection->remote_address[0] ? admit(server, connection) : HTTP_REFUSE_PEER;
    if (why != HTTP_REFUSE_NONE) {
        for (unsigned int i = 0; i < server->settings.threads && why == HTTP_REFUSE_TOO_MANY_CONNECTIONS; i++)
            http_loop_tell_crowd(server->loops[i]);
        (void)server->handler.on_refusal(server->handler.context, why, connection->remote_address, "");
        close(connection->fd);
        free(connection);
        return 0;
    }
    (void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    http_loop_add(choose_loop(server, connection->limit_reached), connection);
    return 0;
}

static bool is_shortage(int code)
{
    return code == -EMFILE || code == -ENFILE || code == -ENOMEM || code == -ENOBUFS;
}

// True: there may be more.
static bool accept_crowd(struct http_acceptor *acceptor, int listen_fd)
{
    struct pollfd stop = {.fd = acceptor->stop_fd, .events = POLLIN};
    unsigned int left_out;
    int r = 0;

    // Other errors belong to the connection that was about to be accepted, such as ECONNABORTED.
    for (int i = 0; i < ACCEPTS_PER_WAKE && r != -EAGAIN && !is_shortage(r); i++)
        r = accept_one(acceptor->server, listen_fd);
    for (unsigned int i = 0; i < acceptor->server->settings.threads; i++)
        http_loop_wake(acceptor->server->loops[i]);
    if (is_shortage(r)) {
        if (log_rate_limit_allows(&acceptor->shortages, &left_out))
            log_error("cannot accept connections: %s (and %u more since the last such line); raise LimitNOFILE= of "
                      "the service or give it more memory",
                      strerror(-r), left_out);
        (void)poll(&stop, 1, SHORTAGE_PAUSE_MS);
    }
    return r != -EAGAIN && !is_shortage(r);
}

static void *acceptor_main(void *argument)
{
    struct http_acceptor *acceptor = argument;
    struct pollfd *stop = &acceptor->sockets[acceptor->socket_count - 1];

    while (!stop->revents) {
        if (poll(acceptor->sockets, acceptor->socket_count, -1) < 0)
            continue; // EINTR
        for (struct pollfd *socket = acceptor->sockets; socket < stop; socket++) {
            if (socket->revents)
                (void)accept_crowd(acceptor, socket->fd);
        }
    }
    // Their handshake is done as far as TCP goes, and they would be reset when the socket is closed.
    for (struct pollfd *socket = acceptor->sockets; socket < stop; socket++) {
        while (acceptor->server->settings.listening_is_ours && accept_crowd(acceptor, socket->fd)) {
        }
    }
    return NULL;
}

static void acceptor_free(struct http_acceptor *acceptor)
{
    if (acceptor->stop_fd >= 0)
        close(acceptor->stop_fd);
    free(acceptor->sockets);
    free(acceptor);
}

int http_acceptor_start(struct http_server *server, struct http_acceptor **ret_acceptor, struct error *error)
{
    struct http_acceptor *acceptor = calloc(1, sizeof *acceptor);
    size_t listening = server->settings.listen_fd_count;
    int r;

    if (!acceptor)
        return error_set(error, ENOMEM, "out of memory");
    acceptor->server = server;
    acceptor->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    acceptor->socket_count = listening + 1;
    acceptor->sockets = calloc(listening + 1, sizeof *acceptor->sockets);
    if (acceptor->stop_fd < 0 || !acceptor->sockets)
        goto failed;
    for (size_t i = 0; i < listening; i++)
        acceptor->sockets[i] = (struct pollfd){.fd = server->settings.listen_fds[i], .events = POLLIN};
    acceptor->sockets[listening] = (struct pollfd){.fd = acceptor->stop_fd, .events = POLLIN};
    if ((errno = pthread_create(&acceptor->thread, NULL, acceptor_main, acceptor)) != 0)
        goto failed;
    *ret_acceptor = acceptor;
    return 0;
failed:
    r = error_set(error, errno, "the acceptor thread cannot be started: %s", strerror(errno));
    acceptor_free(acceptor);
    return r;
}

void http_acceptor_stop(struct http_acceptor *acceptor)
{
    uint64_t one = 1;

    if (!acceptor)
        return;
    if (write(acceptor->stop_fd, &one, sizeof one) < 0)
        log_debug("eventfd: %s", strerror(errno));
    pthread_join(acceptor->thread, NULL);
    acceptor_free(acceptor);
}
