// The pages of the admin listener:
//   /healthz  200 while the process lives
//   /readyz   200 while events can be recorded; otherwise 503 with the reason
//   /metrics  the metrics of all modules, for Prometheus
// The admin listener's thread and the threads that serve callbacks never wait for each other.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/store.h"
#include "settings.h"

struct monitor;

// Starts the admin listener. listen_fd and the store must outlive the monitor; the caller closes them.
int monitor_start(int listen_fd, struct store *store, const struct settings *settings, struct monitor **ret_monitor,
                  struct error *error) MUST_CHECK;

// The functions below accept NULL as the monitor, because a daemon without an admin listener has none.

// Reports the certificate of these settings from now on.
void monitor_set_settings(const struct monitor *monitor, const struct settings *settings);

// Makes /readyz answer 503 from now on. Any thread may call this function.
void monitor_set_stopping(struct monitor *monitor);

// Stops the admin listener and frees the monitor.
void monitor_stop(struct monitor *monitor);
