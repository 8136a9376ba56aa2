// Tests addresses, blocks and lists of blocks in the notation of the configuration.
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/address.h"

static struct error error;

static struct address address_of(const char *text)
{
    struct sockaddr_storage storage = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&storage;
    struct address address;

    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
    } else {
        assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
        v6->sin6_family = AF_INET6;
    }
    assert_true(address_from_socket(&storage, &address));
    return address;
}

static void assert_prints(const struct address *address, const char *expected)
{
    char text[ADDRESS_TEXT_BYTES];

    address_print(address, text);
    assert_string_equal(text, expected);
}

// A client has the same address on an IPv4 socket and on a socket for both families.
TEST(maps_ipv4_addresses)
{
    struct address v4 = address_of("192.0.2.1"), mapped = address_of("::ffff:192.0.2.1"),
                   v6 = address_of("2001:db8::1");
    struct sockaddr_storage local = {.ss_family = AF_UNIX};
    struct address none;

    assert_memory_equal(&v4, &mapped, sizeof v4);
    assert_prints(&v4, "192.0.2.1");
    assert_prints(&v6, "2001:db8::1");
    assert_false(address_from_socket(&local, &none));
}

static const struct {
    const char *block, *inside[4], *outside[4];
} blocks[] = {
    {"192.0.2.1", {"192.0.2.1", "::ffff:192.0.2.1"}, {"192.0.2.0", "192.0.2.2", "::1"}},
    {"192.0.2.0/24", {"192.0.2.0", "192.0.2.255"}, {"192.0.1.255", "192.0.3.0", "2001:db8::1"}},
    {"192.0.2.128/25", {"192.0.2.128", "192.0.2.255"}, {"192.0.2.127", "192.0.3.0"}},
    {"192.0.2.4/31", {"192.0.2.4", "192.0.2.5"}, {"192.0.2.3", "192.0.2.6"}},
    {"192.0.2.4/32", {"192.0.2.4"}, {"192.0.2.3", "192.0.2.5"}},
    {"128.0.0.0/1", {"128.0.0.0", "255.255.255.255"}, {"127.255.255.255", "8000::"}},
    {"0.0.0.0/0", {"0.0.0.0", "255.255.255.255"}, {"::", "::1"}},
    {"2001:db8::/32", {"2001:db8::", "2001:db8:ffff::1"}, {"2001:db7:ffff::", "2001:db9::"}},
    {"2001:db8::/33", {"2001:db8:7fff::"}, {"2001:db8:8000::"}},
    {"::1", {"::1"}, {"::", "::2", "0.0.0.1"}},
    {"::/0", {"::", "192.0.2.1", "ffff::"}, {NULL}},
};

TEST(a_block_contains_its_addresses_only)
{
    for (size_t i = 0; i < COUNT(blocks); i++) {
        struct address_block block;

        assert_int_equal(address_block_parse(blocks[i].block, &block, &error), 0);
        for (size_t j = 0; j < 4; j++) {
            struct address inside = address_of(blocks[i].inside[j] ? blocks[i].inside[j] : blocks[i].inside[0]);
            struct address outside = address_of(blocks[i].outside[j] ? blocks[i].outside[j] : "::");

            if (!address_block_contains(&block, &inside))
                fail_msg("%s does not contain %s", blocks[i].block, blocks[i].inside[j]);
            if (blocks[i].outside[j] && address_block_contains(&block, &outside))
                fail_msg("%s contains %s", blocks[i].block, blocks[i].outside[j]);
        }
    }
}

TEST(a_list_contains_what_one_of_its_blocks_contains)
{
    struct address_block list[2];
    struct address first = address_of("192.0.2.1"), second = address_of("2001:db8::7"), other = address_of("::1");

    assert_int_equal(address_block_parse("192.0.2.0/24", &list[0], &error), 0);
    assert_int_equal(address_block_parse("2001:db8::/32", &list[1], &error), 0);
    assert_true(address_blocks_contain(list, 2, &first));
    assert_true(address_blocks_contain(list, 2, &second));
    assert_false(address_blocks_contain(list, 1, &second));
    assert_false(address_blocks_contain(list, 2, &other));
    assert_false(address_blocks_contain(NULL, 0, &first));
}

