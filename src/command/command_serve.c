#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/http/listen.h"
#include "listeners.h"
#include "monitor.h"
#include "options.h"
#include "receiver.h"
#include "settings.h"

#include <systemd/sd-daemon.h>

// Of the 10 s in which SIGTERM ends the daemon; the rest is for a batch that waits for a lock, and the last checkpoint.
#define DRAIN_TIMEOUT_MS 3500
// Until when events that cannot be recorded any more may go into a log that is slow.
#define LOG_TIMEOUT_MS 6000
#define DAY_MS         ((int64_t)24 * 3600 * 1000)

struct service {
    const char *config_path;
    struct settings *settings;
    struct settings *started; // those of the start: what cannot change before the next one
    struct listeners listeners;
    struct receiver *receiver;
    struct store *store;
    struct http_server *server;
    struct monitor *monitor;
    int64_t watchdog_ms; // of the service manager; 0: there is none
    atomic_bool store_broken;
};

static void warn(const char *sentence)
{
    log_warning("%s", sentence);
}

static int start_settings(struct service *service, struct error *error)
{
    int r = settings_read(service->config_path, NULL, &service->settings, error);

    if (r < 0)
        return r;
    service->started = settings_ref(service->settings);
    config_configure_log(&service->settings->config);
    settings_warn(service->settings, clock_realtime_ms(), warn);
    return 0;
}

static void stop_settings(struct service *service)
{
    settings_unref(service->started);
    settings_unref(service->settings);
}

// Each connection takes a descriptor, so the soft limit is raised to the hard one.
static int start_limits(struct service *service, struct error *error)
{
    struct rlimit limit;

    (void)service;
    (void)error;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return 0;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warning("cannot raise the limit on open files: %s; the daemon keeps its soft limit", strerror(errno));
    return 0;
}

static int start_listeners(struct service *service, struct error *error)
{
    return listeners_open(&service->settings->config, &service->listeners, error);
}

static void stop_listeners(struct service *service)
{
    listeners_close(&service->listeners);
}

static int start_receiver(struct service *service, struct error *error)
{
    return receiver_create(service->settings, &service->receiver, error);
}

static void stop_receiver(struct service *service)
{
    receiver_destroy(service->receiver);
}

// On the store's thread, or in stop_store.
static void on_broken(void *context, const struct error *error)
{
    struct service *service = context;

    log_crit("%s; the daemon acknowledges no further event and stops", error->text);
    service->store_broken = true;
    (void)kill(getpid(), SIGTERM);
}

static void on_committed(void *context, struct commit *finished)
{
    receiver_on_committed(((struct service *)context)->receiver, finished);
}

// With somewhere to ship to, what was not shipped is not deleted, however old.
static int set_retention(struct service *service, const struct settings *settings, struct error *error)
{
    const struct config *config = &settings->config;
    const char *shipped_path = config->forward_url.text ? config->forward_shipped_file.text : NULL;

    if (store_set_shipped_file(service->store, shipped_path) < 0)
        return error_set(error, ENOMEM, "out of memory");
    store_set_retention(service->store, settings->retention_ms);
    return 0;
}

static int start_store(struct service *service, struct error *error)
{
    const struct store_callbacks callbacks = {.done = on_committed, .broken = on_broken, .context = service};
    const struct config_value *database = &service->settings->config.store_database;
    int r = store_open(database->text, &callbacks, &service->store, error);

    if (r < 0)
        config_wrap_error(&service->settings->config, database, error);
    return r < 0 ? r : set_retention(service, service->settings, error);
}

static void stop_store(struct service *service)
{
    store_close(service->store);
    if (service->store)
        receiver_log_totals(); // every answer is given now
}

static int create_server(struct service *service, struct error *error)
{
    const struct config *config = &service->settings->config;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const struct http_settings http = {
        .listen_fds = service->listeners.callback_fds,
        .listen_fd_count = service->listeners.callback_count,
        .listening_is_ours = !service->listeners.callback_fds_were_passed,
        .path = config->listen_path.text,
        .threads = config->listen_threads.number > 0 ? (unsigned int)config->listen_threads.number
                                                     : (unsigned int)(cores > 0 ? cores : 1),
    };

    return http_server_create(&http, &service->settings->limits, service->settings->credentials,
                              receiver_handler(service->receiver), &service->server, error);
}

static void destroy_server(struct service *service)
{
    http_server_destroy(service->server);
}

static int start_server(struct service *service, struct error *error)
{
    receiver_connect(service->receiver, service->store, service->server);
    return http_server_start(service->server, error);
}

static void stop_server(struct service *service)
{
    http_server_stop(service->server);
}

static int start_monitor(struct service *service, struct error *error)
{
    if (service->listeners.admin_fd < 0)
        return 0;
    return monitor_start(service->listeners.admin_fd, service->store, service->settings, &service->monitor, error);
}

static void stop_monitor(struct service *service)
{
    monitor_stop(service->monitor);
}

