// Serves the pages of the admin listener, and measures the metrics of the machine and of the process. The admin
// listener's thread measures the disk for each request for any page but /healthz, and the process for each request for
// a page that shows metrics. The other modules count their metrics where the events happen.
#include "monitor.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/http/admin.h"
#include "imcallbackd/http/credentials.h"
#include "imcallbackd/http/server.h"
#include "imcallbackd/status/page.h"
#include "receiver.h"
#include "status_facts.h"

// If less than this is free on the file system of the database, the daemon reports that it is not ready, because the
// next callback may not fit.
#define LEAST_FREE_BYTES (INT64_C(64) << 10)

struct monitor {
    struct http_admin *admin;
    struct store *store;
    struct settings *started; // for the paths that only a restart changes
    atomic_bool stopping;
    struct status_sources sources;
    struct status status; // only the thread of the admin listener uses this
    pthread_mutex_t lock; // guards the next field
    struct settings *settings;
};

enum { FILE_DATABASE, FILE_LOG }; // the values of the label `file`

static const struct metric build_info = {METRIC_GAUGES("imcallbackd_build_info",
                                                       "Always 1; the label holds the version that is running.",
                                                       "version", IMCALLBACKD_VERSION)};
static const struct metric ready = {
    METRIC_GAUGE("imcallbackd_ready", "1 while events can be recorded and /readyz answers 200, otherwise 0.")};
static const struct metric certificate_expiry = {
    METRIC_GAUGE("imcallbackd_certificate_expiry_timestamp_seconds",
                 "When the server's certificate expires, in seconds since 1970."),
    .decimals = 3};
static const struct metric store_bytes = {METRIC_GAUGES(
    "imcallbackd_store_bytes", "Size of the database and of its write-ahead log.", "file", "database", "log")};
static const struct metric store_disk_free = {METRIC_GAUGE(
    "imcallbackd_store_disk_free_bytes", "Free bytes that the daemon can use on the file system of the database.")};
static const struct metric store_disk_size = {METRIC_GAUGE(
    "imcallbackd_store_disk_size_bytes", "Bytes that the daemon could use on this file system if it were empty.")};
static const struct metric process_start_time = {
    METRIC_GAUGE("process_start_time_seconds", "When the daemon started, in seconds since 1970."), .decimals = 3};
static const struct metric process_cpu = {
    METRIC_COUNTER("process_cpu_seconds_total", "Processor time used by the daemon."), .decimals = 6};
static const struct metric process_memory = {
    METRIC_GAUGE("process_resident_memory_bytes", "Resident memory of the daemon.")};
static const struct metric process_files = {
    METRIC_GAUGE("process_open_fds", "Open file descriptors; each connection uses one.")};

static const struct metric *const monitor_metrics[] = {
    &build_info,
    &ready,
    &certificate_expiry,
    &store_bytes,
    &store_disk_free,
    &store_disk_size,
    &process_start_time,
    &process_cpu,
    &process_memory,
    &process_files,
    NULL,
};

// The lists of all modules, in the order of the output.
static const struct metric *const *const metric_lists[] = {receiver_metrics, store_metrics, http_metrics,
                                                           monitor_metrics};
#define METRIC_LISTS (sizeof metric_lists / sizeof metric_lists[0])

// Returns the number of resident pages, or 0 if the number cannot be read from /proc.
static int64_t resident_pages(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    int64_t resident = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%*d %" SCNd64, &resident) != 1)
        resident = 0;
    (void)fclose(file);
    return resident;
}

static int64_t count_open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    const struct dirent *entry;
    int64_t count = 0;

    if (!directory)
        return 0;
    while ((entry = readdir(directory)))
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count - 1; // the descriptor of the directory itself does not count
}

static void measure_process(void)
{
    struct timespec used;

    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used) == 0)
        metric_set(&process_cpu, 0, (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000);
    metric_set(&process_memory, 0, resident_pages() * sysconf(_SC_PAGESIZE));
    metric_set(&process_files, 0, count_open_files());
}

// Measures the disk, updates its metrics and the metric `ready`, and returns whether the daemon can record events. If
// not, *ret_why holds the reason.
static bool measure_readiness(struct monitor *monitor, struct disk_usage *ret_usage, struct error *ret_why)
{
    const char *database = monitor->started->config.store_database.text;
    struct disk_usage usage = {-1, -1, -1, -1};
    int r = disk_usage_measure(database, &usage, ret_why);
    bool is_ready = false;

    if (r == 0) {
        metric_set(&store_bytes, FILE_DATABASE, usage.database_bytes);
        metric_set(&store_bytes, FILE_LOG, usage.log_bytes);
        metric_set(&store_disk_free, 0, usage.free_bytes);
        metric_set(&store_disk_size, 0, usage.total_bytes);
    }
    if (monitor->stopping)
        (void)error_set(ret_why, ESHUTDOWN, "stopping");
    else if (r == 0 && usage.free_bytes < LEAST_FREE_BYTES)
        (void)error_set(ret_why, ENOSPC, "%s: the disk is full: %" PRId64 " bytes are left; free disk space", database,
                        usage.free_bytes);
    else if (r == 0)
        is_ready = store_ready(monitor->store, ret_why);
    *ret_usage = usage;
    metric_set(&ready, 0, is_ready);
    return is_ready;
}

