// Replaces service_manager.c in a build without libsystemd.
#include <errno.h>
#include <stdlib.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/command/command.h"
#include "service_manager.h"

const bool command_has_systemd = false;

// Warns once if a service manager expects notifications: a unit with Type=notify waits for READY=1, which this build
// does not send, until the start times out.
void service_manager_notify(const char *assignments)
{
    static bool is_reported;

    (void)assignments;
    if (is_reported || !getenv("NOTIFY_SOCKET"))
        return;
    is_reported = true;
    log_warning(
        "NOTIFY_SOCKET: the service manager is not notified: this build has no libsystemd; set Type=exec and no "
        "WatchdogSec= in the unit, or build with -DIMCALLBACKD_SYSTEMD=ON");
}

void service_manager_notify_reload(void)
{
}

int64_t service_manager_watchdog_ms(void)
{
    return 0;
}

int service_manager_take_sockets(char ***ret_names, struct error *error)
{
    *ret_names = NULL;
    if (!getenv("LISTEN_FDS"))
        return 0;
    return error_set(error, ENOSYS,
                     "LISTEN_FDS: the sockets that the service manager passed cannot be used: this build has no "
                     "libsystemd; disable the socket unit, or build with -DIMCALLBACKD_SYSTEMD=ON");
}