// What starts, in this order; it is taken down in the mirrored one. A stop also takes what was started by half. The
// server is there before the store and after it, because the store's thread hands requests back to it.
static const struct stage {
    int (*start)(struct service *service, struct error *error);
    void (*stop)(struct service *service);
} stages[] = {
    {start_settings, stop_settings},   {start_limits, NULL},
    {start_listeners, stop_listeners}, {start_receiver, stop_receiver},
    {create_server, destroy_server},   {start_store, stop_store},
    {start_server, stop_server},       {start_monitor, stop_monitor},
};

static void stop_stages(struct service *service, size_t count)
{
    while (count-- > 0) {
        if (stages[count].stop)
            stages[count].stop(service);
    }
}

// Everything is prepared before anything is changed, so that a configuration with a fault leaves all as it was.
static void reload(struct service *service)
{
    struct settings *next = NULL, *old = service->settings;
    struct error error;
    int r;

    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_monotonic_us());
    r = settings_read(service->config_path, old, &next, &error);
    if (r == 0)
        r = http_server_reconfigure(service->server, &next->limits, next->credentials, &error);
    if (r == 0)
        r = set_retention(service, next, &error);
    if (r < 0) {
        log_error("reload failed, the running configuration stays in effect: %s", error.text);
        settings_unref(next);
    } else {
        receiver_set_settings(service->receiver, next);
        monitor_set_settings(service->monitor, next);
        config_configure_log(&next->config);
        config_report_unapplied(&service->started->config, &next->config, warn);
        settings_warn(next, clock_realtime_ms(), warn);
        service->settings = next;
        settings_unref(old);
        log_info("configuration reloaded");
    }
    (void)sd_notify(0, "READY=1");
}

// The service manager's watchdog is fed while events get on disk, however slowly. A writer that hangs in the disk
// starves it, and what follows is a restart with a core that shows where.
static void feed_watchdog(const struct service *service)
{
    int64_t busy_since_ms = store_busy_since_ms(service->store);
    int64_t busy_ms = busy_since_ms > 0 ? clock_monotonic_ms() - busy_since_ms : 0;

    if (busy_ms <= service->watchdog_ms)
        (void)sd_notify(0, "WATCHDOG=1");
    else
        log_crit("the writer has been waiting for the disk for %" PRId64 " s; the watchdog is not notified",
                 busy_ms / 1000);
}

// Twice in the watchdog's time it is fed, and once a day it is time to look at the certificate again.
static void wait_for_stop(struct service *service, const sigset_t *signals)
{
    int64_t pause_ms = service->watchdog_ms > 0 ? service->watchdog_ms / 2 : DAY_MS;
    int64_t warn_at_ms = clock_monotonic_ms() + DAY_MS;

    for (;;) {
        const struct timespec pause = clock_timespec(pause_ms);
        int number = sigtimedwait(signals, NULL, &pause);

        if (number == SIGHUP) {
            reload(service);
        } else if (number > 0) {
            log_set_deadline(clock_monotonic_ms() + LOG_TIMEOUT_MS);
            log_info("stopping: received SIG%s", sigabbrev_np(number));
            return;
        }
        if (service->watchdog_ms > 0)
            feed_watchdog(service);
        if (clock_monotonic_ms() >= warn_at_ms) {
            settings_warn(service->settings, clock_realtime_ms(), warn);
            warn_at_ms += DAY_MS;
        }
    }
}

static void log_listening(const struct service *service)
{
    for (size_t i = 0; i < service->listeners.callback_count; i++) {
        char name[LISTEN_NAME_BYTES];

        listen_name(service->listeners.callback_fds[i], name);
        log_info("listening on https://%s%s", name, service->settings->config.listen_path.text);
    }
    if (service->listeners.admin_fd >= 0) {
        char name[LISTEN_NAME_BYTES];

        listen_name(service->listeners.admin_fd, name);
        log_info("monitoring in plain HTTP on %s: /metrics, /readyz, /healthz", name);
    }
}

static void run(struct service *service, const sigset_t *signals)
{
    unsigned int cut_off;
    uint64_t watchdog_us;

    log_listening(service);
    if (sd_watchdog_enabled(0, &watchdog_us) > 0)
        service->watchdog_ms = (int64_t)(watchdog_us / 1000);
    (void)sd_notify(0, "READY=1");
    wait_for_stop(service, signals);
    (void)sd_notify(0, "STOPPING=1");
    monitor_set_stopping(service->monitor);
    cut_off = http_server_drain(service->server, DRAIN_TIMEOUT_MS);
    if (cut_off > 0)
        log_warning("%u connections are still open after %d ms; the daemon closes them", cut_off, DRAIN_TIMEOUT_MS);
    store_stop_retrying(service->store);
}

int command_serve(int argc, char **argv)
{
    struct service service = {0};
    struct option_spec specs[] = {{"--config", "-c", &service.config_path, 1, 0}};
    size_t started = 0;
    struct error error;
    sigset_t signals;
    int r = 0;

    if (options_read(argc, argv, specs, 1) < 0)
        return EXIT_USAGE;
    if (!service.config_path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    // Before the first thread, so that every thread leaves them to wait_for_stop.
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);

    while (started < sizeof stages / sizeof stages[0] && r == 0)
        r = stages[started++].start(&service, &error);
    if (r == 0)
        run(&service, &signals);
    else
        log_error("%s", error.text);
    stop_stages(&service, started);
    return r < 0 || service.store_broken ? 1 : 0;
}
