// The sockets that `serve` listens on: passed by systemd, or opened as the configuration says. Beside a passed one for
// callbacks no admin socket is opened, because such a service may have been cut off from the network.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "config.h"
#include "imcallbackd/base/error.h"

#define LISTENERS_MAX 16

struct listeners {
    int callback_fds[LISTENERS_MAX];
    size_t callback_count;
    int admin_fd;                  // -1: there is none
    bool callback_fds_were_passed; // and are listened on after us, too
};

// Errors name the place in the configuration. listeners_close has to follow in every case.
int listeners_open(const struct config *config, struct listeners *listeners, struct error *error) MUST_CHECK;
void listeners_close(struct listeners *listeners);
