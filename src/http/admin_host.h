// Decides whether the admin server may answer a request, by the request's Host header. A web page of another site can
// point its own host name at a loopback address (DNS rebinding), and the browser then lets this page read the answers.
// Such a request carries the site's name as Host. A pure function, which allocates no memory.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// `host` is the value of the header as received and needs no terminating NUL. Returns true if the host is one of these,
// with or without a port:
// - an IPv4 address, or an IPv6 address in brackets
// - localhost
// - `machine`, the machine's own name, or the part of `machine` before its first dot
// - a name in `names`, a list separated by spaces, tabs or commas; NULL stands for an empty list
// Names are compared without regard to case and to a dot at their end.
bool admin_host_is_allowed(const char *host, size_t length, const char *machine, const char *names);
