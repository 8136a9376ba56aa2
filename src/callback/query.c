// Decodes a copy of the query in place. The first value of a repeated parameter counts, and a flag records the
// repetition.
#include "query.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "imcallbackd/base/parse.h"

static const char *const names[QUERY_NAMES] = {
    [QUERY_SDK_APPID] = "SdkAppid", [QUERY_CALLBACK_COMMAND] = "CallbackCommand",
    [QUERY_SIGN] = "Sign",          [QUERY_REQUEST_TIME] = "RequestTime",
    [QUERY_CLIENT_IP] = "ClientIP", [QUERY_OPT_PLATFORM] = "OptPlatform",
};

// Decodes %XX in place. '+' stays '+', because only HTML forms encode a space as '+'. Returns false if an escape is
// invalid or is %00, and ends the text there.
static bool decode(char *text)
{
    char *to = text;

    for (const char *from = text; *from; from++) {
        int high, low;

        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        high = parse_hex_digit(from[1]);
        low = high < 0 ? -1 : parse_hex_digit(from[2]);
        if (low < 0 || high + low == 0) {
            *to = '\0';
            return false;
        }
        *to++ = (char)(high << 4 | low);
        from += 2;
    }
    *to = '\0';
    return true;
}

static void read_pair(struct query *query, char *pair)
{
    char *value = strchr(pair, '=');
    bool name_is_valid;

    if (value)
        *value++ = '\0';
    else
        value = pair + strlen(pair);
    name_is_valid = decode(pair);
    for (size_t i = 0; i < QUERY_NAMES && name_is_valid; i++) {
        struct query_value *known = &query->values[i];

        if (strcasecmp(pair, names[i]) != 0)
            continue;
        if (known->text) {
            known->repeated = true;
            return;
        }
        *known = (struct query_value){.text = value, .malformed = !decode(value)};
        return;
    }
}

int query_read(struct arena *arena, const char *text, struct query *ret_query)
{
    char *copy = arena_copy(arena, text, strlen(text));

    *ret_query = (struct query){0};
    if (!copy)
        return -ENOMEM;
    for (char *pair = strsep(&copy, "&"); pair; pair = strsep(&copy, "&"))
        read_pair(ret_query, pair);
    return 0;
}
