// Refuses a request head that two HTTP implementations could read differently (RFC 9112). libmicrohttpd 0.9.75 accepts
// many such heads even in its strict mode, for example with two lengths, with a length together with chunked encoding,
// or with invalid header names. This framing guard allocates no memory and does not depend on a connection.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The result of reading the headers. The caller zeroes the struct before the first header.
struct framing {
    const char *fault;                    // the first fault as an English sentence; NULL: none so far
    unsigned int hosts, lengths, codings; // number of Host, Content-Length and Transfer-Encoding headers
    uint64_t length;                      // valid if lengths == 1; UINT64_MAX: this number or a larger one
    bool encoded;                         // there is a Content-Encoding other than identity
    bool expects;                         // the client waits for 100 Continue
};

// Adds one header as received. The order of the headers does not matter. Neither `name` nor `value` needs a terminating
// NUL.
void framing_add(struct framing *framing, const char *name, size_t name_length, const char *value, size_t value_length);

// The caller calls this after the last header. Returns the fault, or NULL if the head can be read in one way only.
const char *framing_finish(struct framing *framing, const char *method, const char *target, const char *version);
