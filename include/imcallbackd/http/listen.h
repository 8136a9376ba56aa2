// Opens listening sockets, and checks those that systemd passes. Functions that return int return 0 or a negative errno
// value.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"

#define LISTEN_NAME_BYTES 128 // "[address]:port" or "unix:path" with its NUL

// Opens a non-blocking listening socket. The address is a numeric IPv4 or IPv6 address; "::" accepts both families.
// With port 0, the kernel chooses a free port. The caller closes *ret_fd. Returns -EADDRNOTAVAIL if the machine does
// not have the address.
int listen_open(const char *address, unsigned int port, int *ret_fd, struct error *error) MUST_CHECK;

// Checks that a descriptor passed by systemd is a listening TCP socket or, if accepts_unix is set, a listening Unix
// stream socket. Makes the socket non-blocking. The caller closes the socket.
int listen_adopt(int fd, bool accepts_unix, struct error *error) MUST_CHECK;

// Returns the TCP port that the socket is bound to, or 0 if the socket is a Unix socket.
unsigned int listen_port(int fd);

// Prints the address that the socket is bound to: "127.0.0.1:8443", "[::1]:8443" or "unix:/run/socket".
void listen_name(int fd, char name[LISTEN_NAME_BYTES]);
