// Reads the client's address from the X-Forwarded-For headers of a request that a trusted proxy forwards. Each proxy
// appends the address of its own client, so only the last entry is the trusted proxy's own statement. The parser
// allocates no memory.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/address.h"

// The caller zeroes the struct before the first header.
struct forwarded_for {
    bool is_present;        // at least one X-Forwarded-For header was added
    bool is_address;        // the last entry is an address
    struct address address; // that address
};

// Adds one header as received, or ignores it if it has another name. The caller adds the headers of a request in their
// order. Neither `name` nor `value` needs a terminating NUL. An entry is an IPv4 address, an IPv6 address or an IPv6
// address in brackets; a port may follow the first and the last form.
void forwarded_for_add(struct forwarded_for *forwarded_for, const char *name, size_t name_length, const char *value,
                       size_t value_length);
