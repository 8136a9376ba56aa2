// Collects the facts of the status page from the parts of the daemon. The main thread samples the history, and the
// thread of the admin listener collects the facts; nothing here waits for SQLite or for the threads that serve
// callbacks.
#pragma once

#include <pthread.h>

#include "disk_usage.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/status/status.h"
#include "imcallbackd/store/store.h"
#include "settings.h"

struct receiver;

// The caller sets the first group of members.
struct status_sources {
    struct store *store;
    struct receiver *receiver;
    unsigned int port;           // of the callback listener; 0: unknown
    const char *path, *database; // settings that a reload does not change
    const struct metric *const *const *metric_lists;
    size_t metric_list_count;

    pthread_mutex_t lock;      // guards the history, and makes its samples come in the order in which they were taken
    int64_t started_ms;        // Unix time
    int64_t history_offset_ms; // Unix time minus the boottime clock, at the start
    struct history history;
};

void status_sources_init(struct status_sources *sources);
void status_sources_finish(struct status_sources *sources);

// Adds the growth of the counters to the history. Returns the milliseconds until the next minute starts.
int64_t status_sources_sample(struct status_sources *sources);

// The text and the arrays that a struct status points to.
struct status_memory {
    struct status_app *apps;
    char host[256];
};

// Sets all facts, except the readiness, which the caller sets. The settings must outlive *ret_status. The caller calls
// status_memory_finish. Returns 0 or -ENOMEM.
int status_facts_collect(struct status_sources *sources, const struct settings *settings,
                         const struct disk_usage *usage, struct status_memory *memory,
                         struct status *ret_status) MUST_CHECK;
void status_memory_finish(struct status_memory *memory);
