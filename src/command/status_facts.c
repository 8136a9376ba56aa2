// Reads metrics, the settings in effect and two small files. The history runs on the boottime clock, plus an offset
// that makes its minutes start when a minute of the wall clock starts; a later step of the wall clock does not move it.
#include "status_facts.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "delivery_settings.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/http/admin.h"
#include "imcallbackd/http/credentials.h"
#include "imcallbackd/http/http_metrics.h"
#include "imcallbackd/store/shipped.h"
#include "receiver.h"

static struct history_time read_time(const struct status_sources *sources)
{
    int64_t awake_ms = clock_monotonic_ms(); // first, so that it cannot pass the other clock

    return (struct history_time){.now_ms = clock_boottime_ms() + sources->history_offset_ms, .awake_ms = awake_ms};
}

// The sum of an array of counters up to, and not including, `end`.
static int64_t sum(const struct metric *metric, size_t end)
{
    int64_t total = 0;

    for (size_t i = 0; i < end; i++)
        total += metric_value(metric, i);
    return total;
}

static void read_counts(struct history_counts *ret_totals)
{
    const struct metric *results = &receiver_results;

    assert(http_answer_seconds.count + 1 == HISTORY_BUCKETS);
    ret_totals->values[HISTORY_RECORDED] = metric_value(results, RESULT_RECORDED);
    ret_totals->values[HISTORY_REPEATED] = metric_value(results, RESULT_REPEATED);
    ret_totals->values[HISTORY_REJECTED] = metric_value(results, RESULT_CONFLICT) +
                                           metric_value(results, RESULT_SET_ASIDE) +
                                           metric_value(results, RESULT_REFUSED) + metric_value(results, RESULT_FAILED);
    ret_totals->values[HISTORY_COMMITS] = sum(&store_commit_seconds, store_commit_seconds.count + 1);
    for (size_t i = 0; i < HISTORY_BUCKETS; i++)
        ret_totals->values[HISTORY_ANSWERS + i] = metric_value(&http_answer_seconds, i);
}

void status_sources_init(struct status_sources *sources)
{
    struct history_time time;

    pthread_mutex_init(&sources->lock, NULL);
    sources->started_ms = clock_realtime_ms();
    sources->history_offset_ms = sources->started_ms - clock_boottime_ms();
    time = read_time(sources);
    history_init(&sources->history, &time);
}

void status_sources_finish(struct status_sources *sources)
{
    pthread_mutex_destroy(&sources->lock);
}

// Requires the lock. Reads counters and clocks only under the lock, because neither may go back from one sample to the
// next.
static int64_t sample(struct status_sources *sources)
{
    struct history_time time;
    struct history_counts totals;

    read_counts(&totals);
    time = read_time(sources);
    history_sample(&sources->history, &time, &totals);
    return history_until_next_minute_ms(time.now_ms);
}

int64_t status_sources_sample(struct status_sources *sources)
{
    int64_t pause_ms;

    pthread_mutex_lock(&sources->lock);
    pause_ms = sample(sources);
    pthread_mutex_unlock(&sources->lock);
    return pause_ms;
}

static int collect_endpoint(const struct status_sources *sources, const struct settings *settings,
                            struct status_memory *memory, struct status_endpoint *ret_endpoint)
{
    const char *names = http_credentials_dns_names(settings->credentials);
    const struct callback_rules *rules = &settings->rules;

    memory->apps = calloc(rules->app_count, sizeof *memory->apps);
    if (!memory->apps)
        return -ENOMEM;
    for (size_t i = 0; i < rules->app_count; i++)
        memory->apps[i] = (struct status_app){.sdk_appid = rules->apps[i].sdk_appid,
                                              .token_count = rules->apps[i].token_count,
                                              .request_time_window_s = rules->apps[i].request_time_window_s};
    (void)snprintf(memory->host, sizeof memory->host, "%.*s", (int)strcspn(names, ","), names);
    *ret_endpoint = (struct status_endpoint){
        .host = memory->host[0] ? memory->host : NULL,
        .port = sources->port,
        .path = sources->path,
        .has_trusted_proxies = settings->limits.trusted_proxy_count > 0,
        .has_allow_from = settings->limits.allow_from_count > 0,
        .has_client_ca = settings->config.tls_client_ca.text,
        .apps = memory->apps,
        .app_count = rules->app_count,
    };
    return 0;
}

