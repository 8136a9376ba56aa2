// Creates, starts and stops the parts of the server. shared.h has the state that the parts share.
#include "imcallbackd/http/server.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "acceptor.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/http/credentials.h"
#include "mhd.h"

// How long an idle connection stays open in a drain. A client that sends a request within this time gets a response
// with Connection: close. A client that is disconnected without this announcement may lose an event.
#define DRAIN_GRACE_MS 1000

#define OTHER_FILES 64 // descriptors for everything except connections and loops

struct http_server {
    struct http_settings settings; // its path is not used; shared.path is the copy
    struct http_shared shared;
    struct http_loop **loops; // array of settings.threads loops; NULL: not started
    struct http_acceptor *acceptor;
};

const struct metric *const http_metrics[] = {&http_connections_open, &http_requests_waiting, &http_handshakes,
                                             &http_answer_seconds, NULL};

// Each connection takes a descriptor. With a limit that the descriptors cannot reach, the server would refuse
// connections instead of evicting the right ones.
static unsigned int fit_connections(unsigned int wanted, unsigned int threads)
{
    rlim_t others = OTHER_FILES + (rlim_t)threads * HTTP_LOOP_FILES;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= http_hard_limit(wanted) + others)
        return wanted;
    while (wanted > 1 && files.rlim_cur < http_hard_limit(wanted) + others)
        wanted--;
    log_warning("[limits] connections: reduced to %u: the process may open only %llu files; raise LimitNOFILE= of the "
                "service",
                wanted, (unsigned long long)files.rlim_cur);
    return wanted;
}

static struct http_limits fit_limits(const struct http_limits *limits, unsigned int threads)
{
    struct http_limits fitting = *limits;

    fitting.connections = fit_connections(limits->connections, threads);
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
    mhd_adapter_set_panic_handler();
    server->settings = *settings;
    server->settings.path = NULL;
    server->loops = calloc(settings->threads, sizeof *server->loops); // NOLINT(bugprone-sizeof-expression): of pointers
    if (http_shared_init(&server->shared, settings->path, handler, &fitting, credentials) < 0 || !server->loops) {
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

    assert(!server->acceptor && !server->loops[0]);
    for (unsigned int i = 0; i < server->settings.threads && r == 0; i++)
        r = http_loop_start(&server->shared, &server->loops[i], error);
    if (r == 0)
        r = http_acceptor_start(&server->shared, &server->settings, server->loops, &server->acceptor, error);
    return r;
}

void http_request_complete(struct http_request *request, struct http_response *response)
{
    http_loop_complete(request, response);
}

void http_server_wake(struct http_server *server)
{
    for (unsigned int i = 0; i < server->settings.threads; i++)
        http_loop_wake_if_queued(server->loops[i]);
}

static void stop_acceptor(struct http_server *server)
{
    http_acceptor_stop(server->acceptor);
    server->acceptor = NULL;
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
    assert(!server->acceptor);
    for (unsigned int i = 0; server->loops && i < server->settings.threads; i++)
        http_loop_destroy(server->loops[i]);
    free(server->loops);
    http_shared_finish(&server->shared);
    free(server);
}
