// Tests which PROXY headers the parser accepts, which client they name, and that each header may arrive in pieces.
#include <stdio.h>
#include <string.h>

#include "../unit.h"
#include "http/proxy_header.h"

#define V2       "\r\n\r\n\0\r\nQUIT\n"
#define V4_PAIR  "\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb"
#define V6_ONE   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
#define V6_TWO   "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02"
#define V6_PAIR  V6_ONE V6_TWO "\x30\x39\x01\xbb"
#define MAPPED   "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"
#define V4_FIELD "192.0.2.1 198.51.100.2 12345 443"

#define CLIENT    PROXY_HEADER_CLIENT
#define LOCAL     PROXY_HEADER_LOCAL
#define ABSENT    PROXY_HEADER_ABSENT
#define MALFORMED PROXY_HEADER_MALFORMED
#define WAITING   PROXY_HEADER_INCOMPLETE

#define BYTES(text) (text), sizeof(text) - 1

struct row {
    const char *data;
    size_t size;
    enum proxy_header_result result;
    const char *expected; // the client, or a part of the fault
};

static const struct row rows[] = {
    // Version 1
    {BYTES("PROXY TCP4 " V4_FIELD "\r\n"), CLIENT, "192.0.2.1"},
    {BYTES("PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"), CLIENT, "0.0.0.0"},
    {BYTES("PROXY TCP6 2001:db8::1 ::2 1 2\r\n"), CLIENT, "2001:db8::1"},
    {BYTES("PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::2 1 2\r\n"), CLIENT, "2001:db8::1"},
    {BYTES("PROXY TCP6 ::ffff:192.0.2.1 ::2 1 2\r\n"), CLIENT, "192.0.2.1"},
    {BYTES("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
           "65535 65535\r\n"),
     CLIENT, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {BYTES("PROXY UNKNOWN\r\n"), LOCAL, NULL},
    {BYTES("PROXY UNKNOWN \r\n"), LOCAL, NULL},
    {BYTES("PROXY UNKNOWN 192.0.2.1 \xff\0 what ever\r\n"), LOCAL, NULL},
    {BYTES("PROXY\r\n"), MALFORMED, "TCP4, TCP6 or UNKNOWN"},
    {BYTES("PROXY \r\n"), MALFORMED, "TCP4, TCP6 or UNKNOWN"},
    {BYTES("PROXYTCP4 " V4_FIELD "\r\n"), MALFORMED, "no space"},
    {BYTES("PROXY\tTCP4 " V4_FIELD "\r\n"), MALFORMED, "no space"},
    {BYTES("PROXY  TCP4 " V4_FIELD "\r\n"), MALFORMED, "TCP4, TCP6 or UNKNOWN"},
    {BYTES("PROXY tcp4 " V4_FIELD "\r\n"), MALFORMED, "TCP4, TCP6 or UNKNOWN"},
    {BYTES("PROXY TCP " V4_FIELD "\r\n"), MALFORMED, "TCP4, TCP6 or UNKNOWN"},
    {BYTES("PROXY TCP46 " V4_FIELD "\r\n"), MALFORMED, "TCP4, TCP6 or UNKNOWN"},
    {BYTES("PROXY UDP4 " V4_FIELD "\r\n"), MALFORMED, "TCP4, TCP6 or UNKNOWN"},
    {BYTES("PROXY UNKNOWNX\r\n"), MALFORMED, "TCP4, TCP6 or UNKNOWN"},
    {BYTES("PROXY TCP4\r\n"), MALFORMED, "six fields"},
    {BYTES("PROXY TCP4 192.0.2.1 198.51.100.2 12345\r\n"), MALFORMED, "six fields"},
    {BYTES("PROXY TCP4 " V4_FIELD " \r\n"), MALFORMED, "six fields"},
    {BYTES("PROXY TCP4 " V4_FIELD " 5\r\n"), MALFORMED, "six fields"},
    {BYTES("PROXY TCP4  192.0.2.1 198.51.100.2 12345 443\r\n"), MALFORMED, "six fields"},
    {BYTES("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP4 192.0.2.1 localhost 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP4 192.0.2.1\0 192.0.2.2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP4 192.0.2.1\0x 192.0.2.2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP6 [::1] ::2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n"), MALFORMED, "an address"},
    {BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n"), MALFORMED, "a port"},
    {BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 0443\r\n"), MALFORMED, "a port"},
    {BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 00 443\r\n"), MALFORMED, "a port"},
    {BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 +1 443\r\n"), MALFORMED, "a port"},
    {BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 1 http\r\n"), MALFORMED, "a port"},
    {BYTES("PROXY TCP4 " V4_FIELD "\n"), MALFORMED, "line feed without"},
    {BYTES("PROXY UNKNOWN a\nb\r\n"), MALFORMED, "line feed without"},
    {BYTES("PROXY TCP4 " V4_FIELD "\r\r\n"), MALFORMED, "carriage return without"},
    {BYTES("PROXY TCP4\r " V4_FIELD "\r\n"), MALFORMED, "carriage return without"},
    {BYTES("PROXY TCP4 " V4_FIELD "\r"), WAITING, NULL},

    // Version 2. The first byte after the signature is version and command, the second one family and protocol.
    {BYTES(V2 "\x21\x11\0\x0c" V4_PAIR), CLIENT, "192.0.2.1"},
    {BYTES(V2 "\x21\x11\0\x10" V4_PAIR "\x04\0\x01x"), CLIENT, "192.0.2.1"},
    {BYTES(V2 "\x21\x11\0\x0e" V4_PAIR "\xff\xff"), CLIENT, "192.0.2.1"}, // an incomplete TLV
    {BYTES(V2 "\x21\x21\0\x24" V6_PAIR), CLIENT, "2001:db8::1"},
    {BYTES(V2 "\x21\x21\0\x24" MAPPED V6_TWO "\x30\x39\x01\xbb"), CLIENT, "192.0.2.1"},
    {BYTES(V2 "\x20\x00\0\0"), LOCAL, NULL},
    {BYTES(V2 "\x20\x11\0\x0c" V4_PAIR), LOCAL, NULL},
    {BYTES(V2 "\x20\x11\0\x01x"), LOCAL, NULL},
    {BYTES(V2 "\x20\xff\0\x01x"), LOCAL, NULL},
    {BYTES(V2 "\x21\x00\0\0"), LOCAL, NULL},
    {BYTES(V2 "\x21\x02\0\x03xyz"), LOCAL, NULL},
    {BYTES(V2 "\x11\x11\0\x0c" V4_PAIR), MALFORMED, "version is not 2"},
    {BYTES(V2 "\x31\x11\0\x0c" V4_PAIR), MALFORMED, "version is not 2"},
    {BYTES(V2 "\x01\x11\0\x0c" V4_PAIR), MALFORMED, "version is not 2"},
    {BYTES(V2 "\x22\x11\0\x0c" V4_PAIR), MALFORMED, "command"},
    {BYTES(V2 "\x2f\x11\0\x0c" V4_PAIR), MALFORMED, "command"},
    {BYTES(V2 "\x21\x41\0\x0c" V4_PAIR), MALFORMED, "unknown"},
    {BYTES(V2 "\x21\xf1\0\x0c" V4_PAIR), MALFORMED, "unknown"},
    {BYTES(V2 "\x21\x13\0\x0c" V4_PAIR), MALFORMED, "unknown"},
    {BYTES(V2 "\x21\x03\0\0"), MALFORMED, "unknown"},
    {BYTES(V2 "\x21\x10\0\x0c" V4_PAIR), MALFORMED, "not a stream"},
    {BYTES(V2 "\x21\x12\0\x0c" V4_PAIR), MALFORMED, "not a stream"},
    {BYTES(V2 "\x21\x22\0\x24" V6_PAIR), MALFORMED, "not a stream"},
    {BYTES(V2 "\x21\x11\0\x0b" V4_PAIR), MALFORMED, "too short"},
    {BYTES(V2 "\x21\x11\0\0"), MALFORMED, "too short"},
    {BYTES(V2 "\x21\x21\0\x23" V6_PAIR), MALFORMED, "too short"},
    {BYTES(V2 "\x21\x31\0\xd7"), MALFORMED, "too short"},
    {BYTES(V2 "\x21\x31\0\xd8"), WAITING, NULL},
    {BYTES(V2 "\x21\x11\x08\x00"), WAITING, NULL}, // 2048
    {BYTES(V2 "\x20\x00\x08\x00"), WAITING, NULL},
    {BYTES(V2 "\x21\x11\x08\x01"), MALFORMED, "2048"},
    {BYTES(V2 "\x20\x00\x08\x01"), MALFORMED, "2048"},
    {BYTES(V2 "\x21\x11\xff\xff"), MALFORMED, "2048"},

    // Neither version
    {BYTES("\x16\x03\x01"), ABSENT, NULL},
    {BYTES("POST / HTTP/1.1\r\n"), ABSENT, NULL},
    {BYTES("proxy TCP4 " V4_FIELD "\r\n"), ABSENT, NULL},
    {BYTES(" PROXY TCP4 " V4_FIELD "\r\n"), ABSENT, NULL},
    {BYTES("PROXX"), ABSENT, NULL},
    {BYTES("\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0c" V4_PAIR), ABSENT, NULL},
    {BYTES("\r\n\r\n\r\n"), ABSENT, NULL},
    {BYTES("\0"), ABSENT, NULL},
};

static void check_row(size_t i, const char *data, size_t size)
{
    const struct row *row = &rows[i];
    enum proxy_header_result result;
    char text[ADDRESS_TEXT_BYTES];
    struct proxy_header header;

    result = proxy_header_parse(data, size, &header);
    if (result != row->result)
        fail_msg("row %zu: result %d instead of %d", i, (int)result, (int)row->result);
    if (result == CLIENT) {
        address_print(&header.client, text);
        assert_string_equal(text, row->expected);
    }
    if (result == CLIENT || result == LOCAL)
        assert_int_equal(header.length, row->size);
    if (result == MALFORMED && !strstr(header.fault, row->expected))
        fail_msg("row %zu: '%s' does not contain '%s'", i, header.fault, row->expected);
}

TEST(accepts_valid_headers_only)
{
    for (size_t i = 0; i < COUNT(rows); i++)
        check_row(i, rows[i].data, rows[i].size);
}

// Further bytes never change a result other than WAITING. A complete header ends with the byte at which the parser
// decides.
TEST(decides_at_the_first_possible_byte)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        char longer[512] = {0};
        size_t size = 0;
        struct proxy_header header;

        assert_true(rows[i].size < sizeof longer);
        memcpy(longer, rows[i].data, rows[i].size);
        memset(longer + rows[i].size, 0x16, sizeof longer - rows[i].size);
        while (proxy_header_parse(rows[i].data, size, &header) == WAITING && size < rows[i].size)
            size++;
        if (rows[i].result == WAITING) {
            assert_int_equal(size, rows[i].size);
            continue;
        }
        if (rows[i].result == CLIENT || rows[i].result == LOCAL)
            assert_int_equal(size, rows[i].size);
        for (; size < sizeof longer; size++)
            check_row(i, longer, size);
    }
}

static enum proxy_header_result parse_unknown(size_t length)
{
    char line[256];
    struct proxy_header header;

    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY UNKNOWN ", 14);
    memcpy(line + length - 2, "\r\n", 2);
    return proxy_header_parse(line, sizeof line, &header);
}

TEST(limits_version_1_to_107_bytes)
{
    char line[PROXY_HEADER_V1_BYTES];
    struct proxy_header header;

    assert_int_equal(parse_unknown(106), LOCAL);
    assert_int_equal(parse_unknown(107), LOCAL);
    assert_int_equal(parse_unknown(108), MALFORMED);
    assert_int_equal(parse_unknown(109), MALFORMED);

    memset(line, 'x', sizeof line);
    memcpy(line, "PROXY ", 6);
    assert_int_equal(proxy_header_parse(line, 105, &header), WAITING);
    assert_int_equal(proxy_header_parse(line, 106, &header), MALFORMED); // there is no space left for CRLF
    line[105] = '\r';
    assert_int_equal(proxy_header_parse(line, 106, &header), WAITING);
    assert_int_equal(proxy_header_parse(line, 107, &header), MALFORMED);
}

TEST(limits_version_2_to_2048_bytes_after_the_fixed_part)
{
    static char data[PROXY_HEADER_BYTES + 1] = V2 "\x21\x11\x08\x00" V4_PAIR;
    struct proxy_header header;

    assert_int_equal(proxy_header_parse(data, PROXY_HEADER_BYTES - 1, &header), WAITING);
    assert_int_equal(proxy_header_parse(data, PROXY_HEADER_BYTES, &header), CLIENT);
    assert_int_equal(header.length, PROXY_HEADER_BYTES);
    assert_int_equal(proxy_header_parse(data, sizeof data, &header), CLIENT);
    assert_int_equal(header.length, PROXY_HEADER_BYTES);
}

// The client of a Unix socket has no address, so the header names no client.
TEST(skips_the_addresses_of_unix_sockets)
{
    static const char data[PROXY_HEADER_V2_FIXED_BYTES + 216] = V2 "\x21\x31\0\xd8/run/client";
    struct proxy_header header;

    assert_int_equal(proxy_header_parse(data, sizeof data - 1, &header), WAITING);
    assert_int_equal(proxy_header_parse(data, sizeof data, &header), LOCAL);
    assert_int_equal(header.length, sizeof data);
}

TEST_MAIN(NULL, NULL)