static unsigned int print_health(void *context, struct buffer *text)
{
    (void)context;
    return buffer_print(text, "alive\n") < 0 ? 0 : 200;
}

static unsigned int print_readiness(void *context, struct buffer *text)
{
    struct disk_usage usage;
    struct error why;

    if (measure_readiness(context, &usage, &why))
        return buffer_print(text, "ready\n") < 0 ? 0 : 200;
    return buffer_print(text, "not ready: %s\n", why.text) < 0 ? 0 : 503;
}

static unsigned int print_metrics(void *context, struct buffer *text)
{
    struct disk_usage usage;
    struct error why;
    int r = 0;

    (void)measure_readiness(context, &usage, &why);
    measure_process();
    for (size_t i = 0; i < METRIC_LISTS && r == 0; i++)
        r = metrics_print(metric_lists[i], text);
    return r < 0 ? 0 : 200;
}

static struct settings *current_settings(struct monitor *monitor)
{
    struct settings *settings;

    pthread_mutex_lock(&monitor->lock);
    settings = settings_ref(monitor->settings);
    pthread_mutex_unlock(&monitor->lock);
    return settings;
}

// Collects all facts and prints them with the given function.
static unsigned int print_status(struct monitor *monitor, int (*print)(const struct status *, struct buffer *),
                                 struct buffer *text)
{
    struct settings *settings = current_settings(monitor);
    struct status *status = &monitor->status;
    struct status_memory memory = {0};
    struct disk_usage usage;
    struct error why;
    bool is_ready = measure_readiness(monitor, &usage, &why);
    int r;

    measure_process();
    r = status_facts_collect(&monitor->sources, settings, &usage, &memory, status);
    status->ready = is_ready;
    status->why_not_ready = why.text;
    if (r == 0)
        r = print(status, text);
    status_memory_finish(&memory);
    settings_unref(settings);
    return r < 0 ? 0 : 200;
}

static unsigned int print_page(void *context, struct buffer *text)
{
    return print_status(context, page_print, text);
}

static unsigned int print_json(void *context, struct buffer *text)
{
    return print_status(context, status_json_print, text);
}

static const struct http_admin_page pages[] = {
    {"/healthz", HTTP_PLAIN_TEXT, print_health, NULL},
    {"/readyz", HTTP_PLAIN_TEXT, print_readiness, NULL},
    {"/metrics", METRICS_CONTENT_TYPE, print_metrics, NULL},
    {"/", PAGE_CONTENT_TYPE, print_page, page_security_policy},
    {"/status.json", STATUS_JSON_CONTENT_TYPE, print_json, NULL},
    {NULL, NULL, NULL, NULL},
};

static void set_certificate_expiry(const struct settings *settings)
{
    metric_set(&certificate_expiry, 0, http_credentials_expires_ms(settings->credentials));
}

int monitor_start(int listen_fd, const struct monitor_parts *parts, struct monitor **ret_monitor, struct error *error)
{
    struct monitor *monitor = calloc(1, sizeof *monitor);
    const struct config *config = &parts->settings->config;
    int r;

    assert(listen_fd >= 0 && parts->store && parts->receiver);
    if (!monitor)
        return error_set(error, ENOMEM, "out of memory");
    monitor->store = parts->store;
    monitor->started = settings_ref(parts->settings);
    monitor->settings = settings_ref(parts->settings);
    pthread_mutex_init(&monitor->lock, NULL);
    monitor->sources = (struct status_sources){.store = parts->store,
                                               .receiver = parts->receiver,
                                               .port = parts->port,
                                               .path = config->listen_path.text,
                                               .database = config->store_database.text,
                                               .metric_lists = metric_lists,
                                               .metric_list_count = METRIC_LISTS};
    status_sources_init(&monitor->sources);
    metric_set(&build_info, 0, 1);
    metric_set(&process_start_time, 0, monitor->sources.started_ms);
    set_certificate_expiry(parts->settings);
    r = http_admin_start(listen_fd, pages, monitor, config->admin_host.text, &monitor->admin, error);
    if (r < 0)
        monitor_stop(monitor);
    else
        *ret_monitor = monitor;
    return r;
}

int64_t monitor_sample(struct monitor *monitor)
{
    return monitor ? status_sources_sample(&monitor->sources) : -1;
}

void monitor_set_settings(struct monitor *monitor, struct settings *settings)
{
    struct settings *old;

    if (!monitor)
        return;
    pthread_mutex_lock(&monitor->lock);
    old = monitor->settings;
    monitor->settings = settings_ref(settings);
    pthread_mutex_unlock(&monitor->lock);
    settings_unref(old);
    set_certificate_expiry(settings);
    http_admin_set_hosts(monitor->admin, settings->config.admin_host.text);
}

void monitor_set_stopping(struct monitor *monitor)
{
    if (monitor)
        monitor->stopping = true;
}

void monitor_stop(struct monitor *monitor)
{
    if (!monitor)
        return;
    http_admin_stop(monitor->admin);
    status_sources_finish(&monitor->sources);
    pthread_mutex_destroy(&monitor->lock);
    settings_unref(monitor->settings);
    settings_unref(monitor->started);
    free(monitor);
}
