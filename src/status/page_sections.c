// Each section is a function, and each text from outside goes through write_html.
#include "page_sections.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "units.h"

static void write_number_cell(struct writer *writer, int64_t number)
{
    char text[UNITS_BYTES];

    units_print_count(number, text);
    write_markup(writer, "<td class=\"number\">%s</td>", text);
}

static void write_note(struct writer *writer, bool applies, const char *sentence)
{
    if (applies)
        write_markup(writer, "<p class=\"note\">%s</p>\n", sentence);
}

static void write_url(struct writer *writer, const struct status_endpoint *endpoint)
{
    bool is_local = endpoint->host && strcmp(endpoint->host, "localhost") == 0;
    bool only_proxy = is_local && endpoint->has_trusted_proxies; // the certificate is for the proxy alone
    char url[STATUS_URL_BYTES];

    status_print_url(endpoint, url);
    write_markup(writer, "<code class=\"url\">");
    write_html(writer, url);
    write_markup(writer, "</code>\n");
    write_note(writer, !only_proxy, "Enter this URL in the console of the service.");
    write_note(writer, only_proxy, "Only a proxy on this machine can reach this URL.");
    write_note(writer, !endpoint->host,
               "The certificate contains no host name. Replace HOST by the public name of this "
               "machine, and use a certificate that contains this name.");
    write_note(writer, endpoint->host && endpoint->host[0] == '*',
               "Replace the asterisk by the first part of this machine's public name.");
    write_note(writer, is_local && !only_proxy,
               "The service cannot reach localhost: use a certificate for the public name of this machine.");
    write_note(writer, endpoint->has_trusted_proxies,
               "[listen] trusted_proxies is set: if clients connect to a proxy, enter the name and port of the proxy.");
    write_note(writer, endpoint->has_allow_from, "Only the addresses of [callback] allow_from may call.");
    write_note(writer, endpoint->has_client_ca,
               "A client must present a certificate that the authority of [tls] client_ca has issued.");
}

void page_write_endpoint(struct writer *writer, const struct status *status)
{
    const struct status_endpoint *endpoint = &status->endpoint;

    write_markup(writer, "<section aria-labelledby=\"endpoint\">\n<h2 id=\"endpoint\">Callback URL</h2>\n"
                         "<div id=\"url\" data-live>\n");
    write_url(writer, endpoint);
    write_markup(writer, "<table aria-label=\"Apps that may call\">\n<thead><tr><th scope=\"col\">App "
                         "(SDKAppID)</th><th scope=\"col\">Signature</th>"
                         "<th scope=\"col\" class=\"number\">Time window</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < endpoint->app_count; i++) {
        const struct status_app *app = &endpoint->apps[i];

        write_markup(writer, "<tr><th scope=\"row\" class=\"mono\">%" PRId64 "</th><td>", app->sdk_appid);
        if (app->token_count == 0)
            write_markup(writer, "<span class=\"open\">no token: anyone may call</span></td><td class=\"number\">"
                                 "not checked</td></tr>\n");
        else
            write_markup(writer, "%s</td><td class=\"number\">%" PRId64 " s</td></tr>\n",
                         app->token_count == 1 ? "token set" : "two tokens set, both valid",
                         app->request_time_window_s);
    }
    write_markup(writer, "</tbody>\n</table>\n</div>\n</section>\n");
}

static void write_kept(struct writer *writer, const struct status_totals *totals)
{
    char count[UNITS_BYTES], sentence[256];

    units_print_count(totals->set_aside, count);
    (void)snprintf(sentence, sizeof sentence,
                   "Genuine callbacks that were not understood: %s. The table rejected_callback has their bodies.",
                   count);
    write_note(writer, totals->set_aside > 0, sentence);
    units_print_count(totals->conflicts, count);
    (void)snprintf(
        sentence, sizeof sentence,
        "Repeated callbacks with other content: %s. They were answered OK, and the table rejected_callback has "
        "their bodies.",
        count);
    write_note(writer, totals->conflicts > 0, sentence);
}

