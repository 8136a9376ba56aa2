// Reads the last entry of each X-Forwarded-For header, so that the entry of the last header remains. An empty entry
// counts: otherwise an entry before it, which the client may have forged, would name the client.
#include "forwarded_for.h"

#include <string.h>
#include <strings.h>

#include "imcallbackd/base/parse.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

// Returns true if the text is empty or consists of a colon and a port number.
static bool is_port(const char *text, size_t length)
{
    uint64_t port;

    return length == 0 || (text[0] == ':' && parse_decimal(text + 1, length - 1, 65535, &port) == 0);
}

static bool read_entry(const char *entry, size_t length, struct address *ret_address)
{
    const char *end = entry + length, *first_colon = memchr(entry, ':', length), *bracket;

    if (length > 0 && entry[0] == '[') {
        bracket = memchr(entry, ']', length);
        return bracket && first_colon && first_colon < bracket && is_port(bracket + 1, (size_t)(end - bracket - 1)) &&
               address_parse_bytes(entry + 1, (size_t)(bracket - entry - 1), ret_address);
    }
    // An IPv6 address has two colons or more, and without brackets it has no port.
    if (first_colon && first_colon == memrchr(entry, ':', length)) {
        if (!is_port(first_colon, (size_t)(end - first_colon)))
            return false;
        end = first_colon;
    }
    return address_parse_bytes(entry, (size_t)(end - entry), ret_address);
}

void forwarded_for_add(struct forwarded_for *forwarded_for, const char *name, size_t name_length, const char *value,
                       size_t value_length)
{
    static const char expected[] = "X-Forwarded-For";
    const char *end = value + value_length, *comma;

    if (name_length != sizeof expected - 1 || strncasecmp(name, expected, name_length) != 0)
        return;
    comma = memrchr(value, ',', value_length);
    if (comma)
        value = comma + 1;
    while (value < end && is_space(*value))
        value++;
    while (value < end && is_space(end[-1]))
        end--;
    forwarded_for->is_present = true;
    forwarded_for->is_address = read_entry(value, (size_t)(end - value), &forwarded_for->address);
}
