// The same facts as the page, for programs. Numbers are numbers, their units are in the names, and an unknown value is
// null.
#include <errno.h>
#include <inttypes.h>

#include "imcallbackd/status/page.h"
#include "units.h"
#include "writer.h"

static void write_string(struct writer *writer, const char *name, const char *text)
{
    write_markup(writer, "\"%s\":", name);
    if (text)
        write_json(writer, text);
    else
        write_markup(writer, "null");
    write_markup(writer, ",");
}

static void write_number(struct writer *writer, const char *name, int64_t number)
{
    write_markup(writer, "\"%s\":%" PRId64 ",", name, number);
}

static void write_number_or_null(struct writer *writer, const char *name, int64_t number, bool is_known)
{
    if (is_known)
        write_number(writer, name, number);
    else
        write_markup(writer, "\"%s\":null,", name);
}

static void write_boolean(struct writer *writer, const char *name, bool value)
{
    write_markup(writer, "\"%s\":%s,", name, value ? "true" : "false");
}

// Writes null for 0, which stands for no time, and for a time that has no date.
static void write_time(struct writer *writer, const char *name, int64_t unix_ms)
{
    char text[UNITS_BYTES];

    units_print_iso_time(unix_ms, text);
    write_string(writer, name, unix_ms == 0 || text[0] == '?' ? NULL : text);
}

// Ends an object or a list whose last element has written a comma.
static void write_end(struct writer *writer, const char *end)
{
    if (writer->failed)
        return;
    if (writer->text->data[writer->text->length - 1] == ',')
        writer->text->data[--writer->text->length] = '\0';
    write_markup(writer, "%s,", end);
}

static void write_state(struct writer *writer, const struct status *status)
{
    struct status_judgement judgement;

    status_judge(status, &judgement);
    write_markup(writer, "\"state\":{");
    write_string(writer, "level", status_level_name(judgement.level));
    write_string(writer, "sentence", judgement.sentence);
    write_string(writer, "remedy", judgement.remedy[0] ? judgement.remedy : NULL);
    write_boolean(writer, "ready", status->ready);
    write_string(writer, "why_not_ready", status->ready ? NULL : status->why_not_ready);
    write_end(writer, "}");
}

static void write_endpoint(struct writer *writer, const struct status_endpoint *endpoint)
{
    char url[STATUS_URL_BYTES];

    status_print_url(endpoint, url);
    write_markup(writer, "\"endpoint\":{");
    write_string(writer, "url", url);
    write_string(writer, "host", endpoint->host);
    write_number_or_null(writer, "port", endpoint->port, endpoint->port > 0);
    write_string(writer, "path", endpoint->path);
    write_boolean(writer, "has_trusted_proxies", endpoint->has_trusted_proxies);
    write_boolean(writer, "has_allow_from", endpoint->has_allow_from);
    write_boolean(writer, "has_client_ca", endpoint->has_client_ca);
    write_markup(writer, "\"apps\":[");
    for (size_t i = 0; i < endpoint->app_count; i++) {
        write_markup(writer, "{");
        write_number(writer, "sdk_appid", endpoint->apps[i].sdk_appid);
        write_number(writer, "token_count", (int64_t)endpoint->apps[i].token_count);
        write_number(writer, "request_time_window_seconds", endpoint->apps[i].request_time_window_s);
        write_end(writer, "}");
    }
    write_end(writer, "]");
    write_end(writer, "}");
}

static void write_totals(struct writer *writer, const struct status *status)
{
    const struct status_totals *totals = &status->totals;

    write_markup(writer, "\"callbacks_since_start\":{");
    write_number(writer, "recorded", totals->recorded);
    write_number(writer, "repeated", totals->repeated);
    write_number(writer, "conflict", totals->conflicts);
    write_number(writer, "set_aside", totals->set_aside);
    write_number(writer, "acknowledged", totals->acknowledged);
    write_number(writer, "url_check", totals->url_checks);
    write_number(writer, "refused", totals->refused);
    write_number(writer, "failed", totals->failed);
    write_time(writer, "last_recorded_at", status->recorded_ms);
    write_time(writer, "last_accepted_at", status->refusals.accepted_ms);
    write_end(writer, "}");
}

