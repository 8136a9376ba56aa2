// The frame of the page, the state, and the callbacks over time. What changes while the page is open is in elements
// with the attribute data-live and an id, which the script replaces one by one. Such elements are not nested.
#include "imcallbackd/status/page.h"

#include <errno.h>
#include <inttypes.h>

#include "assets.h"
#include "page_sections.h"
#include "plot.h"
#include "units.h"

static void write_head(struct writer *writer, const struct status_judgement *judgement)
{
    static const char *const titles[] = {
        [STATUS_OK] = "Ready", [STATUS_WARNING] = "Attention", [STATUS_ERROR] = "Problem"};

    write_markup(writer,
                 "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                 "<title>%s \xe2\x80\x93 imcallbackd</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>",
                 titles[judgement->level]);
    write_markup(writer, "%s", status_css);
    write_markup(writer, "</style>\n</head>\n<body>\n");
}

static void write_header(struct writer *writer, const struct status *status)
{
    char now[UNITS_BYTES], iso[UNITS_BYTES];

    units_print_time(status->now_ms, now);
    units_print_iso_time(status->now_ms, iso);
    write_markup(writer, "<header>\n<p><strong>imcallbackd</strong> ");
    write_html(writer, status->version);
    write_markup(writer,
                 "</p>\n<p id=\"freshness\">State at <time datetime=\"%s\">%s UTC</time>"
                 "<noscript>. Reload the page to refresh it.</noscript></p>\n</header>\n<main>\n"
                 "<p id=\"announcement\" class=\"hidden\" role=\"status\"></p>\n",
                 iso, now);
}

static void write_state(struct writer *writer, const struct status_judgement *judgement)
{
    static const char *const labels[] = {[STATUS_OK] = "\xe2\x97\x8f OK",
                                         [STATUS_WARNING] = "\xe2\x96\xb2 Attention",
                                         [STATUS_ERROR] = "\xe2\x96\xa0 Problem"};

    write_markup(writer, "<section id=\"state\" class=\"state %s\" data-live>\n<p class=\"level\">%s</p>\n<h1>",
                 status_level_name(judgement->level), labels[judgement->level]);
    write_html(writer, judgement->sentence);
    write_markup(writer, "</h1>\n");
    if (judgement->remedy[0]) {
        write_markup(writer, "<p>");
        write_html(writer, judgement->remedy);
        write_markup(writer, "</p>\n");
    }
    write_markup(writer, "</section>\n");
}

static void write_plots(struct writer *writer, const struct status *status)
{
    plot_write(writer, &(struct plot){.id = "hour",
                                      .caption = "Last hour",
                                      .unit = "callbacks per minute",
                                      .times = {"60 min", "45", "30", "15", "now"},
                                      .bars = status->hour,
                                      .count = STATUS_HOUR_BARS,
                                      .offset_ms = status->history_offset_ms});
    plot_write(writer, &(struct plot){.id = "day",
                                      .caption = "Last day",
                                      .unit = "callbacks per 15 minutes",
                                      .times = {"24 h", "18", "12", "6", "now"},
                                      .bars = status->day,
                                      .count = STATUS_DAY_BARS,
                                      .offset_ms = status->history_offset_ms});
}

static void write_count_row(struct writer *writer, const char *name, const char *class, int64_t hour, int64_t day,
                            int64_t total)
{
    const int64_t counts[] = {hour, day, total};

    write_markup(writer, "<tr><th scope=\"row\"><span class=\"swatch %s\"></span>%s</th>", class, name);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        char text[UNITS_BYTES];

        units_print_count(counts[i], text);
        write_markup(writer, "<td class=\"number\">%s</td>", text);
    }
    write_markup(writer, "</tr>\n");
}

static bool has_gap(const struct status *status)
{
    for (size_t i = 0; i < STATUS_DAY_BARS; i++) {
        if (!status->day[i].measured)
            return true;
    }
    return false;
}

