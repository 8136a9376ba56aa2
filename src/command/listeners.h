// Provides the sockets that `serve` listens on. systemd passes the sockets, or the daemon opens them according to the
// configuration. If systemd passes a callback socket, the daemon opens no admin socket, because the unit may deny the
// daemon network access.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "imcallbackd/base/error.h"

#define LISTENERS_MAX 16 // including the admin socket

struct listeners {
    int callback_fds[LISTENERS_MAX];
    size_t callback_count;
    int admin_fd;                  // -1: no admin socket
    bool callback_fds_were_passed; // systemd keeps listening on the sockets after the daemon has stopped
};

// Initializes *listeners, and adopts or opens the sockets. If a configured address cannot be used, the error names its
// place in the configuration. Returns 0 or -errno. The caller must call listeners_close, even after an error.
int listeners_open(const struct config *config, struct listeners *listeners, struct error *error) MUST_CHECK;
void listeners_close(struct listeners *listeners);