static void write_bars(struct writer *writer, const struct status *status, const char *name,
                       const struct history_bar *bars, size_t count)
{
    write_markup(writer, "\"%s\":[", name);
    for (size_t i = 0; i < count; i++) {
        write_markup(writer, "{");
        write_time(writer, "start", status_bar_time_ms(status, &bars[i]));
        write_number_or_null(writer, "recorded", bars[i].values[HISTORY_RECORDED], bars[i].measured);
        write_number_or_null(writer, "repeated", bars[i].values[HISTORY_REPEATED], bars[i].measured);
        write_number_or_null(writer, "rejected", bars[i].values[HISTORY_REJECTED], bars[i].measured);
        write_number_or_null(writer, "commits", bars[i].values[HISTORY_COMMITS], bars[i].measured);
        write_end(writer, "}");
    }
    write_end(writer, "]");
}

static void write_period(struct writer *writer, const char *name, const struct history_counts *sums,
                         const int64_t *bounds)
{
    static const struct {
        const char *name;
        unsigned int percent;
    } percentiles[] = {{"answer_p50_microseconds", 50}, {"answer_p99_microseconds", 99}};

    write_markup(writer, "\"%s\":{", name);
    write_number(writer, "recorded", sums->values[HISTORY_RECORDED]);
    write_number(writer, "repeated", sums->values[HISTORY_REPEATED]);
    write_number(writer, "rejected", sums->values[HISTORY_REJECTED]);
    write_number(writer, "commits", sums->values[HISTORY_COMMITS]);
    write_number(writer, "answers", status_answer_count(sums));
    for (size_t i = 0; i < sizeof percentiles / sizeof percentiles[0]; i++) {
        int64_t us = history_percentile(sums, bounds, percentiles[i].percent);

        write_number_or_null(writer, percentiles[i].name, us, us >= 0);
    }
    write_end(writer, "}");
}

static void write_rejected(struct writer *writer, const struct status_totals *totals)
{
    write_markup(writer, "\"rejected_since_start\":[");
    for (enum answer_code code = ANSWER_OK + 1; code < ANSWER_CODE_COUNT; code++) {
        if (totals->rejected[code] == 0)
            continue;
        write_markup(writer, "{");
        write_string(writer, "cause", answer_name(code));
        write_number(writer, "error_code", answer_error_code(code));
        write_number(writer, "http_status", (int64_t)answer_http_status(code));
        write_number(writer, "count", totals->rejected[code]);
        write_string(writer, "remedy", answer_sentence(code));
        write_end(writer, "}");
    }
    write_end(writer, "]");
}

static void write_refusals(struct writer *writer, const struct refusals_view *refusals)
{
    write_markup(writer, "\"last_refusals\":[");
    for (size_t i = 0; i < refusals->count; i++) {
        const struct refusal *refusal = &refusals->entries[i];

        write_markup(writer, "{");
        write_time(writer, "last_at", refusal->last_ms);
        write_time(writer, "first_at", refusal->first_ms);
        write_string(writer, "cause", answer_name(refusal->code));
        write_string(writer, "detail", refusal->detail[0] ? refusal->detail : NULL);
        write_string(writer, "address", refusal->address[0] ? refusal->address : NULL);
        write_number(writer, "count", (int64_t)refusal->count);
        write_end(writer, "}");
    }
    write_end(writer, "]");
}