void page_write_rejected(struct writer *writer, const struct status *status)
{
    const int64_t *rejected = status->totals.rejected;
    int64_t total = 0;

    for (size_t i = 0; i < ANSWER_CODE_COUNT; i++)
        total += rejected[i];
    write_markup(writer, "<section aria-labelledby=\"rejected\">\n<h2 id=\"rejected\">Rejected since the start, by "
                         "cause</h2>\n<div id=\"causes\" data-live>\n");
    if (total == 0) {
        write_note(writer, true, "Nothing has been rejected since the start.");
    } else {
        write_markup(writer, "<table aria-labelledby=\"rejected\">\n<thead><tr><th scope=\"col\">Cause and remedy</th>"
                             "<th scope=\"col\" class=\"number\">Requests</th></tr></thead>\n<tbody>\n");
        for (enum answer_code code = ANSWER_OK + 1; code < ANSWER_CODE_COUNT; code++) {
            if (rejected[code] == 0)
                continue;
            write_markup(writer, "<tr><th scope=\"row\"><code>%s</code> <span class=\"detail\">", answer_name(code));
            write_html(writer, answer_sentence(code));
            write_markup(writer, "</span></th>");
            write_number_cell(writer, rejected[code]);
            write_markup(writer, "</tr>\n");
        }
        write_markup(writer, "</tbody>\n</table>\n");
    }
    write_kept(writer, &status->totals);
    write_markup(writer, "</div>\n</section>\n");
}

// Lets a long name break after each underscore, so that the table fits a narrow window.
static void write_cause(struct writer *writer, enum answer_code code)
{
    const char *name = answer_name(code);

    write_markup(writer, "<code>");
    for (size_t length; *name; name += length) {
        length = strcspn(name, "_");
        length += name[length] == '_';
        write_markup(writer, "%.*s%s", (int)length, name, name[length] ? "<wbr>" : "");
    }
    write_markup(writer, "</code>");
}

static void write_refusal(struct writer *writer, const struct refusal *refusal)
{
    char time[UNITS_BYTES], iso[UNITS_BYTES], count[UNITS_BYTES];

    units_print_time(refusal->last_ms, time);
    units_print_iso_time(refusal->last_ms, iso);
    units_print_count((int64_t)refusal->count, count);
    write_markup(writer, "<tr role=\"row\"><td role=\"cell\"><time datetime=\"%s\">%s</time></td><td role=\"cell\">",
                 iso, time);
    write_cause(writer, refusal->code);
    if (refusal->detail[0]) {
        write_markup(writer, " <span class=\"detail\">");
        write_html(writer, refusal->detail);
        write_markup(writer, "</span>");
    }
    write_markup(writer, "</td><td role=\"cell\" class=\"address mono\">");
    write_html(writer, refusal->address);
    write_markup(writer, "</td><td role=\"cell\" class=\"number\">%s</td></tr>\n", count);
}

// A narrow window shows each row as a block, and browsers then forget that the elements are a table. The roles say it.
void page_write_refusals(struct writer *writer, const struct status *status)
{
    const struct refusals_view *refusals = &status->refusals;

    write_markup(writer, "<section aria-labelledby=\"refusals\">\n<h2 id=\"refusals\">Last refusals</h2>\n"
                         "<div id=\"refused\" data-live>\n");
    if (refusals->count == 0) {
        write_note(writer, true, "No request has been refused since the start.");
    } else {
        write_markup(
            writer, "<table role=\"table\" class=\"stack\" aria-labelledby=\"refusals\">\n<thead role=\"rowgroup\"><tr "
                    "role=\"row\"><th role=\"columnheader\" scope=\"col\">Time (UTC)</th><th role=\"columnheader\" "
                    "scope=\"col\">Cause</th><th role=\"columnheader\" scope=\"col\">Address</th><th "
                    "role=\"columnheader\" scope=\"col\" class=\"number\">Requests</th></tr></thead>\n"
                    "<tbody role=\"rowgroup\">\n");
        for (size_t i = 0; i < refusals->count; i++)
            write_refusal(writer, &refusals->entries[i]);
        write_markup(writer, "</tbody>\n</table>\n");
    }
    write_markup(writer, "</div>\n</section>\n");
}

