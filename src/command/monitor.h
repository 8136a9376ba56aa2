// Serves the pages of the admin listener: / and /status.json with the state for people and for programs, /metrics for
// Prometheus, /healthz (200 while the process lives) and /readyz (200 while events can be recorded; otherwise 503 with
// the reason). The listener has its own thread, so a slow client of these pages does not delay callbacks.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/store.h"
#include "settings.h"

struct monitor;
struct receiver;

// What the pages report on. All parts must outlive the monitor, except the settings, to which the monitor takes its own
// references.
struct monitor_parts {
    struct store *store;
    struct receiver *receiver;
    struct settings *settings;
    unsigned int port; // of the callback listener; 0: unknown
};

// Starts the admin listener. The caller closes listen_fd after monitor_stop.
int monitor_start(int listen_fd, const struct monitor_parts *parts, struct monitor **ret_monitor,
                  struct error *error) MUST_CHECK;

// The functions below accept NULL, because a daemon without an admin listener has no monitor.

// Adds the counters to the history of the status page. The main thread calls this at least when the returned number of
// milliseconds has passed. Returns -1 without a monitor.
int64_t monitor_sample(struct monitor *monitor);

// Makes the pages report on these settings from now on, and the listener accept their [admin] host. The monitor takes
// its own reference.
void monitor_set_settings(struct monitor *monitor, struct settings *settings);

// Makes /readyz answer 503 from now on. Any thread may call this function.
void monitor_set_stopping(struct monitor *monitor);

// Stops the admin listener and frees the monitor.
void monitor_stop(struct monitor *monitor);