static void collect_totals(struct status_totals *ret_totals)
{
    *ret_totals = (struct status_totals){
        .recorded = metric_value(&receiver_results, RESULT_RECORDED),
        .repeated = metric_value(&receiver_results, RESULT_REPEATED),
        .conflicts = metric_value(&receiver_results, RESULT_CONFLICT),
        .set_aside = metric_value(&receiver_results, RESULT_SET_ASIDE),
        .acknowledged = metric_value(&receiver_results, RESULT_ACKNOWLEDGED),
        .url_checks = metric_value(&receiver_results, RESULT_URL_CHECK),
        .refused = metric_value(&receiver_results, RESULT_REFUSED),
        .failed = metric_value(&receiver_results, RESULT_FAILED),
        .handshakes = metric_value(&http_handshakes, HTTP_HANDSHAKE_FULL) +
                      metric_value(&http_handshakes, HTTP_HANDSHAKE_RESUMED),
        .failed_handshakes = metric_value(&http_handshakes, HTTP_HANDSHAKE_FAILED),
        .open_connections = metric_value(&http_connections_open, 0),
        .waiting_requests = metric_value(&http_requests_waiting, 0),
        .commits = sum(&store_batch_callbacks, store_batch_callbacks.count + 1),
        .batch_callbacks = metric_value(&store_batch_callbacks, store_batch_callbacks.count + 1),
    };
    for (size_t i = 0; i < ANSWER_CODE_COUNT; i++)
        ret_totals->rejected[i] = metric_value(&receiver_rejected, i);
}

// The note for retention says what the service has sent, and the time of its last change when the service last got on.
static void collect_outbound(const struct status_sources *sources, const char *name, const char *note,
                             struct status_outbound *ret_outbound)
{
    struct shipped shipped;
    struct error no_note;
    struct stat file;
    int64_t waiting;

    *ret_outbound = (struct status_outbound){.name = name};
    if (!note || stat(note, &file) < 0 || shipped_read(note, sources->database, &shipped, &no_note) < 0)
        return;
    waiting = store_newest_event_id(sources->store) - shipped.group_id;
    ret_outbound->has_reported = true;
    ret_outbound->waiting_events = waiting > 0 ? waiting : 0;
    ret_outbound->reported_ms = (int64_t)file.st_mtim.tv_sec * 1000 + file.st_mtim.tv_nsec / 1000000;
}

static void collect_outbounds(const struct status_sources *sources, const struct config *config,
                              struct status_outbound outbound[STATUS_OUTBOUNDS])
{
    char *delivered;

    outbound[0] = outbound[1] = (struct status_outbound){0};
    if (config->forward_url.text)
        collect_outbound(sources, "forward", config->forward_shipped_file.text, &outbound[0]);
    if (config->deliver_url.text) {
        delivered = delivery_shipped_file(config);
        collect_outbound(sources, "deliver", delivered, &outbound[1]);
        free(delivered);
    }
}

static void collect_history(struct status_sources *sources, struct status *status)
{
    const struct history *history = &sources->history;

    pthread_mutex_lock(&sources->lock);
    (void)sample(sources);
    history_bars(history, 1, status->hour, STATUS_HOUR_BARS);
    history_bars(history, STATUS_MINUTES_PER_BAR_OF_DAY, status->day, STATUS_DAY_BARS);
    history_sum(history, STATUS_MINUTES_PER_HOUR, &status->answers.hour);
    history_sum(history, HISTORY_MINUTES, &status->answers.day);
    pthread_mutex_unlock(&sources->lock);
    status->answers.bounds = http_answer_seconds.bounds;
    status->history_offset_ms = status->now_ms - (clock_boottime_ms() + sources->history_offset_ms);
}

int status_facts_collect(struct status_sources *sources, const struct settings *settings,
                         const struct disk_usage *usage, struct status_memory *memory, struct status *ret_status)
{
    const struct http_credentials *credentials = settings->credentials;
    struct receiver_activity activity;

    *ret_status = (struct status){
        .now_ms = clock_realtime_ms(),
        .started_ms = sources->started_ms,
        .version = IMCALLBACKD_VERSION,
        .libraries = {{"libmicrohttpd", http_library_version()},
                      {"GnuTLS", http_tls_library_version()},
                      {"SQLite", store_library_version()}},
        .connection_limit = settings->limits.connections,
        .clock_skew_s = metric_value(&receiver_clock_skew, 0),
        .certificate = {http_credentials_dns_names(credentials), http_credentials_valid_from_ms(credentials),
                        http_credentials_expires_ms(credentials)},
        .store = {usage->database_bytes, usage->log_bytes, usage->free_bytes, usage->total_bytes},
        .metric_lists = sources->metric_lists,
        .metric_list_count = sources->metric_list_count,
    };
    receiver_copy_activity(sources->receiver, &activity);
    ret_status->newest_event_id = store_newest_event_id(sources->store);
    ret_status->recorded_ms = activity.recorded_ms;
    ret_status->clock_skew_known = activity.clock_skew_known;
    ret_status->clock_window_s = activity.clock_window_s;
    ret_status->refusals = activity.refusals;
    collect_totals(&ret_status->totals);
    collect_history(sources, ret_status);
    collect_outbounds(sources, &settings->config, ret_status->outbound);
    return collect_endpoint(sources, settings, memory, &ret_status->endpoint);
}

void status_memory_finish(struct status_memory *memory)
{
    free(memory->apps);
    memory->apps = NULL;
}
