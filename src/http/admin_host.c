// Accepts only a whole Host header that has one of the expected forms. Everything else is refused, because a browser
// never sends another form for the address of a page that the operator opens.
#include "admin_host.h"

#include <string.h>
#include <strings.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/base/parse.h"

#define SEPARATORS " \t,"

// A name within a longer text.
struct name {
    const char *text;
    size_t length; // without a dot at the end
};

static struct name make_name(const char *text, size_t length)
{
    bool has_dot = length > 0 && text[length - 1] == '.';

    return (struct name){text, has_dot ? length - 1 : length};
}

static bool equals(struct name one, struct name other)
{
    return one.length > 0 && one.length == other.length && strncasecmp(one.text, other.text, one.length) == 0;
}

static bool is_listed(struct name name, const char *names)
{
    for (const char *at = names + strspn(names, SEPARATORS); *at; at += strspn(at, SEPARATORS)) {
        size_t length = strcspn(at, SEPARATORS);

        if (equals(name, make_name(at, length)))
            return true;
        at += length;
    }
    return false;
}

// The text is empty, or a colon and a port.
static bool is_port(const char *text, size_t length)
{
    uint64_t port;

    return length == 0 || (text[0] == ':' && parse_decimal(text + 1, length - 1, 65535, &port) == 0);
}

bool admin_host_is_allowed(const char *host, size_t length, const char *machine, const char *names)
{
    const char *end = host + length, *colon = memchr(host, ':', length), *bracket;
    struct address address;
    struct name name;

    if (length > 0 && host[0] == '[') {
        bracket = memchr(host, ']', length);
        return bracket && colon && colon < bracket && is_port(bracket + 1, (size_t)(end - bracket - 1)) &&
               address_parse_bytes(host + 1, (size_t)(bracket - host - 1), &address);
    }
    if (colon && !is_port(colon, (size_t)(end - colon)))
        return false;
    length = colon ? (size_t)(colon - host) : length;
    name = make_name(host, length);
    return address_parse_bytes(host, length, &address) || equals(name, make_name("localhost", strlen("localhost"))) ||
           equals(name, make_name(machine, strlen(machine))) ||
           equals(name, make_name(machine, strcspn(machine, "."))) || (names && is_listed(name, names));
}