static void write_tile(struct writer *writer, const char *name, const char *value, const char *note)
{
    write_markup(writer, "<div><dt>%s</dt><dd>", name);
    write_html(writer, value);
    write_markup(writer, "</dd>");
    if (note) {
        write_markup(writer, "<dd class=\"note\">");
        write_html(writer, note);
        write_markup(writer, "</dd>");
    }
    write_markup(writer, "</div>\n");
}

static void write_certificate(struct writer *writer, const struct status *status)
{
    const struct status_certificate *certificate = &status->certificate;
    int64_t left_ms = certificate->expires_ms - status->now_ms;
    char left[UNITS_BYTES], date[UNITS_BYTES], note[256];

    units_print_duration(left_ms < 0 ? -left_ms : left_ms, left);
    units_print_time(certificate->expires_ms, date);
    if (left_ms < 0)
        (void)snprintf(note, sizeof note, "expired %s ago, at %s UTC", left, date);
    else
        (void)snprintf(note, sizeof note, "expires in %s, at %s UTC", left, date);
    write_tile(writer, "Certificate", certificate->names[0] ? certificate->names : "no host name", note);
}

static void write_clock(struct writer *writer, const struct status *status)
{
    int64_t skew_s = status->clock_skew_s;
    char text[128];

    if (!status->clock_skew_known) {
        write_tile(writer, "Clock", "not compared yet", "no call with a valid signature since the start");
        return;
    }
    if (skew_s == 0)
        (void)snprintf(text, sizeof text, "in step with the service");
    else
        (void)snprintf(text, sizeof text, "%" PRId64 " s %s the service", skew_s < 0 ? -skew_s : skew_s,
                       skew_s < 0 ? "behind" : "ahead of");
    write_tile(writer, "Clock", text, "according to the last call with a valid signature");
}

static void write_disk(struct writer *writer, const struct status_store *store)
{
    char size[UNITS_BYTES], text[2 * UNITS_BYTES], note[2 * UNITS_BYTES];

    units_print_size(store->free_bytes, size);
    (void)snprintf(text, sizeof text, "%s free", size);
    units_print_size(store->total_bytes, size);
    (void)snprintf(note, sizeof note, "of %s", size);
    write_tile(writer, "Disk of the store", text, note);
    units_print_size(store->database_bytes, text);
    units_print_size(store->log_bytes, size);
    (void)snprintf(note, sizeof note, "and %s of write-ahead log", size);
    write_tile(writer, "Store", text, note);
}

static void write_connections(struct writer *writer, const struct status *status)
{
    const struct status_totals *totals = &status->totals;
    char text[UNITS_BYTES], number[UNITS_BYTES], note[128];

    units_print_count(totals->open_connections, text);
    units_print_count(status->connection_limit, number);
    (void)snprintf(note, sizeof note, "of at most %s; %" PRId64 " requests wait for the disk", number,
                   totals->waiting_requests);
    write_tile(writer, "Open connections", text, note);
    units_print_count(totals->handshakes, text);
    units_print_count(totals->failed_handshakes, number);
    (void)snprintf(note, sizeof note, "%s failed", number);
    write_tile(writer, "TLS handshakes", text, note);
}

static void write_program(struct writer *writer, const struct status *status)
{
    char uptime[UNITS_BYTES], since[UNITS_BYTES], note[128];

    units_print_duration(status->now_ms - status->started_ms, uptime);
    units_print_time(status->started_ms, since);
    (void)snprintf(note, sizeof note, "since %s UTC", since);
    write_tile(writer, "Running for", uptime, note);
    write_markup(writer, "<div><dt>Version</dt><dd>imcallbackd ");
    write_html(writer, status->version);
    write_markup(writer, "</dd><dd class=\"note\">");
    for (size_t i = 0; i < STATUS_MAX_LIBRARIES && status->libraries[i].name; i++) {
        write_html(writer, i > 0 ? ", " : "");
        write_html(writer, status->libraries[i].name);
        write_html(writer, " ");
        write_html(writer, status->libraries[i].version);
    }
    write_markup(writer, "</dd></div>\n");
}

