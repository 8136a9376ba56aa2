// Splits the query of the callback URL into its parameters.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/arena.h"
#include "imcallbackd/base/error.h"

// The parameters that the protocol defines. Names are case-insensitive, because editions of the documentation
// capitalize them differently. Values are case-sensitive, and %XX is decoded before a comparison. A name without '='
// has the value "".
enum query_name {
    QUERY_SDK_APPID,
    QUERY_CALLBACK_COMMAND,
    QUERY_SIGN,
    QUERY_REQUEST_TIME,
    QUERY_CLIENT_IP,
    QUERY_OPT_PLATFORM,
    QUERY_NAMES,
};

struct query_value {
    const char *text; // value of the first parameter with this name; NULL: the query has none
    bool repeated;
    bool malformed; // the value has an invalid %-escape or %00; text ends before it
};

struct query {
    struct query_value values[QUERY_NAMES];
};

// Reads the parameters that the protocol defines, and ignores others, which the operator may have added to the URL. The
// texts are in the arena. Returns 0, or -ENOMEM if the arena has no memory left.
int query_read(struct arena *arena, const char *text, struct query *ret_query) MUST_CHECK;
