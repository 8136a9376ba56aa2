// Entries never move: each has a number that tells its order, so that a refusal writes one entry only.
#include "imcallbackd/status/refusals.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void refusals_init(struct refusals *refusals)
{
    memset(refusals, 0, sizeof *refusals);
    pthread_mutex_init(&refusals->lock, NULL);
}

void refusals_finish(struct refusals *refusals)
{
    pthread_mutex_destroy(&refusals->lock);
}

static bool is_same(const struct refusal *entry, enum answer_code code, const char *address)
{
    return entry->order > 0 && entry->code == code && strncmp(entry->address, address, sizeof entry->address - 1) == 0;
}

// Returns the entry of this cause and address, or else a free one, or else the one whose last refusal is the oldest.
static struct refusal *find(struct refusals *refusals, enum answer_code code, const char *address)
{
    struct refusal *oldest = refusals->entries;

    for (struct refusal *entry = refusals->entries; entry < refusals->entries + REFUSALS_MAX; entry++) {
        if (is_same(entry, code, address))
            return entry;
        if (entry->order < oldest->order)
            oldest = entry;
    }
    return oldest;
}

void refusals_add(struct refusals *refusals, int64_t now_ms, enum answer_code code, const char *address,
                  const char *detail)
{
    struct refusal *entry;

    assert(code > ANSWER_OK && code < ANSWER_CODE_COUNT);
    pthread_mutex_lock(&refusals->lock);
    if (atomic_exchange(&refusals->accepted_since, false))
        memset(refusals->in_a_row, 0, sizeof refusals->in_a_row);
    refusals->in_a_row[code]++;
    entry = find(refusals, code, address);
    if (!is_same(entry, code, address)) {
        entry->code = code;
        entry->first_ms = now_ms;
        entry->count = 0;
        (void)snprintf(entry->address, sizeof entry->address, "%s", address);
    }
    (void)snprintf(entry->detail, sizeof entry->detail, "%s", detail);
    entry->last_ms = now_ms;
    entry->count++;
    entry->order = ++refusals->order;
    pthread_mutex_unlock(&refusals->lock);
}

void refusals_note_accepted(struct refusals *refusals, int64_t now_ms)
{
    atomic_store_explicit(&refusals->accepted_ms, now_ms, memory_order_relaxed);
    atomic_store_explicit(&refusals->accepted_since, true, memory_order_relaxed);
}

static int by_order(const void *one, const void *other)
{
    uint64_t a = ((const struct refusal *)one)->order, b = ((const struct refusal *)other)->order;

    return (a < b) - (a > b);
}

void refusals_copy(struct refusals *refusals, struct refusals_view *ret_view)
{
    pthread_mutex_lock(&refusals->lock);
    ret_view->accepted_ms = atomic_load_explicit(&refusals->accepted_ms, memory_order_relaxed);
    if (atomic_load_explicit(&refusals->accepted_since, memory_order_relaxed))
        memset(ret_view->in_a_row, 0, sizeof ret_view->in_a_row);
    else
        memcpy(ret_view->in_a_row, refusals->in_a_row, sizeof ret_view->in_a_row);
    memcpy(ret_view->entries, refusals->entries, sizeof ret_view->entries);
    pthread_mutex_unlock(&refusals->lock);
    qsort(ret_view->entries, REFUSALS_MAX, sizeof ret_view->entries[0], by_order);
    ret_view->count = 0;
    while (ret_view->count < REFUSALS_MAX && ret_view->entries[ret_view->count].order > 0)
        ret_view->count++;
}
