// `serve` starts the parts of the daemon in order, waits for signals, and stops the parts in the reverse order. The
// code of this file runs on the main thread, except that the writer thread of the store calls on_committed and
// on_broken.
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "delivery_settings.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/http/listen.h"
#include "listeners.h"
#include "monitor.h"
#include "options.h"
#include "receiver.h"
#include "service_manager.h"
#include "settings.h"

// The daemon exits within 10 s of SIGTERM unless the disk hangs. The time after the drain is for a batch that waits for
// a lock, and for the last checkpoint.
#define DRAIN_TIMEOUT_MS 3500
// For this time after SIGTERM or SIGINT, lines still wait for a slow log, because they may hold events that could not
// be recorded.
#define LOG_TIMEOUT_MS 6000
#define DAY_MS         ((int64_t)24 * 3600 * 1000)

struct service {
    const char *config_path;
    struct settings *settings;
    struct settings *started; // the settings at the start; keys that need a restart keep these values
    struct listeners listeners;
    struct receiver *receiver;
    struct store *store;
    struct http_server *server;
    bool server_started; // http_server_start was called, even if it failed
    struct monitor *monitor;
    int64_t watchdog_ms; // timeout of the service manager's watchdog; 0: no watchdog
    atomic_bool store_broken;
    pthread_t main_thread;
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

// Raises the soft limit on open files to the hard limit, because each connection uses a descriptor.
static void raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warning("cannot raise the limit on open files: %s; the daemon keeps its soft limit", strerror(errno));
}

// The store calls this function once, on its writer thread or in store_close.
static void on_broken(void *context, const struct error *error)
{
    struct service *service = context;

    assert(!service->store_broken);
    log_crit("%s; the daemon acknowledges no further event and stops", error->text);
    service->store_broken = true;
    (void)kill(getpid(), SIGTERM);
}

static void on_committed(void *context, struct commit *finished)
{
    receiver_on_committed(((struct service *)context)->receiver, finished);
}

