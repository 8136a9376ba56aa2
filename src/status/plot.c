// The drawing is 10 units wide per bar and 1,000 units high, and the browser stretches it to the figure.
#include "plot.h"

#include <inttypes.h>
#include <stdbool.h>

#include "units.h"

#define BAR_WIDTH 10
#define BAR_GAP   2
#define HEIGHT    1000
// A bar is never lower than this, so that one rejected callback shows next to a million recorded ones.
#define LEAST_HEIGHT 15

static const char *const series_classes[] = {
    [HISTORY_RECORDED] = "recorded", [HISTORY_REPEATED] = "repeated", [HISTORY_REJECTED] = "rejected"};

int64_t plot_scale(int64_t maximum)
{
    static const int64_t digits[] = {2, 4, 6, 8, 10};
    int64_t unit = 1;

    for (;; unit *= 10) {
        for (size_t i = 0; i < sizeof digits / sizeof digits[0]; i++) {
            if (digits[i] * unit >= maximum)
                return digits[i] * unit;
        }
    }
}

static int64_t total(const struct history_bar *bar)
{
    return bar->values[HISTORY_RECORDED] + bar->values[HISTORY_REPEATED] + bar->values[HISTORY_REJECTED];
}

// Marks the time for which nothing is known with one rectangle for each run of bars.
static void write_unmeasured(struct writer *writer, const struct plot *plot)
{
    for (size_t i = 0; i < plot->count; i++) {
        size_t end = i;

        while (end < plot->count && !plot->bars[end].measured)
            end++;
        if (end > i)
            write_markup(writer, "<rect class=\"unmeasured\" x=\"%zu\" y=\"0\" width=\"%zu\" height=\"%d\"/>",
                         i * BAR_WIDTH, (end - i) * BAR_WIDTH, HEIGHT);
        i = end;
    }
}

static void write_bar(struct writer *writer, const struct plot *plot, size_t i, int64_t scale)
{
    const struct history_bar *bar = &plot->bars[i];
    char start[UNITS_BYTES];
    int64_t top = HEIGHT;

    units_print_time(bar->start_ms + plot->offset_ms, start);
    write_markup(writer, "<g><title>%s UTC: %" PRId64 " recorded, %" PRId64 " repeated, %" PRId64 " rejected</title>",
                 start, bar->values[HISTORY_RECORDED], bar->values[HISTORY_REPEATED], bar->values[HISTORY_REJECTED]);
    for (size_t series = HISTORY_RECORDED; series <= HISTORY_REJECTED; series++) {
        int64_t height = (int64_t)((double)bar->values[series] * HEIGHT / (double)scale);

        if (bar->values[series] == 0)
            continue;
        if (height < LEAST_HEIGHT)
            height = LEAST_HEIGHT;
        top -= height;
        write_markup(writer, "<rect class=\"%s\" x=\"%zu\" y=\"%" PRId64 "\" width=\"%d\" height=\"%" PRId64 "\"/>",
                     series_classes[series], i * BAR_WIDTH + BAR_GAP / 2, top, BAR_WIDTH - BAR_GAP, height);
    }
    write_markup(writer, "</g>");
}

static void write_drawing(struct writer *writer, const struct plot *plot, int64_t scale)
{
    size_t width = plot->count * BAR_WIDTH;

    write_unmeasured(writer, plot);
    write_markup(writer, "<path class=\"grid\" d=\"M0 0H%zuM0 %dH%zu\"/>", width, HEIGHT / 2, width);
    for (size_t i = 0; i < plot->count; i++) {
        if (total(&plot->bars[i]) > 0)
            write_bar(writer, plot, i, scale);
    }
    write_markup(writer, "<path class=\"axis\" d=\"M0 %dH%zu\"/>", HEIGHT, width);
}

void plot_write(struct writer *writer, const struct plot *plot)
{
    struct history_bar sums = {0};
    int64_t maximum = 0, scale;
    char top[UNITS_BYTES], middle[UNITS_BYTES];

    for (size_t i = 0; i < plot->count; i++) {
        for (size_t series = HISTORY_RECORDED; series <= HISTORY_REJECTED; series++)
            sums.values[series] += plot->bars[i].values[series];
        if (total(&plot->bars[i]) > maximum)
            maximum = total(&plot->bars[i]);
    }
    scale = plot_scale(maximum);
    units_print_count(scale, top);
    units_print_count(scale / 2, middle);
    write_markup(
        writer,
        "<figure class=\"plot\"><figcaption><strong>%s</strong> %s</figcaption><div class=\"axes\">"
        "<div class=\"scale\" aria-hidden=\"true\"><span>%s</span><span>%s</span><span>0</span></div>"
        "<svg role=\"img\" aria-labelledby=\"%s-title %s-text\" viewBox=\"0 -30 %zu %d\" "
        "preserveAspectRatio=\"none\"><title id=\"%s-title\">%s, %s</title><desc id=\"%s-text\">recorded %" PRId64
        ", repeated %" PRId64 ", rejected %" PRId64 "; at most %" PRId64 " in one bar</desc>",
        plot->caption, plot->unit, top, middle, plot->id, plot->id, plot->count * BAR_WIDTH, HEIGHT + 40, plot->id,
        plot->caption, plot->unit, plot->id, sums.values[HISTORY_RECORDED], sums.values[HISTORY_REPEATED],
        sums.values[HISTORY_REJECTED], maximum);
    write_drawing(writer, plot, scale);
    write_markup(writer, "</svg><div class=\"times\" aria-hidden=\"true\">");
    for (size_t i = 0; i < PLOT_TIME_LABELS; i++)
        write_markup(writer, "<span>%s</span>", plot->times[i]);
    write_markup(writer, "</div></div></figure>");
}
