// The counters of the last 1,440 minutes, for the plots and percentiles of the status page. The history is in memory
// only and takes 124 KiB, however much happens. The caller ensures that only one thread at a time uses a history.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_MINUTES   1440
#define HISTORY_MINUTE_MS INT64_C(60000)
#define HISTORY_BUCKETS   17 // of the histogram of answer times, with the bucket above all bounds

enum history_series {
    HISTORY_RECORDED,
    HISTORY_REPEATED,
    HISTORY_REJECTED,
    HISTORY_COMMITS,
    HISTORY_ANSWERS, // the first bucket of the histogram
    HISTORY_SERIES = HISTORY_ANSWERS + HISTORY_BUCKETS,
};

// One number per series: totals since the start of the daemon, which only grow, or sums over some minutes.
struct history_counts {
    int64_t values[HISTORY_SERIES];
};

// The two clocks of a sample. Neither is ever set.
struct history_time {
    int64_t now_ms;   // also counts the time for which the machine was suspended; places a sample in a minute
    int64_t awake_ms; // counts only the time for which the machine was running
};

struct history_minute {
    uint32_t values[HISTORY_SERIES];
    bool measured; // false: the daemon was not running, or the machine was suspended
};

struct history {
    struct history_time last;
    struct history_counts totals;                   // of the last sample
    int64_t newest_minute;                          // now_ms of the last sample, in minutes
    struct history_minute minutes[HISTORY_MINUTES]; // a ring; minute M is at M modulo HISTORY_MINUTES
};

// A bar of a plot: the sums over `minutes_per_bar` minutes.
struct history_bar {
    int64_t start_ms; // on the clock of now_ms
    bool measured;
    int64_t values[HISTORY_COMMITS + 1];
};

// Starts the history at this time, with totals of 0.
void history_init(struct history *history, const struct history_time *time);

// Adds what the totals have grown by since the last sample, in equal parts per unit of time to the minutes since then.
// So a sample that comes late makes no spike. Minutes for which the machine was suspended get no part. The caller
// samples at the start of each minute, and before it reads the history, so that the current minute is complete.
void history_sample(struct history *history, const struct history_time *time, const struct history_counts *totals);

// Sets the bars, of which the last one has the current minute. The bars start at multiples of minutes_per_bar.
// minutes_per_bar * count must not exceed HISTORY_MINUTES.
void history_bars(const struct history *history, int64_t minutes_per_bar, struct history_bar *bars, size_t count);

// Sums up the last `minutes` minutes, 1 to HISTORY_MINUTES, including the current one.
void history_sum(const struct history *history, int64_t minutes, struct history_counts *ret_sums);

// Returns the milliseconds from now_ms to the start of the next minute, 1 to HISTORY_MINUTE_MS.
int64_t history_until_next_minute_ms(int64_t now_ms);

// Estimates from the buckets of the histogram below which value, in the unit of the bounds, the given share of the
// answers is, by linear interpolation within a bucket. bounds has HISTORY_BUCKETS - 1 elements. Returns -1 if there are
// no answers, and the last bound if the value is above all bounds.
int64_t history_percentile(const struct history_counts *sums, const int64_t *bounds, unsigned int percent);
