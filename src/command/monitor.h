// Serves the pages of the admin listener:
//   /healthz  200 while the process lives
//   /readyz   200 while events can be recorded; otherwise 503 with the reason
//   /metrics  the metrics of all modules, for Prometheus
// The admin listener has its own thread, so a slow client of these pages does not delay callbacks.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/store.h"
#include "settings.h"

struct monitor;

// Starts the admin listener. listen_fd and the store must outlive the monitor; the caller closes them. Takes its own
// reference to the settings.
int monitor_start(int listen_fd, struct store *store, struct settings *settings, struct monitor **ret_monitor,
                  struct error *error) MUST_CHECK;

// monitor_set_settings, monitor_set_stopping and monitor_stop accept NULL, because a daemon without an admin listener
// has no monitor.

// Makes /metrics report the expiry of the certificate in these settings from now on, and the listener accept their
// [admin] host.
void monitor_set_settings(const struct monitor *monitor, const struct settings *settings);

// Makes /readyz answer 503 from now on. Any thread may call this function.
void monitor_set_stopping(struct monitor *monitor);

// Stops the admin listener and frees the monitor.
void monitor_stop(struct monitor *monitor);

// The size of the database on disk and the space left on its file system.
struct disk_usage {
    int64_t database_bytes;
    int64_t log_bytes;   // size of the write-ahead log; 0 if the file does not exist
    int64_t free_bytes;  // space on the file system that the daemon can still use
    int64_t total_bytes; // space that the daemon could use if the file system were empty
};

// Measures the database at this path. Asks the file system, never SQLite, so that a busy or damaged database cannot
// delay the admin listener. Returns -errno if the database or its file system cannot be examined, or -ENOMEM.
int disk_usage_measure(const char *database, struct disk_usage *ret_usage, struct error *error) MUST_CHECK;
