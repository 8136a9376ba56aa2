// Parses without strtoull(), which accepts leading space, signs and text after the number.
#include "imcallbackd/base/parse.h"

#include <errno.h>
#include <string.h>

int parse_decimal(const char *text, size_t length, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;
    bool too_large = false;

    if (length == 0)
        return -EINVAL;
    for (size_t i = 0; i < length; i++) {
        unsigned int digit = (unsigned char)text[i] - (unsigned int)'0';

        if (digit > 9)
            return -EINVAL;
        if (digit > max || value > (max - digit) / 10)
            too_large = true;
        if (!too_large)
            value = value * 10 + digit;
    }
    if (too_large)
        return -ERANGE;
    *ret_value = value;
    return 0;
}

struct unit {
    const char *name;
    uint64_t factor;
};

// Reads digits that are followed by exactly one of the units. The array ends with a NULL name.
static int parse_with_unit(const char *text, const struct unit *units, uint64_t max, uint64_t *ret_value)
{
    size_t digits = strspn(text, "0123456789");
    uint64_t number;

    for (const struct unit *unit = units; unit->name; unit++) {
        int r;

        if (strcmp(text + digits, unit->name) != 0)
            continue;
        r = parse_decimal(text, digits, max / unit->factor, &number);
        if (r < 0)
            return r;
        *ret_value = number * unit->factor;
        return 0;
    }
    return -EINVAL;
}

int parse_duration_ms(const char *text, uint64_t max_ms, uint64_t *ret_ms)
{
    static const struct unit units[] = {{"ms", 1},      {"s", 1000},     {"m", 60000},
                                        {"h", 3600000}, {"d", 86400000}, {NULL, 0}};

    return parse_with_unit(text, units, max_ms, ret_ms);
}

int parse_size_bytes(const char *text, uint64_t max_bytes, uint64_t *ret_bytes)
{
    static const struct unit units[] = {{"", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {NULL, 0}};

    return parse_with_unit(text, units, max_bytes, ret_bytes);
}

int parse_boolean(const char *text, bool *ret_value)
{
    static const char *const yes[] = {"yes", "true", "on"}, *const no[] = {"no", "false", "off"};

    for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret_value = strcmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return -EINVAL;
}

int parse_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}
