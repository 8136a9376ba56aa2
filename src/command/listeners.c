// Adopts the sockets that systemd has passed, and opens the missing ones if no callback socket is among them. A
// descriptor is stored before listen_adopt checks it, so that listeners_close also closes a rejected one.
#include "listeners.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/http/listen.h"
#include "service_manager.h"

// The name is FileDescriptorName= of the socket unit.
static int adopt_one(struct listeners *listeners, int fd, const char *name, struct error *error)
{
    bool is_admin = strcmp(name, "admin") == 0;

    assert(listeners->callback_count < LISTENERS_MAX);
    if (is_admin && listeners->admin_fd >= 0)
        return error_set(error, EINVAL, "systemd passed two sockets named admin; pass at most one");
    if (is_admin)
        listeners->admin_fd = fd;
    else
        listeners->callback_fds[listeners->callback_count++] = fd;
    return listen_adopt(fd, is_admin, error);
}

static int adopt(struct listeners *listeners, struct error *error)
{
    char **names = NULL;
    int passed = service_manager_take_sockets(&names, error), r = 0;

    if (passed < 0)
        return passed;
    if (passed > LISTENERS_MAX)
        r = error_set(error, EINVAL, "systemd passed %d sockets; pass at most %d", passed, LISTENERS_MAX);
    for (int i = 0; i < passed && r == 0; i++)
        r = adopt_one(listeners, SERVICE_MANAGER_FIRST_SOCKET + i, names[i], error);
    for (int i = 0; i < passed; i++)
        free(names[i]);
    free(names);
    listeners->callback_fds_were_passed = listeners->callback_count > 0;
    return r;
}

static int open_one(const struct config *config, const struct config_value *address, const struct config_value *port,
                    int *ret_fd, struct error *error)
{
    int r = listen_open(address->text, (unsigned int)port->number, ret_fd, error);

    return config_wrap_result(config, r == -EADDRNOTAVAIL ? address : port, r, error);
}

int listeners_open(const struct config *config, struct listeners *listeners, struct error *error)
{
    int r;

    *listeners = (struct listeners){.admin_fd = -1};
    r = adopt(listeners, error);
    if (r < 0)
        return r;
    if (listeners->callback_fds_were_passed) {
        if (listeners->admin_fd < 0 && config->admin_port.number > 0)
            log_warning("monitoring is off: systemd passed no socket named admin; start imcallbackd-admin.socket or "
                        "set [admin] port = 0");
        return 0;
    }
    r = open_one(config, &config->listen_address, &config->listen_port, &listeners->callback_fds[0], error);
    if (r < 0)
        return r;
    listeners->callback_count = 1;
    if (listeners->admin_fd < 0 && config->admin_port.number > 0)
        r = open_one(config, &config->admin_address, &config->admin_port, &listeners->admin_fd, error);
    return r;
}

void listeners_close(struct listeners *listeners)
{
    for (size_t i = 0; i < listeners->callback_count; i++)
        close(listeners->callback_fds[i]);
    if (listeners->admin_fd >= 0)
        close(listeners->admin_fd);
    *listeners = (struct listeners){.admin_fd = -1};
}
