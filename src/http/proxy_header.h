// Parses the header of the PROXY protocol, versions 1 and 2, which a proxy sends before the first byte of TLS. The
// parser is a pure function over the bytes received so far: it keeps no state, allocates no memory, and never reads
// past the header.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/address.h"

#define PROXY_HEADER_V1_BYTES       107 // the longest line with its CRLF
#define PROXY_HEADER_V2_FIXED_BYTES 16
#define PROXY_HEADER_V2_BYTES       2048 // the most bytes after the fixed part: addresses and TLVs
#define PROXY_HEADER_BYTES          (PROXY_HEADER_V2_FIXED_BYTES + PROXY_HEADER_V2_BYTES) // the longest header

enum proxy_header_result {
    PROXY_HEADER_ABSENT,     // the bytes are not the start of a header of either version
    PROXY_HEADER_INCOMPLETE, // further bytes decide
    PROXY_HEADER_CLIENT,     // complete; the header names the client
    PROXY_HEADER_LOCAL,      // complete; the header names no client: LOCAL, UNKNOWN, UNSPEC or a Unix socket
    PROXY_HEADER_MALFORMED,
};

struct proxy_header {
    size_t length;         // of a complete header
    struct address client; // for PROXY_HEADER_CLIENT
    const char *fault;     // for PROXY_HEADER_MALFORMED, an English clause
};

// Any result but PROXY_HEADER_INCOMPLETE is final: further bytes do not change the result. Only the first
// PROXY_HEADER_BYTES bytes of the data matter.
enum proxy_header_result proxy_header_parse(const void *data, size_t size, struct proxy_header *ret_header);