static void write_callbacks(struct writer *writer, const struct status *status)
{
    const struct status_totals *totals = &status->totals;
    const int64_t *hour = status->answers.hour.values, *day = status->answers.day.values;

    write_markup(writer, "<section aria-labelledby=\"callbacks\">\n<h2 id=\"callbacks\">Callbacks</h2>\n"
                         "<div class=\"plots\" id=\"plots\" data-live>\n");
    write_plots(writer, status);
    write_markup(writer,
                 "</div>\n<p class=\"note\" id=\"gaps\" data-live>%s</p>\n<table id=\"counts\" class=\"even\" "
                 "aria-label=\"Callbacks by result\" "
                 "data-live>\n<thead><tr><th scope=\"col\">Result</th>"
                 "<th scope=\"col\" class=\"number\">Last hour</th><th scope=\"col\" class=\"number\">Last day</th>"
                 "<th scope=\"col\" class=\"number\">Since the start</th></tr></thead>\n<tbody>\n",
                 has_gap(status)
                     ? "Gray: no figures, because the daemon had not started yet or the machine was suspended."
                     : "");
    write_count_row(writer, "Recorded", "recorded", hour[HISTORY_RECORDED], day[HISTORY_RECORDED], totals->recorded);
    write_count_row(writer, "Repeated", "repeated", hour[HISTORY_REPEATED], day[HISTORY_REPEATED], totals->repeated);
    write_count_row(writer, "Rejected", "rejected", hour[HISTORY_REJECTED], day[HISTORY_REJECTED],
                    totals->conflicts + totals->set_aside + totals->refused + totals->failed);
    write_markup(writer, "</tbody>\n</table>\n</section>\n");
}

// Writes a tile with the figure of the last hour, and that of the last day below.
static void write_tile(struct writer *writer, const char *name, const char *hour, const char *day)
{
    write_markup(writer, "<div><dt>%s</dt><dd>%s</dd><dd class=\"note\">last day: %s</dd></div>\n", name, hour, day);
}

static void write_percentile(struct writer *writer, const struct status_answers *answers, unsigned int percent,
                             const char *name)
{
    char hour[UNITS_BYTES], day[UNITS_BYTES];

    units_print_microseconds(history_percentile(&answers->hour, answers->bounds, percent), hour);
    units_print_microseconds(history_percentile(&answers->day, answers->bounds, percent), day);
    write_tile(writer, name, hour, day);
}

static void write_speed(struct writer *writer, const struct status *status)
{
    const struct status_answers *answers = &status->answers;
    const struct status_totals *totals = &status->totals;
    char hour[UNITS_BYTES], day[UNITS_BYTES];

    write_markup(writer,
                 "<section aria-labelledby=\"speed\">\n<h2 id=\"speed\">Answers and commits in the last hour</h2>\n"
                 "<dl class=\"tiles large\" id=\"speeds\" data-live>\n");
    write_percentile(writer, answers, 50, "Answer time, median (p50)");
    write_percentile(writer, answers, 99, "Answer time, 99 % (p99)");
    units_print_count(answers->hour.values[HISTORY_COMMITS], hour);
    units_print_count(answers->day.values[HISTORY_COMMITS], day);
    write_tile(writer, "Commits", hour, day);
    write_markup(writer, "<div><dt>Callbacks per commit</dt><dd>");
    if (totals->commits > 0)
        write_markup(writer, "%.1f", (double)totals->batch_callbacks / (double)totals->commits);
    else
        write_markup(writer, "\xe2\x80\x93");
    write_markup(writer, "</dd><dd class=\"note\">since the start</dd></div>\n</dl>\n<p class=\"note\">An answer time "
                         "runs from the last byte of the body to the answer and includes the commit with its sync to "
                         "disk. The service waits 2 seconds.</p>\n</section>\n");
}

int page_print(const struct status *status, struct buffer *text)
{
    struct writer writer = {.text = text};
    struct status_judgement judgement;

    status_judge(status, &judgement);
    write_head(&writer, &judgement);
    write_header(&writer, status);
    write_state(&writer, &judgement);
    page_write_endpoint(&writer, status);
    write_callbacks(&writer, status);
    write_speed(&writer, status);
    page_write_rejected(&writer, status);
    page_write_refusals(&writer, status);
    page_write_machine(&writer, status);
    page_write_outbound(&writer, status);
    page_write_figures(&writer, status);
    write_markup(&writer,
                 "</main>\n<footer>\n<p>The history is kept in memory and starts with the daemon.</p>\n"
                 "<p><a href=\"/status.json\">status.json</a> \xc2\xb7 <a href=\"/metrics\">metrics</a> \xc2\xb7 "
                 "<a href=\"/readyz\">readyz</a></p>\n</footer>\n<script>");
    write_markup(&writer, "%s", status_js);
    write_markup(&writer, "</script>\n</body>\n</html>\n");
    return writer.failed ? -ENOMEM : 0;
}
