// A ring of minutes. Samples may come at any time, so the boundaries of the minutes do not depend on the sampler.
#include "imcallbackd/status/history.h"

#include <assert.h>
#include <string.h>

static int64_t larger(int64_t one, int64_t other)
{
    return one > other ? one : other;
}

static int64_t smaller(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

static struct history_minute *minute_at(struct history *history, int64_t minute)
{
    return &history->minutes[minute % HISTORY_MINUTES];
}

void history_init(struct history *history, const struct history_time *time)
{
    assert(time->now_ms >= 0);
    memset(history, 0, sizeof *history);
    history->last = *time;
    history->newest_minute = time->now_ms / HISTORY_MINUTE_MS;
    minute_at(history, history->newest_minute)->measured = true;
}

// Makes `minute` the newest one and empties the minutes that it replaces in the ring.
static void advance(struct history *history, int64_t minute)
{
    assert(minute >= history->newest_minute);
    for (int64_t i = larger(history->newest_minute + 1, minute - HISTORY_MINUTES + 1); i <= minute; i++)
        *minute_at(history, i) = (struct history_minute){0};
    history->newest_minute = minute;
}

// Returns the part of the amount that belongs to the first `part_ms` of `whole_ms`, rounded to the nearest number.
static int64_t share(int64_t amount, int64_t part_ms, int64_t whole_ms)
{
    return (int64_t)((double)amount * (double)part_ms / (double)whole_ms + 0.5);
}

static void add_share(struct history *history, int64_t minute, const struct history_counts *grown, int64_t from_ms,
                      int64_t to_ms)
{
    int64_t begin_ms = larger(minute * HISTORY_MINUTE_MS, from_ms) - from_ms;
    int64_t end_ms = smaller((minute + 1) * HISTORY_MINUTE_MS, to_ms) - from_ms;
    struct history_minute *slot = minute_at(history, minute);

    for (size_t i = 0; i < HISTORY_SERIES; i++) {
        int64_t part =
            share(grown->values[i], end_ms, to_ms - from_ms) - share(grown->values[i], begin_ms, to_ms - from_ms);

        slot->values[i] = (uint32_t)smaller((int64_t)slot->values[i] + part, UINT32_MAX);
    }
    slot->measured = true;
}

void history_sample(struct history *history, const struct history_time *time, const struct history_counts *totals)
{
    struct history_counts grown;
    int64_t awake_ms, from_ms, oldest_minute;

    assert(time->now_ms >= history->last.now_ms && time->awake_ms >= history->last.awake_ms);
    for (size_t i = 0; i < HISTORY_SERIES; i++) {
        assert(totals->values[i] >= history->totals.values[i]);
        grown.values[i] = totals->values[i] - history->totals.values[i];
    }
    // The two clocks are read one after the other, so that they may differ by a little.
    awake_ms = smaller(time->awake_ms - history->last.awake_ms, time->now_ms - history->last.now_ms);
    from_ms = time->now_ms - larger(awake_ms, 1);
    advance(history, time->now_ms / HISTORY_MINUTE_MS);
    oldest_minute = larger(larger(from_ms, 0) / HISTORY_MINUTE_MS, history->newest_minute - HISTORY_MINUTES + 1);
    for (int64_t minute = oldest_minute; minute <= history->newest_minute; minute++)
        add_share(history, minute, &grown, from_ms, time->now_ms);
    history->last = *time;
    history->totals = *totals;
}

void history_bars(const struct history *history, int64_t minutes_per_bar, struct history_bar *bars, size_t count)
{
    int64_t last_bar;

    assert(minutes_per_bar > 0 && count > 0 && minutes_per_bar * (int64_t)count <= HISTORY_MINUTES);
    last_bar = history->newest_minute / minutes_per_bar;
    for (size_t i = 0; i < count; i++) {
        int64_t first = (last_bar - (int64_t)(count - 1 - i)) * minutes_per_bar;

        bars[i] = (struct history_bar){.start_ms = first * HISTORY_MINUTE_MS};
        for (int64_t minute = larger(first, 0); minute < first + minutes_per_bar; minute++) {
            const struct history_minute *slot = &history->minutes[minute % HISTORY_MINUTES];

            if (minute > history->newest_minute || !slot->measured)
                continue;
            bars[i].measured = true;
            for (size_t series = 0; series <= HISTORY_COMMITS; series++)
                bars[i].values[series] += slot->values[series];
        }
    }
}

void history_sum(const struct history *history, int64_t minutes, struct history_counts *ret_sums)
{
    assert(minutes > 0 && minutes <= HISTORY_MINUTES);
    memset(ret_sums, 0, sizeof *ret_sums);
    for (int64_t i = larger(history->newest_minute - minutes + 1, 0); i <= history->newest_minute; i++) {
        const struct history_minute *slot = &history->minutes[i % HISTORY_MINUTES];

        for (size_t series = 0; slot->measured && series < HISTORY_SERIES; series++)
            ret_sums->values[series] += slot->values[series];
    }
}

int64_t history_until_next_minute_ms(int64_t now_ms)
{
    return HISTORY_MINUTE_MS - now_ms % HISTORY_MINUTE_MS;
}

int64_t history_percentile(const struct history_counts *sums, const int64_t *bounds, unsigned int percent)
{
    const int64_t *buckets = &sums->values[HISTORY_ANSWERS];
    int64_t count = 0, below = 0, rank;

    assert(percent > 0 && percent <= 100);
    for (size_t i = 0; i < HISTORY_BUCKETS; i++)
        count += buckets[i];
    if (count == 0)
        return -1;
    rank = (count * percent + 99) / 100; // the number of the answer that has this value, counted from 1
    for (size_t i = 0; i < HISTORY_BUCKETS - 1; i++) {
        int64_t from = i > 0 ? bounds[i - 1] : 0;

        if (below + buckets[i] >= rank)
            return from + (bounds[i] - from) * (rank - below) / buckets[i];
        below += buckets[i];
    }
    return bounds[HISTORY_BUCKETS - 2];
}
