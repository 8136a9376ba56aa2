// The monitoring listener has its own thread, so that it answers even while the main thread waits for the destination
// or the endpoint.
#include "outbound_service.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/http/admin.h"
#include "imcallbackd/http/listen.h"
#include "service_manager.h"

static void (*stop_service)(void);
static int (*print_service_metrics)(struct buffer *text);

static unsigned int print_health(void *context, struct buffer *text)
{
    (void)context;
    return buffer_print(text, "alive\n") < 0 ? 0 : 200;
}

static unsigned int print_metrics(void *context, struct buffer *text)
{
    (void)context;
    return print_service_metrics(text) < 0 ? 0 : 200;
}

static const struct http_admin_page pages[] = {
    {"/healthz", HTTP_PLAIN_TEXT, print_health, NULL},
    {"/metrics", METRICS_CONTENT_TYPE, print_metrics, NULL},
    {NULL, NULL, NULL, NULL},
};

static void on_signal(int number)
{
    (void)number;
    stop_service();
}

void outbound_service_handle_signals(void (*stop)(void))
{
    struct sigaction action = {.sa_handler = on_signal};

    stop_service = stop;
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

static int start_admin(const struct config *config, const struct outbound_service *service, int *ret_fd,
                       struct http_admin **ret_admin, struct error *error)
{
    const struct config_value *port = service->admin_port;
    char name[LISTEN_NAME_BYTES];
    int r;

    assert(*ret_fd < 0 && !*ret_admin);
    if (port->number == 0)
        return 0;
    r = listen_open(config->admin_address.text, (unsigned int)port->number, ret_fd, error);
    if (r == -EADDRINUSE)
        error_wrap(error, "another `imcallbackd %s` may be running", service->command);
    if (r < 0)
        return config_wrap_result(config, port, r, error);
    listen_name(*ret_fd, name);
    log_info("monitoring in plain HTTP on %s: /metrics, /healthz", name);
    return http_admin_start(*ret_fd, pages, NULL, config->admin_host.text, ret_admin, error);
}

int outbound_service_run(const struct config *config, const struct outbound_service *service, struct error *error)
{
    struct http_admin *admin = NULL;
    int fd = -1, r;

    print_service_metrics = service->print_metrics;
    r = start_admin(config, service, &fd, &admin, error);
    if (r == 0) {
        service_manager_notify("READY=1");
        r = service->run(service->context, error);
        service_manager_notify("STOPPING=1");
        if (r == 0)
            log_info("stopped");
    }
    http_admin_stop(admin);
    if (fd >= 0)
        close(fd);
    return r;
}
