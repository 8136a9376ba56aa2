// The framing guard: what can be read in two ways is refused. libmicrohttpd 0.9.75 lets a good deal through even when
// it is strict (two lengths, a length beside chunked, odd names), so every header is looked at here, after RFC 9112.
// Pure: no connection, no memory.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Zeroed before the first header.
struct framing {
    const char *fault; // what is wrong, one English sentence; NULL for nothing yet
    unsigned int hosts, lengths, codings;
    uint64_t length; // with lengths == 1; UINT64_MAX when it is larger than any number that fits
    bool encoded;    // a Content-Encoding other than identity
    bool expects;    // the caller waits for 100 Continue
};

// One header as it came, in any order. Neither text needs a NUL behind it.
void framing_add(struct framing *framing, const char *name, size_t name_length, const char *value, size_t value_length);

// After the last header. Returns the fault, or NULL for a head that has one reading only.
const char *framing_finish(struct framing *framing, const char *method, const char *target, const char *version);
