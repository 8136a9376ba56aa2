// A plot of callbacks over time: stacked bars as SVG, in a figure with a caption and the labels of both axes. The
// labels are HTML, because text in the SVG would shrink with the window.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/status/history.h"
#include "writer.h"

#define PLOT_TIME_LABELS 5

struct plot {
    const char *id;                      // a prefix for ids; unique on the page
    const char *caption;                 // such as "Last hour"
    const char *unit;                    // such as "callbacks per minute"
    const char *times[PLOT_TIME_LABELS]; // from left to right, evenly spaced
    const struct history_bar *bars;
    size_t count;
    int64_t offset_ms; // Unix time minus the clock of the bars
};

void plot_write(struct writer *writer, const struct plot *plot);

// Returns the top of the scale for this maximum: an even number with one digit that is not 0, at least the maximum.
int64_t plot_scale(int64_t maximum);
