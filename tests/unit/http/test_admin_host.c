// Tests which Host headers the admin server accepts.
#include <string.h>

#include "../unit.h"
#include "http/admin_host.h"

#define MACHINE  "Web1.example.org"
#define NAMES    "prometheus.example.net, status other."
#define LABEL_63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define NAME_255 LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63

static const struct {
    const char *host;
    bool expected;
} rows[] = {
    // Addresses
    {"127.0.0.1", true},
    {"127.0.0.1:9463", true},
    {"192.0.2.7:0", true},
    {"192.0.2.7:65535", true},
    {"0.0.0.0", true},
    {"[::1]", true},
    {"[::1]:9463", true},
    {"[2001:DB8::7]:80", true},
    {"[::ffff:127.0.0.1]", true},
    {"::1", false},
    {"::1:9463", false},
    {"[127.0.0.1]", false},
    {"[localhost]", false},
    {"[]", false},
    {"[", false},
    {"]", false},
    {"[::1", false},
    {"::1]", false},
    {"[::1]evil", false},
    {"[::1].evil.com", false},
    {"[::1]@evil.com", false},
    {"[::1]9463", false},
    {"[::1]:", false},
    {"[::1]:65536", false},
    {"[::1]:80:80", false},
    {"[[::1]]", false},
    {"[fe80::1%25eth0]", false},
    {"127.0.0.1.evil.com", false},
    {"127.0.0.1evil", false},
    {"127.0.0.1.", false},
    {"127.0.0.1@evil.com", false},
    {"127.1", false},
    {"127.0.0.01", false},
    {"2130706433", false},
    {"0x7f000001", false},

    // Names
    {"localhost", true},
    {"LocalHost", true},
    {"localhost.", true},
    {"localhost:9463", true},
    {"localhost.:9463", true},
    {"web1.example.org", true},
    {"WEB1.EXAMPLE.ORG.:9463", true},
    {"web1", true},
    {"web1.:80", true},
    {"prometheus.example.net", true},
    {"prometheus.example.net:9463", true},
    {"STATUS.", true},
    {"other", true},
    {"", false},
    {".", false},
    {":9463", false},
    {"localhost..", false},
    {".localhost", false},
    {"localhost.evil.com", false},
    {"evil.localhost", false},
    {"localhostevil", false},
    {"localhos", false},
    {"evil.com", false},
    {"web1.evil.com", false},
    {"web1.example", false},
    {"web", false},
    {"example.org", false},
    {"prometheus", false},
    {"prometheus.example.net,", false},
    {"prometheus.example.net, status", false},
    {"statu", false},
    {"status other", false},
    {NAME_255, false},

    // User names, ports, and bytes that no host contains
    {"localhost@evil.com", false},
    {"evil.com@localhost", false},
    {"user:1@localhost", false},
    {"user@localhost", false},
    {"localhost:", false},
    {"localhost:65536", false},
    {"localhost:99999999999999999999", false},
    {"localhost:-1", false},
    {"localhost:+80", false},
    {"localhost: 80", false},
    {"localhost:80 ", false},
    {"localhost:http", false},
    {"localhost:80:80", false},
    {"localhost:80.evil.com", false},
    {" localhost", false},
    {"localhost ", false},
    {"localhost\t", false},
    {"local host", false},
    {"localhost, evil.com", false},
    {"localhost/", false},
    {"localhost#evil.com", false},
    {"localhost%00.evil.com", false},
    {"http://localhost", false},
    {"*", false},
    {"\xef\xbc\x8alocalhost", false},
};

TEST(accepts_addresses_and_known_names_only)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (admin_host_is_allowed(rows[i].host, strlen(rows[i].host), MACHINE, NAMES) != rows[i].expected)
            fail_msg("row %zu: '%s'", i, rows[i].host);
    }
}

TEST(reads_no_further_than_the_length)
{
    assert_true(admin_host_is_allowed("localhostevil", 9, MACHINE, NULL));
    assert_true(admin_host_is_allowed("127.0.0.1.evil.com", 9, MACHINE, NULL));
    assert_true(admin_host_is_allowed("localhost:94631", 14, MACHINE, NULL));
    assert_false(admin_host_is_allowed("localhost\0", 10, MACHINE, NULL));
    assert_false(admin_host_is_allowed("localhost\0.evil.com", 19, MACHINE, NULL));
    assert_false(admin_host_is_allowed("127.0.0.1\0", 10, MACHINE, NULL));
    assert_false(admin_host_is_allowed("[::1\0]", 6, MACHINE, NULL));
    assert_false(admin_host_is_allowed("localhost:80\0", 13, MACHINE, NULL));
}

TEST(an_unknown_machine_name_matches_nothing)
{
    static const char *const hosts[] = {"", ".", "web1", ":80"};

    for (size_t i = 0; i < COUNT(hosts); i++) {
        assert_false(admin_host_is_allowed(hosts[i], strlen(hosts[i]), "", NULL));
        assert_false(admin_host_is_allowed(hosts[i], strlen(hosts[i]), "", " ,\t . "));
        assert_false(admin_host_is_allowed(hosts[i], strlen(hosts[i]), ".", ""));
    }
}

TEST(takes_the_longest_name)
{
    assert_int_equal(strlen(NAME_255), 255);
    assert_true(admin_host_is_allowed(NAME_255, 255, MACHINE, NAME_255));
    assert_true(admin_host_is_allowed(NAME_255 ":65535", 261, NAME_255, NULL));
    assert_false(admin_host_is_allowed(NAME_255 "a", 256, NAME_255, NAME_255));
}

TEST_MAIN(NULL, NULL)
