// Provides what the commands `forward` and `deliver` share: the signals that stop them, the monitoring listener, and
// the messages to the service manager. The main thread calls these functions.
#pragma once

#include "config.h"
#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

struct outbound_service {
    const char *command;                   // name of the command
    const struct config_value *admin_port; // member of the configuration
    int (*print_metrics)(struct buffer *text);
    int (*run)(void *context, struct error *error); // returns once stop() was called, or after a failure
    void *context;                                  // for run()
};

// Makes SIGTERM and SIGINT call stop(), which must be safe in a signal handler, and ignores SIGPIPE.
void outbound_service_handle_signals(void (*stop)(void));

// Starts the listener for /metrics and /healthz unless its port is 0, reports READY, and calls run(). READY precedes
// run(), because the destination or the endpoint may be unreachable for a long time, and no other unit waits for the
// service. Returns the result of run(), or -errno if the listener cannot start.
int outbound_service_run(const struct config *config, const struct outbound_service *service,
                         struct error *error) MUST_CHECK;
