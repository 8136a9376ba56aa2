// The query of the callback URL, taken apart.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/arena.h"
#include "imcallbackd/base/error.h"

// Names are matched without regard to case, since editions of the documentation differ; values stay byte-exact, with
// %XX decoded. A key without '=' has the value "".
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
    const char *text; // the first that came; NULL: none came
    bool repeated;
    bool malformed; // a broken %-escape or %00 in it
};

struct query {
    struct query_value values[QUERY_NAMES];
};

// What the operator put into the URL besides is skipped. Texts are in the arena. -ENOMEM when it is full.
int query_read(struct arena *arena, const char *text, struct query *ret_query) MUST_CHECK;