TEST(detects_blocks_that_are_wider_than_a_network_of_proxies)
{
    static const struct {
        const char *block;
        bool is_wide;
    } rows[] = {
        {"0.0.0.0/0", true},
        {"0.0.0.0/1", true},
        {"128.0.0.0/1", true},
        {"10.0.0.0/7", true},
        {"10.0.0.0/8", false},
        {"0.0.0.0", false},
        {"::ffff:0:0/96", true},
        {"::ffff:a00:0/103", true},
        {"::ffff:a00:0/104", false},
        {"::/0", true},
        {"::/1", true},
        {"8000::/1", true},
        {"2000::/15", true},
        {"2000::/16", false},
        {"2001:db8::/32", false},
        {"::1", false},
        {"::/80", true},
        {"::/81", false},
        {"::/96", false},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct address_block block;

        assert_int_equal(address_block_parse(rows[i].block, &block, &error), 0);
        if (address_block_is_wide(&block) != rows[i].is_wide)
            fail_msg("%s", rows[i].block);
    }
}

TEST(converts_bytes_in_network_order)
{
    const unsigned char v4[] = {192, 0, 2, 1}, v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
    struct address one = address_from_bytes(v4, sizeof v4), other = address_from_bytes(v6, sizeof v6);

    assert_prints(&one, "192.0.2.1");
    assert_prints(&other, "2001:db8::1");
}

TEST(parses_a_text_of_a_given_length)
{
    struct address address;

    assert_true(address_parse_bytes("192.0.2.12", 9, &address));
    assert_prints(&address, "192.0.2.1");
    assert_true(address_parse_bytes("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 45, &address));
    assert_false(address_parse_bytes("192.0.2.1\0", 10, &address));
    assert_false(address_parse_bytes("192.0.2.1\0002", 11, &address));
    assert_false(address_parse_bytes("192.0.2.1", 0, &address));
    assert_false(address_parse_bytes("::00000000000000000000000000000000000000000001", 46, &address));
}

TEST(rejects_invalid_blocks)
{
    static const char *const texts[] = {
        "",
        "/",
        "/24",
        "localhost",
        "192.0.2",
        "192.0.2.256",
        "192.0.2.1/33",
        "192.0.2.1/",
        "192.0.2.1/x",
        "192.0.2.1/-1",
        "192.0.2.1/24",
        "192.0.2.1/24/8",
        "2001:db8::/129",
        "2001:db8::1/32",
        "::1/",
        "[::1]",
        "fe80::1%eth0",
        "192.0.2.0 /24",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bb",
    };

    for (size_t i = 0; i < COUNT(texts); i++) {
        struct address_block block;

        error.text[0] = '\0';
        assert_int_equal(address_block_parse(texts[i], &block, &error), -EINVAL);
        assert_string_not_equal(error.text, "");
    }
}

TEST(reports_the_start_of_a_misaligned_block)
{
    struct address_block block;

    assert_int_equal(address_block_parse("192.0.2.77/26", &block, &error), -EINVAL);
    assert_non_null(strstr(error.text, "'192.0.2.77/26'"));
    assert_non_null(strstr(error.text, "192.0.2.64"));
}

TEST(reads_lists)
{
    static const struct {
        const char *text;
        size_t count;
    } lists[] = {
        {"192.0.2.1", 1}, {"192.0.2.1,::1", 2},   {" 192.0.2.0/24 ,\t::1 , 2001:db8::/32,", 3}, {", ,", 0},
        {"", 0},          {"::1 ::2 ::3 ::4", 4},
    };
    struct address_block *list = NULL;
    size_t count;

    for (size_t i = 0; i < COUNT(lists); i++) {
        assert_int_equal(address_blocks_parse(lists[i].text, &list, &count, &error), 0);
        assert_int_equal(count, lists[i].count);
        free(list);
    }
    assert_int_equal(address_blocks_parse("192.0.2.1, nonsense, ::1", &list, &count, &error), -EINVAL);
    assert_non_null(strstr(error.text, "'nonsense'"));
}

TEST(a_client_is_an_ipv4_address_or_a_64_network)
{
    static const struct {
        const char *address, *network;
    } rows[] = {
        {"192.0.2.1", "192.0.2.1"},
        {"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"},
        {"2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"},
        {"2001:db8:1:3::", "2001:db8:1:3::"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct address address = address_of(rows[i].address), network = address_client_network(&address);

        assert_prints(&network, rows[i].network);
    }
}

TEST_MAIN(NULL, NULL)
