#include "imcallbackd/http/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/http/credentials.h"
#include "private.h"

// How long an idle connection stays open in a drain. A caller that sends on it meanwhile is answered, with the word
// that the connection closes; one that is cut off without that word may lose an event.
#define DRAIN_GRACE_MS 1000

#define OTHER_FILES 64 // what may be open besides connections and loops

// MHD found itself in a state that it cannot go on from. It aborts; so do we, and the event that was not acknowledged
// was not acknowledged.
static void on_panic(void *context, const char *file, unsigned int line, const char *reason)
{
    (void)context;
    log_crit("libmicrohttpd panicked at %s:%u: %s", file, line, reason);
    abort();
}

// Each connection takes a descriptor, and a limit that cannot be reached would not shed the right one.
static unsigned int fit_connections(unsigned int wanted, unsigned int threads)
{
    rlim_t others = OTHER_FILES + (rlim_t)threads * HTTP_LOOP_FILES;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= http_with_spare(wanted) + others)
        return wanted;
    while (wanted > 1 && files.rlim_cur < http_with_spare(wanted) + others)
        wanted--;
    log_warning("[limits] connections: reduced to %u: the process may open only %llu files; raise LimitNOFILE= of the "
                "service",
                wanted, (unsigned long long)files.rlim_cur);
    return wanted;
}

static int set_limits(struct http_server *server, const struct http_limits *limits)
{
    unsigned int connections = fit_connections(limits->connections, server->settings.threads);
    size_t bytes = limits->allow_from_count * sizeof *limits->allow_from;
    struct address_block *copy = NULL, *old;

    if (bytes > 0) {
        copy = malloc(bytes);
        if (!copy)
            return -ENOMEM;
        memcpy(copy, limits->allow_from, bytes);
    }
    pthread_mutex_lock(&server->lock);
    old = server->allow_from;
    server->allow_from = copy;
    server->limits = *limits;
    server->limits.allow_from = copy;
    server->limits.connections = connections;
    pthread_mutex_unlock(&server->lock);
    free(old);
    return 0;
}

static void init_locks(struct http_server *server)
{
    pthread_condattr_t monotonic;

    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->all_gone, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int http_server_create(const struct http_settings *settings, const struct http_limits *limits,
                       struct http_credentials *identity, const struct http_handler *handler,
                       struct http_server **ret_server, struct error *error)
{
    struct http_server *server = calloc(1, sizeof *server);

    if (!server)
        return error_set(error, ENOMEM, "out of memory");
    MHD_set_panic_func(on_panic, NULL);
    server->settings = *settings;
    server->handler = *handler;
    server->identity = http_credentials_ref(identity);
    server->path = strdup(settings->path);
    server->settings.path = server->path;
    init_locks(server);
    server->peers = peers_create();
    server->loops = calloc(settings->threads, sizeof *server->loops); // NOLINT(bugprone-sizeof-expression): of pointers
    if (!server->path || !server->peers || !server->loops || set_limits(server, limits) < 0) {
        http_server_destroy(server);
        return error_set(error, ENOMEM, "out of memory");
    }
    *ret_server = server;
    return 0;
}

int http_server_reconfigure(struct http_server *server, const struct http_limits *limits,
                            struct http_credentials *identity, struct error *error)
{
    struct http_credentials *old;

    if (set_limits(server, limits) < 0)
        return error_set(error, ENOMEM, "out of memory");
    pthread_mutex_lock(&server->lock);
    old = server->identity;
    server->identity = http_credentials_ref(identity);
    pthread_mutex_unlock(&server->lock);
    http_credentials_unref(old);
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_reconfigure(server->loops[i]);
    return 0;
}

void http_connection_free(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    struct address caller = address_client_network(&connection->address);

    pthread_mutex_lock(&server->lock);
    peers_remove(server->peers, &caller);
    metric_add(&http_connections_open, 0, -1);
    if (--server->connections == 0)
        pthread_cond_signal(&server->all_gone);
    pthread_mutex_unlock(&server->lock);
    http_credentials_unref(connection->identity);
    free(connection);
}

int http_server_start(struct http_server *server, struct error *error)
{
    int r = 0;

    for (unsigned int i = 0; i < server->settings.threads && r == 0; i++)
        r = http_loop_start(server, &server->loops[i], error);
    if (r == 0)
        r = http_acceptor_start(server, &server->acceptor, error);
    return r;
}

void http_request_complete(struct http_request *request, struct http_response *answer)
{
    struct http_exchange *exchange = (struct http_exchange *)request;

    exchange->answer = answer;
    http_loop_complete(exchange->connection->loop, exchange);
}

void http_server_wake(struct http_server *server)
{
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_wake(server->loops[i]);
}

unsigned int http_server_drain(struct http_server *server, int timeout_ms)
{
    struct timespec give_up = clock_timespec(clock_monotonic_ms() + timeout_ms);

    http_acceptor_stop(server->acceptor);
    server->acceptor = NULL;
    for (size_t i = 0; i < server->settings.listen_fd_count && server->settings.listening_is_ours; i++)
        (void)shutdown(server->settings.listen_fds[i], SHUT_RD);
    server->drain_idle_at_ms = clock_monotonic_ms() + DRAIN_GRACE_MS;
    server->draining = true;
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_nudge(server->loops[i]);
    pthread_mutex_lock(&server->lock);
    while (server->connections > 0) {
        if (pthread_cond_timedwait(&server->all_gone, &server->lock, &give_up) == ETIMEDOUT)
            break;
    }
    pthread_mutex_unlock(&server->lock);
    return server->connections;
}

void http_server_stop(struct http_server *server)
{
    http_acceptor_stop(server->acceptor);
    server->acceptor = NULL;
    server->stopping = true;
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_stop(server->loops[i]);
}

void http_server_destroy(struct http_server *server)
{
    if (!server)
        return;
    for (unsigned int i = 0; server->loops && i < server->settings.threads; i++)
        http_loop_destroy(server->loops[i]);
    free(server->loops);
    free(server->path);
    http_credentials_unref(server->identity);
    peers_destroy(server->peers);
    free(server->allow_from);
    pthread_cond_destroy(&server->all_gone);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
