// Declares the interface between the load generator for Redis and PostgreSQL (rivals.c) and the clients of the two
// protocols (redis_client.c, postgres_client.c). A client has at most one request in flight.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"

#define FIRST_EVENT_TIME_MS INT64_C(1700000000000)

struct rivals_options {
    uint64_t port, seed, connections, total, members;
    const char *ca; // file with the certificate that the server must have
};

enum progress { WAITING, RECORDED, REFUSED };

struct protocol {
    // Connects and completes the handshake. Returns the client, which the caller never frees, and its socket, which
    // does not block.
    void *(*connect)(const struct rivals_options *options, int *ret_fd);
    // Sends a request to record the event with this number.
    void (*send)(void *client, const struct rivals_options *options, uint64_t event);
    // Reads what has arrived of the answer.
    enum progress (*receive)(void *client);
};

extern const struct protocol redis_protocol, postgres_protocol;

// Prints `imcallbackd-bench-rivals: what: why` on standard error and exits with status 2.
_Noreturn void die(const char *what, const char *why);

// Returns zeroed memory. Ends the program if there is none.
void *allocate(size_t count, size_t size);
