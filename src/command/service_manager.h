// Talks to the service manager, which is systemd: reports when a service is ready, notifies the watchdog, and takes
// over sockets. One thread calls these functions. In a build with -DIMCALLBACKD_SYSTEMD=OFF, the service manager is not
// notified, there is no watchdog, and passed sockets are an error.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

#define SERVICE_MANAGER_FIRST_SOCKET 3 // the descriptor of the first passed socket; the others follow it

// Sends variable assignments such as "READY=1"; see sd_notify(3). Does nothing if no service manager listens.
void service_manager_notify(const char *assignments);

// Reports that a reload starts now. READY=1 reports its end.
void service_manager_notify_reload(void);

// Returns the timeout of the watchdog in milliseconds, or 0 if there is no watchdog.
int64_t service_manager_watchdog_ms(void);

// Takes over the sockets that the service manager passed, and returns their number or a negative errno value. Sets
// *ret_names to an array with a name for each socket; the caller frees the names and the array. Returns -ENOSYS if
// sockets were passed but this build cannot use them.
int service_manager_take_sockets(char ***ret_names, struct error *error) MUST_CHECK;
