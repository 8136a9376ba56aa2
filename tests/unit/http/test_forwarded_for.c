// Tests which client the X-Forwarded-For headers of a request name.
#include <string.h>

#include "../unit.h"
#include "http/forwarded_for.h"

#define MAX_LINES 4
#define XFF       "X-Forwarded-For"

struct header {
    const char *name, *value;
};

static const struct {
    struct header headers[MAX_LINES]; // up to the first NULL name
    const char *client;               // NULL: the last entry is not an address
} rows[] = {
    {{{XFF, "192.0.2.1"}}, "192.0.2.1"},
    {{{"x-forwarded-FOR", "192.0.2.1"}}, "192.0.2.1"},
    {{{XFF, "192.0.2.1:443"}}, "192.0.2.1"},
    {{{XFF, "192.0.2.1:0"}}, "192.0.2.1"},
    {{{XFF, "192.0.2.1:65535"}}, "192.0.2.1"},
    {{{XFF, "2001:db8::1"}}, "2001:db8::1"},
    {{{XFF, "2001:DB8:0::1"}}, "2001:db8::1"},
    {{{XFF, "2001:db8::1:443"}}, "2001:db8::1:443"}, // without brackets, no port can follow
    {{{XFF, "::"}}, "::"},
    {{{XFF, "[2001:db8::1]"}}, "2001:db8::1"},
    {{{XFF, "[2001:db8::1]:443"}}, "2001:db8::1"},
    {{{XFF, "::ffff:192.0.2.1"}}, "192.0.2.1"},
    {{{XFF, "[::ffff:192.0.2.1]:1"}}, "192.0.2.1"},
    {{{XFF, "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"}}, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {{{XFF, " \t192.0.2.1\t "}}, "192.0.2.1"},

    // Several entries and lines
    {{{XFF, "192.0.2.1, 192.0.2.2"}}, "192.0.2.2"},
    {{{XFF, "192.0.2.1,192.0.2.2"}}, "192.0.2.2"},
    {{{XFF, "192.0.2.1 ,\t192.0.2.2"}}, "192.0.2.2"},
    {{{XFF, "unknown, 192.0.2.2"}}, "192.0.2.2"},
    {{{XFF, ",,, 192.0.2.2"}}, "192.0.2.2"},
    {{{XFF, "192.0.2.1"}, {XFF, "192.0.2.2"}}, "192.0.2.2"},
    {{{XFF, "192.0.2.1, 192.0.2.3"}, {"x-forwarded-for", "192.0.2.4, 192.0.2.2"}}, "192.0.2.2"},
    {{{XFF, "192.0.2.2"}, {"X-Forwarded-Host", "192.0.2.3"}, {"Forwarded", "for=192.0.2.4"}}, "192.0.2.2"},
    {{{XFF, "unknown"}, {XFF, "192.0.2.2"}}, "192.0.2.2"},
    {{{XFF, "192.0.2.2"}, {"X-Forwarded-For2", "192.0.2.3"}, {"X_Forwarded_For", "192.0.2.4"}}, "192.0.2.2"},

    // The last entry is not an address. No earlier entry or header counts instead, because the client may have forged
    // it.
    {{{XFF, ""}}, NULL},
    {{{XFF, " \t "}}, NULL},
    {{{XFF, ","}}, NULL},
    {{{XFF, "192.0.2.1,"}}, NULL},
    {{{XFF, "192.0.2.1, \t"}}, NULL},
    {{{XFF, "192.0.2.1"}, {XFF, ""}}, NULL},
    {{{XFF, "192.0.2.1"}, {XFF, "unknown"}}, NULL},
    {{{XFF, "192.0.2.1, unknown"}}, NULL},
    {{{XFF, "unknown"}}, NULL},
    {{{XFF, "_hidden"}}, NULL},
    {{{XFF, "unix:"}}, NULL},
    {{{XFF, "localhost"}}, NULL},
    {{{XFF, "192.0.2.1; 192.0.2.2"}}, NULL},
    {{{XFF, "192.0.2.1 192.0.2.2"}}, NULL},
    {{{XFF, "\"192.0.2.1\""}}, NULL},
    {{{XFF, "for=192.0.2.1"}}, NULL},
    {{{XFF, "192.0.2.0/24"}}, NULL},
    {{{XFF, "192.0.2"}}, NULL},
    {{{XFF, "192.0.2.01"}}, NULL},
    {{{XFF, "192.0.2.256"}}, NULL},
    {{{XFF, "3221225985"}}, NULL},
    {{{XFF, "0xc0.0.2.1"}}, NULL},
    {{{XFF, "192.0.2.1:"}}, NULL},
    {{{XFF, "192.0.2.1:65536"}}, NULL},
    {{{XFF, "192.0.2.1:-1"}}, NULL},
    {{{XFF, "192.0.2.1:http"}}, NULL},
    {{{XFF, "192.0.2.1:443 "}, {XFF, "192.0.2.1 :443"}}, NULL},
    {{{XFF, ":443"}}, NULL},
    {{{XFF, "[192.0.2.1]"}}, NULL},
    {{{XFF, "[192.0.2.1]:443"}}, NULL},
    {{{XFF, "[]"}}, NULL},
    {{{XFF, "["}}, NULL},
    {{{XFF, "[2001:db8::1"}}, NULL},
    {{{XFF, "2001:db8::1]"}}, NULL},
    {{{XFF, "[2001:db8::1]443"}}, NULL},
    {{{XFF, "[2001:db8::1]:"}}, NULL},
    {{{XFF, "[2001:db8::1]:443:443"}}, NULL},
    {{{XFF, "[ 2001:db8::1]"}}, NULL},
    {{{XFF, "[[2001:db8::1]]"}}, NULL},
    {{{XFF, "fe80::1%eth0"}}, NULL},
    {{{XFF, "[fe80::1%25eth0]"}}, NULL},
    {{{XFF, "2001:db8:::1"}}, NULL},
    {{{XFF, "1:2:3:4:5:6:7:8:9"}}, NULL},
    {{{XFF, "00000000000000000000000000000000000000000000000::1"}}, NULL},
};

static void add(struct forwarded_for *forwarded_for, const struct header *header)
{
    forwarded_for_add(forwarded_for, header->name, strlen(header->name), header->value, strlen(header->value));
}

TEST(reads_the_last_entry)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct forwarded_for forwarded_for = {0};
        char text[ADDRESS_TEXT_BYTES] = "none";

        for (size_t j = 0; j < MAX_LINES && rows[i].headers[j].name; j++)
            add(&forwarded_for, &rows[i].headers[j]);
        assert_true(forwarded_for.is_present);
        if (forwarded_for.is_address)
            address_print(&forwarded_for.address, text);
        if (strcmp(text, rows[i].client ? rows[i].client : "none") != 0)
            fail_msg("row %zu, '%s': %s", i, rows[i].headers[0].value, text);
    }
}