// If [forward] or [deliver] is configured, the store keeps a row, however old, until the note of each configured
// service reports the row as shipped.
static int set_retention(struct service *service, const struct settings *settings, struct error *error)
{
    const struct config *config = &settings->config;
    char *delivered = config->deliver_url.text ? delivery_shipped_file(config) : NULL;
    int r = -ENOMEM;

    if (delivered || !config->deliver_url.text)
        r = store_set_shipped_files(
            service->store,
            (const char *const[]){config->forward_url.text ? config->forward_shipped_file.text : NULL, delivered});
    free(delivered);
    if (r < 0)
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
        return config_wrap_result(&service->settings->config, database, r, error);
    return set_retention(service, service->settings, error);
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

static int start_server(struct service *service, struct error *error)
{
    service->server_started = true;
    receiver_connect(service->receiver, service->store, service->server);
    return http_server_start(service->server, error);
}

static int start_monitor(struct service *service, struct error *error)
{
    const struct monitor_parts parts = {
        .store = service->store,
        .receiver = service->receiver,
        .settings = service->settings,
        .port = listen_port(service->listeners.callback_fds[0]),
    };

    return monitor_start(service->listeners.admin_fd, &parts, &service->monitor, error);
}

// Starts the parts of the daemon in order. The caller must call stop, even after an error.
//
// The server and the store depend on each other. The event loops submit commits to the store, so they must run only
// while the store is open. The writer thread completes requests of the server, so the server must exist before the
// store is opened and until the store is closed. The server is therefore created and started separately.
static int start(struct service *service, struct error *error)
{
    int r = start_settings(service, error); // all other parts read the settings

    if (r == 0) {
        raise_file_limit();
        // The listeners are opened before the store, because a daemon whose address is in use must not touch the
        // database.
        r = listeners_open(&service->settings->config, &service->listeners, error);
    }
    if (r == 0) // the threads of the server and of the store call the receiver
        r = receiver_create(service->settings, &service->receiver, error);
    if (r == 0) // creates no thread; start_server does
        r = create_server(service, error);
    if (r == 0) // the store is open before the first request is accepted
        r = start_store(service, error);
    if (r == 0) // requests are accepted from here on
        r = start_server(service, error);
    if (r == 0 && service->listeners.admin_fd >= 0) // last, because the monitor reports whether events can be recorded
        r = start_monitor(service, error);
    return r;
}

// Stops the parts that were started, in the reverse order.
static void stop(struct service *service)
{
    monitor_stop(service->monitor);
    if (service->server_started)
        http_server_stop(service->server);
    store_close(service->store);
    if (service->store)
        receiver_log_totals(); // no commit is pending any more, so the totals are final
    http_server_destroy(service->server);
    receiver_destroy(service->receiver);
    listeners_close(&service->listeners);
    settings_unref(service->started);
    settings_unref(service->settings);
}

// Reads and checks all new settings before it applies any of them, so that a faulty configuration has no effect. If
// memory is exhausted, however, the reload can fail after the server has applied the new limits and credentials.
static void reload(struct service *service)
{
    struct settings *next = NULL, *old = service->settings;
    struct error error;
    int r;

    assert(pthread_equal(pthread_self(), service->main_thread) && old && service->server && service->store);
    service_manager_notify_reload();
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
    service_manager_notify("READY=1");
}

// Notifies the service manager's watchdog unless the current step of the writer thread has taken longer than the
// watchdog's timeout. If the writer hangs in a disk operation, the notifications thus stop, and the service manager
// kills the daemon.
static void notify_watchdog(const struct service *service)
{
    int64_t busy_since_ms = store_busy_since_ms(service->store);
    int64_t busy_ms = busy_since_ms > 0 ? clock_monotonic_ms() - busy_since_ms : 0;

    if (busy_ms <= service->watchdog_ms)
        service_manager_notify("WATCHDOG=1");
    else
        log_crit("the writer has been waiting for the disk for %" PRId64 " s; the watchdog is not notified",
                 busy_ms / 1000);
}

// Handles SIGHUP, and returns on SIGTERM or SIGINT. Calls notify_watchdog whenever half of the watchdog's timeout has
// passed, samples the history of the status page each minute, and repeats the warnings of settings_warn about once a
// day.
static void wait_for_stop(struct service *service, const sigset_t *signals)
{
    int64_t pause_ms = service->watchdog_ms > 0 ? service->watchdog_ms / 2 : DAY_MS;
    int64_t warn_at_ms = clock_monotonic_ms() + DAY_MS;

    for (;;) {
        const struct timespec pause = clock_timespec(clock_min_timeout_ms(pause_ms, monitor_sample(service->monitor)));
        int number = sigtimedwait(signals, NULL, &pause);

        if (number == SIGHUP) {
            reload(service);
        } else if (number > 0) {
            log_set_deadline(clock_monotonic_ms() + LOG_TIMEOUT_MS);
            log_info("stopping: received SIG%s", sigabbrev_np(number));
            return;
        }
        if (service->watchdog_ms > 0)
            notify_watchdog(service);
        if (clock_monotonic_ms() >= warn_at_ms) {
            settings_warn(service->settings, clock_realtime_ms(), warn);
            warn_at_ms += DAY_MS;
        }
    }
}

static void log_listening(const struct service *service)
{
    char name[LISTEN_NAME_BYTES];

    for (size_t i = 0; i < service->listeners.callback_count; i++) {
        listen_name(service->listeners.callback_fds[i], name);
        log_info("listening on https://%s%s", name, service->settings->config.listen_path.text);
    }
    if (service->listeners.admin_fd >= 0) {
        listen_name(service->listeners.admin_fd, name);
        log_info("monitoring in plain HTTP on %s: /, /status.json, /metrics, /readyz, /healthz", name);
    }
}

static void run(struct service *service, const sigset_t *signals)
{
    unsigned int open_connections;

    log_listening(service);
    service->watchdog_ms = service_manager_watchdog_ms();
    service_manager_notify("READY=1");
    wait_for_stop(service, signals);
    service_manager_notify("STOPPING=1");
    monitor_set_stopping(service->monitor);
    open_connections = http_server_drain(service->server, DRAIN_TIMEOUT_MS);
    if (open_connections > 0)
        log_warning("%u connections are still open after %d ms; the daemon closes them", open_connections,
                    DRAIN_TIMEOUT_MS);
    store_stop_retrying(service->store);
}

int command_serve(int argc, char **argv)
{
    struct service service = {.main_thread = pthread_self(), .listeners = {.admin_fd = -1}};
    struct option_spec specs[] = {{"--config", "-c", &service.config_path, 1, 0}};
    struct error error;
    sigset_t signals;
    int r;

    if (options_read(argc, argv, specs, 1) < 0)
        return EXIT_USAGE;
    if (!service.config_path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    // Block the signals before the first thread starts, so that all threads inherit the mask and wait_for_stop gets the
    // signals.
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);

    r = start(&service, &error);
    if (r == 0)
        run(&service, &signals);
    else
        log_error("%s", error.text);
    stop(&service);
    return r < 0 || service.store_broken ? 1 : 0;
}