void page_write_machine(struct writer *writer, const struct status *status)
{
    write_markup(writer,
                 "<section aria-labelledby=\"machine\">\n<h2 id=\"machine\">Certificate, machine and daemon</h2>\n"
                 "<dl class=\"tiles\" id=\"tiles\" data-live>\n");
    write_certificate(writer, status);
    write_clock(writer, status);
    write_disk(writer, &status->store);
    write_connections(writer, status);
    write_program(writer, status);
    write_markup(writer, "</dl>\n</section>\n");
}

// The outer element always exists, because a reload can add or remove the section while the page is open.
void page_write_outbound(struct writer *writer, const struct status *status)
{
    bool is_any = false;

    write_markup(writer, "<div id=\"outbound\" data-live>\n");
    for (size_t i = 0; i < STATUS_OUTBOUNDS; i++) {
        const struct status_outbound *outbound = &status->outbound[i];
        char count[UNITS_BYTES], age[UNITS_BYTES], note[128];

        if (!outbound->name)
            continue;
        if (!is_any)
            write_markup(writer,
                         "<section aria-labelledby=\"waiting\">\n<h2 id=\"waiting\">Events that wait to be sent "
                         "on</h2>\n<dl class=\"tiles large\" id=\"lags\">\n");
        is_any = true;
        if (!outbound->has_reported) {
            write_tile(writer, outbound->name, "not started", "the service has not reported yet");
            continue;
        }
        units_print_count(outbound->waiting_events, count);
        units_print_duration(status->now_ms - outbound->reported_ms, age);
        (void)snprintf(note, sizeof note, "last progress %s ago", age);
        write_tile(writer, outbound->name, count, note);
    }
    write_markup(writer, is_any ? "</dl>\n</section>\n</div>\n" : "</div>\n");
}

static void write_value(struct writer *writer, const struct metric *metric, int64_t value)
{
    if (!writer->failed)
        writer->failed = metric_print_value(writer->text, metric, value) < 0;
}

static void write_figure_values(struct writer *writer, const struct metric *metric)
{
    int64_t count = 0;

    if (metric->type == METRIC_TYPE_HISTOGRAM) {
        for (size_t i = 0; i <= metric->count; i++)
            count += metric_value(metric, i);
        write_markup(writer, "count %" PRId64 "<br>sum ", count);
        write_value(writer, metric, metric_value(metric, metric->count + 1));
        return;
    }
    for (size_t i = 0; i < metric->count; i++) {
        if (metric->label && !metric->label_texts[i])
            continue;
        if (metric->label) {
            write_html(writer, metric->label_texts[i]);
            write_markup(writer, " ");
        }
        write_value(writer, metric, metric_value(metric, i));
        write_markup(writer, "<br>");
    }
}

void page_write_figures(struct writer *writer, const struct status *status)
{
    write_markup(writer, "<details>\n<summary>All figures</summary>\n<div class=\"scroll\" role=\"region\" "
                         "aria-label=\"All figures\" tabindex=\"0\">\n<table id=\"figures\" aria-label=\"All figures\" "
                         "data-live>\n<thead><tr>"
                         "<th scope=\"col\">Figure</th><th scope=\"col\" class=\"number\">Value</th></tr></thead>\n"
                         "<tbody>\n");
    for (size_t i = 0; i < status->metric_list_count; i++) {
        for (const struct metric *const *metric = status->metric_lists[i]; *metric; metric++) {
            write_markup(writer, "<tr><th scope=\"row\"><code>%s</code><span class=\"detail\">", (*metric)->name);
            write_html(writer, (*metric)->help);
            write_markup(writer, "</span></th><td class=\"number\">");
            write_figure_values(writer, *metric);
            write_markup(writer, "</td></tr>\n");
        }
    }
    write_markup(writer, "</tbody>\n</table>\n</div>\n</details>\n");
}