TEST(ignores_other_headers)
{
    static const struct header others[] = {
        {"Host", "192.0.2.1"},           {"", "192.0.2.1"},
        {"X-Forwarded-Fo", "192.0.2.1"}, {"X-Forwarded-For-", "192.0.2.1"},
        {"X-Real-IP", "192.0.2.1"},      {"Forwarded", "for=192.0.2.1"},
    };
    struct forwarded_for forwarded_for = {0};

    for (size_t i = 0; i < COUNT(others); i++)
        add(&forwarded_for, &others[i]);
    assert_false(forwarded_for.is_present);
    assert_false(forwarded_for.is_address);
}

// Neither the name nor the value needs a terminating NUL. A NUL within the value is an invalid byte, not its end.
TEST(reads_no_further_than_the_length)
{
    struct forwarded_for forwarded_for = {0};

    forwarded_for_add(&forwarded_for, "X-Forwarded-Forever", 15, "192.0.2.12", 9);
    assert_true(forwarded_for.is_address);
    assert_int_equal(forwarded_for.address.bytes[15], 1);
    forwarded_for_add(&forwarded_for, XFF, 15, "192.0.2.1\0", 10);
    assert_false(forwarded_for.is_address);
    forwarded_for_add(&forwarded_for, XFF, 15,
                      "192.0.2.1\0"
                      "23",
                      12);
    assert_false(forwarded_for.is_address);
    forwarded_for_add(&forwarded_for, XFF, 15, "192.0.2.1:4\0", 12);
    assert_false(forwarded_for.is_address);
}

TEST_MAIN(NULL, NULL)
