// Listening sockets. Functions that can fail return -errno.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/error.h"

#define LISTEN_NAME_BYTES 128 // "[address]:port" or "unix:path" with its NUL

// Binds and listens, non-blocking. address: numeric IPv4 or IPv6; "::" takes both families. port 0: any free one.
// The caller closes *ret_fd. -EADDRNOTAVAIL: the machine has no such address.
int listen_open(const char *address, unsigned int port, int *ret_fd, struct error *error) MUST_CHECK;

// Accepts a socket that systemd passed only if it is a listening TCP socket, or, where that is good too, a listening
// Unix stream socket; makes it non-blocking. It stays the caller's to close.
int listen_adopt(int fd, bool unix_too, struct error *error) MUST_CHECK;

// "127.0.0.1:8443", "[::1]:8443" or "unix:/run/socket", as the socket is really bound.
void listen_name(int fd, char name[LISTEN_NAME_BYTES]);
