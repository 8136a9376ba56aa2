// What the admin listener shows to those who watch the daemon:
//   /healthz  200 while the process lives
//   /readyz   200 while events can be recorded; else 503, and why
//   /metrics  what all rooms count, for Prometheus
// None of them waits for the threads that serve callbacks, nor they for it.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/store.h"
#include "settings.h"

struct monitor;

// The monitor asks the store until it is stopped.
int monitor_start(int listen_fd, struct store *store, const struct settings *settings, struct monitor **ret_monitor,
                  struct error *error) MUST_CHECK;

// NULL is allowed as the monitor from here on.

// After a reload: the certificate may be another one.
void monitor_set_settings(const struct monitor *monitor, const struct settings *settings);

// From now on the daemon is not ready. Any thread may call.
void monitor_set_stopping(struct monitor *monitor);

void monitor_stop(struct monitor *monitor);