static void write_machine(struct writer *writer, const struct status *status)
{
    write_markup(writer, "\"certificate\":{");
    write_string(writer, "dns_names", status->certificate.names);
    write_time(writer, "valid_from", status->certificate.valid_from_ms);
    write_time(writer, "expires_at", status->certificate.expires_ms);
    write_end(writer, "}");
    write_number_or_null(writer, "clock_skew_seconds", status->clock_skew_s, status->clock_skew_known);
    write_markup(writer, "\"store\":{");
    write_number_or_null(writer, "database_bytes", status->store.database_bytes, status->store.database_bytes >= 0);
    write_number_or_null(writer, "log_bytes", status->store.log_bytes, status->store.log_bytes >= 0);
    write_number_or_null(writer, "disk_free_bytes", status->store.free_bytes, status->store.free_bytes >= 0);
    write_number_or_null(writer, "disk_size_bytes", status->store.total_bytes, status->store.total_bytes >= 0);
    write_end(writer, "}");
    write_markup(writer, "\"connections\":{");
    write_number(writer, "open", status->totals.open_connections);
    write_number(writer, "limit", status->connection_limit);
    write_number(writer, "handshakes", status->totals.handshakes);
    write_number(writer, "failed_handshakes", status->totals.failed_handshakes);
    write_number(writer, "waiting_requests", status->totals.waiting_requests);
    write_end(writer, "}");
    write_markup(writer, "\"libraries\":{");
    for (size_t i = 0; i < STATUS_MAX_LIBRARIES && status->libraries[i].name; i++)
        write_string(writer, status->libraries[i].name, status->libraries[i].version);
    write_end(writer, "}");
}

static void write_outbound(struct writer *writer, const struct status *status)
{
    write_markup(writer, "\"outbound\":{");
    for (size_t i = 0; i < STATUS_OUTBOUNDS; i++) {
        const struct status_outbound *outbound = &status->outbound[i];

        if (!outbound->name)
            continue;
        write_markup(writer, "\"%s\":{", outbound->name);
        write_boolean(writer, "has_reported", outbound->has_reported);
        if (outbound->has_reported) {
            write_number(writer, "waiting_events", outbound->waiting_events);
            write_time(writer, "last_progress_at", outbound->reported_ms);
        }
        write_end(writer, "}");
    }
    write_end(writer, "}");
}

static void write_value(struct writer *writer, const struct metric *metric, int64_t value)
{
    if (!writer->failed)
        writer->failed = metric_print_value(writer->text, metric, value) < 0;
    write_markup(writer, ",");
}

// A metric without a label is a number; with a label, an object; a histogram has its count and its sum.
static void write_metric(struct writer *writer, const struct metric *metric)
{
    int64_t count = 0;

    write_markup(writer, "\"%s\":", metric->name);
    if (metric->type == METRIC_TYPE_HISTOGRAM) {
        for (size_t i = 0; i <= metric->count; i++)
            count += metric_value(metric, i);
        write_markup(writer, "{\"count\":%" PRId64 ",\"sum\":", count);
        write_value(writer, metric, metric_value(metric, metric->count + 1));
        write_end(writer, "}");
    } else if (metric->label) {
        write_markup(writer, "{");
        for (size_t i = 0; i < metric->count; i++) {
            if (!metric->label_texts[i])
                continue;
            write_markup(writer, "\"%s\":", metric->label_texts[i]);
            write_value(writer, metric, metric_value(metric, i));
        }
        write_end(writer, "}");
    } else {
        write_value(writer, metric, metric_value(metric, 0));
    }
}

int status_json_print(const struct status *status, struct buffer *text)
{
    struct writer writer = {.text = text};

    write_markup(&writer, "{");
    write_string(&writer, "version", status->version);
    write_time(&writer, "now", status->now_ms);
    write_time(&writer, "started_at", status->started_ms);
    write_state(&writer, status);
    write_endpoint(&writer, &status->endpoint);
    write_totals(&writer, status);
    write_period(&writer, "last_hour", &status->answers.hour, status->answers.bounds);
    write_period(&writer, "last_day", &status->answers.day, status->answers.bounds);
    write_rejected(&writer, &status->totals);
    write_refusals(&writer, &status->refusals);
    write_machine(&writer, status);
    write_outbound(&writer, status);
    write_bars(&writer, status, "minutes", status->hour, STATUS_HOUR_BARS);
    write_bars(&writer, status, "quarter_hours", status->day, STATUS_DAY_BARS);
    write_markup(&writer, "\"metrics\":{");
    for (size_t i = 0; i < status->metric_list_count; i++) {
        for (const struct metric *const *metric = status->metric_lists[i]; *metric; metric++)
            write_metric(&writer, *metric);
    }
    write_end(&writer, "}");
    write_end(&writer, "}");
    if (writer.failed)
        return -ENOMEM;
    text->data[text->length - 1] = '\n'; // instead of the comma after the whole
    return 0;
}
