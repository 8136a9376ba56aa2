// Tests opening, adopting and naming listening sockets.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../unit.h"
#include "imcallbackd/http/listen.h"

#define UNPRIVILEGED_UID 65534

TEST(listens_on_the_given_address)
{
    static const struct {
        const char *address, *name;
    } rows[] = {{"127.0.0.1", "127.0.0.1"}, {"0.0.0.0", "0.0.0.0"}, {"::1", "[::1]"}, {"::", "[::]"}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        char name[LISTEN_NAME_BYTES], expected[LISTEN_NAME_BYTES];
        struct error error = {""};
        struct sockaddr_in6 bound = {0}; // struct sockaddr_in has the port at the same offset
        socklen_t length = sizeof bound;
        int fd, another;

        if (listen_open(rows[i].address, 0, &fd, &error) < 0)
            fail_msg("%s", error.text);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&bound, &length), 0);
        listen_name(fd, name);
        (void)snprintf(expected, sizeof expected, "%s:%u", rows[i].name, ntohs(bound.sin6_port));
        assert_string_equal(name, expected);
        assert_int_equal(listen_port(fd), ntohs(bound.sin6_port));
        assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
        assert_int_equal(listen_open(rows[i].address, ntohs(bound.sin6_port), &another, &error), -EADDRINUSE);
        assert_non_null(strstr(error.text, "stop the program that listens on this port"));
        close(fd);
    }
}

TEST(explains_why_it_cannot_listen)
{
    static const struct {
        const char *address;
        unsigned int port;
        int code;
        const char *word;
    } rows[] = {
        {"localhost", 0, -EINVAL, "not a numeric IPv4 or IPv6 address"},
        {"", 0, -EINVAL, "not a numeric IPv4 or IPv6 address"},
        {"192.0.2.1", 0, -EADDRNOTAVAIL, "this machine does not have this address"},
        {"fe80::1", 0, -EINVAL, "cannot listen on fe80::1 port 0: Invalid argument"}, // needs an interface
        {"127.0.0.1", 1, -EACCES, "pass a socket from systemd"},
    };
    const bool is_root = geteuid() == 0;

    assert_true(!is_root || seteuid(UNPRIVILEGED_UID) == 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error error = {""};
        int fd;

        assert_int_equal(listen_open(rows[i].address, rows[i].port, &fd, &error), rows[i].code);
        if (!strstr(error.text, rows[i].word))
            fail_msg("row %zu: %s", i, error.text);
    }
    assert_true(!is_root || seteuid(0) == 0);
}

TEST(reports_that_no_descriptor_is_left)
{
    struct rlimit before, none;
    struct error error;
    int fd;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){0, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(listen_open("127.0.0.1", 0, &fd, &error), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_non_null(strstr(error.text, "cannot create a socket"));
}

TEST(adopts_only_listening_stream_sockets)
{
    static const struct {
        int family, type;
        bool listening, accepts_unix, adopted;
    } rows[] = {
        {AF_INET, SOCK_STREAM, true, false, true},   {AF_INET6, SOCK_STREAM, true, false, true},
        {AF_UNIX, SOCK_STREAM, true, true, true},    {AF_UNIX, SOCK_STREAM, true, false, false},
        {AF_INET, SOCK_STREAM, false, true, false},  {AF_INET, SOCK_DGRAM, false, true, false},
        {AF_VSOCK, SOCK_STREAM, false, true, false},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error error = {""};
        int fd = socket(rows[i].family, rows[i].type, 0);
        struct sockaddr_un anywhere = {.sun_family = AF_UNIX};

        if (fd < 0 && rows[i].family == AF_VSOCK)
            continue;
        assert_true(fd >= 0);
        if (rows[i].family == AF_UNIX) // without a path, Linux chooses a name
            assert_int_equal(bind(fd, (struct sockaddr *)&anywhere, sizeof anywhere.sun_family), 0);
        assert_true(!rows[i].listening || listen(fd, 1) == 0);
        if (listen_adopt(fd, rows[i].accepts_unix, &error) != (rows[i].adopted ? 0 : -EINVAL))
            fail_msg("row %zu: %s", i, error.text);
        assert_true(rows[i].adopted == ((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0));
        assert_true(rows[i].adopted || !strstr(error.text, "Unix") == !rows[i].accepts_unix);
        close(fd);
    }
}

TEST(rejects_an_invalid_descriptor)
{
    struct error error;

    assert_int_equal(listen_adopt(-1, true, &error), -EINVAL);
    assert_non_null(strstr(error.text, "not a listening TCP or Unix socket"));
}

TEST(names_a_unix_socket_by_its_path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[LISTEN_NAME_BYTES], expected[LISTEN_NAME_BYTES];
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    (void)snprintf(address.sun_path, sizeof address.sun_path, "/tmp/imcallbackd-listen-%d", (int)getpid());
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    listen_name(fd, name);
    (void)snprintf(expected, sizeof expected, "unix:%s", address.sun_path);
    assert_string_equal(name, expected);
    assert_int_equal(listen_port(fd), 0);
    assert_int_equal(unlink(address.sun_path), 0);
    close(fd);
}

TEST_MAIN(NULL, NULL)
