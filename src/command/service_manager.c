// Only this file calls libsystemd. A build without libsystemd compiles without_systemd.c instead.
#include "service_manager.h"

#include <inttypes.h>
#include <string.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/command/command.h"

#include <systemd/sd-daemon.h>

const bool command_has_systemd = true;

_Static_assert(SERVICE_MANAGER_FIRST_SOCKET == SD_LISTEN_FDS_START, "the descriptor of the first socket");

void service_manager_notify(const char *assignments)
{
    (void)sd_notify(0, assignments);
}

void service_manager_notify_reload(void)
{
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_monotonic_us());
}

int64_t service_manager_watchdog_ms(void)
{
    uint64_t timeout_us;

    return sd_watchdog_enabled(0, &timeout_us) > 0 ? (int64_t)(timeout_us / 1000) : 0;
}

int service_manager_take_sockets(char ***ret_names, struct error *error)
{
    int count = sd_listen_fds_with_names(1, ret_names);

    if (count < 0)
        return error_set(error, -count, "cannot use the sockets that systemd passed: %s", strerror(-count));
    return count;
}
