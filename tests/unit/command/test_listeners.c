// Tests that listeners_open() uses the sockets that systemd passes, and opens those that the configuration requires.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "command/listeners.h"
#include "command_fixture.h"

#define FIRST_FD 3 // descriptor of the first passed socket; see sd_listen_fds(3)

// Opens a socket of the given kind: 't' (listening TCP), 'u' (listening Unix stream), 'd' (UDP) or 'n' (TCP that does
// not listen).
static int open_socket(char kind)
{
    static unsigned int count;
    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    int fd = socket(kind == 'u' ? AF_UNIX : AF_INET, (kind == 'd' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    (void)snprintf(local.sun_path, sizeof local.sun_path, "socket-%u", count++);
    if (kind == 'u')
        assert_int_equal(bind(fd, (struct sockaddr *)&local, sizeof local), 0);
    else
        assert_int_equal(bind(fd, (struct sockaddr *)&loopback, sizeof loopback), 0);
    if (kind == 't' || kind == 'u')
        assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static unsigned int port_of(int fd)
{
    struct sockaddr_in address = {0};
    socklen_t length = sizeof address;

    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    return ntohs(address.sin_port);
}

static void set_variable(const char *name, intmax_t number)
{
    char text[32];

    (void)snprintf(text, sizeof text, "%jd", number);
    assert_int_equal(setenv(name, text, 1), 0);
}

// Passes one socket for each letter of `kinds` to the process, as systemd does. `names` has a name for each
// socket, separated by colons. The sockets replace the descriptors from FIRST_FD on, so the test must not use these
// descriptors for anything else.
static void pass_sockets(const char *kinds, const char *names, pid_t process)
{
    int fds[32];
    size_t count = strlen(kinds);

    assert_true(count <= COUNT(fds));
    for (size_t i = 0; i < count; i++) {
        int fd = open_socket(kinds[i]);

        fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
        assert_true(fds[i] >= 0);
        assert_int_equal(close(fd), 0);
    }
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(dup2(fds[i], FIRST_FD + (int)i), FIRST_FD + (int)i);
        assert_int_equal(close(fds[i]), 0);
    }
    set_variable("LISTEN_FDS", (intmax_t)count);
    set_variable("LISTEN_PID", (intmax_t)process);
    assert_int_equal(setenv("LISTEN_FDNAMES", names, 1), 0);
}

// Closes the passed sockets that listeners_open() did not take over. In the daemon, the exit of the process closes
// them.
static void close_passed_sockets(size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)close(FIRST_FD + (int)i);
    assert_int_equal(unsetenv("LISTEN_FDS") | unsetenv("LISTEN_PID") | unsetenv("LISTEN_FDNAMES"), 0);
}

static struct listeners listeners; // the result of the last open_listeners()

static int open_listeners(unsigned int port, unsigned int admin_port, const char *address)
{
    char text[256];
    int r;

    (void)snprintf(text, sizeof text, "%s[listen]\naddress = %s\nport = %u\n[admin]\nport = %u\n", MINIMAL, address,
                   port, admin_port);
    assert_int_equal(read_config(text), 0);
    r = listeners_open(&config, &listeners, &error);
    return r;
}

static void assert_listens(int fd)
{
    int listening = 0;
    socklen_t length = sizeof listening;

    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length), 0);
    assert_int_equal(listening, 1);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static const struct {
    const char *kinds, *names;
    size_t callback_count; // number of passed sockets for callbacks
    bool has_admin;
    int code;
} passed[] = {
    {"t", "callback", 1, false, 0},
    {"ttt", "callback:callback:other", 3, false, 0},
    {"tt", "callback:admin", 1, true, 0},
    {"tt", "admin:callback", 1, true, 0},
    {"tu", "callback:admin", 1, true, 0}, // only the admin socket may be a Unix socket
    {"tttttttttttttttt", "admin:b:c:d:e:f:g:h:i:j:k:l:m:n:o:p", 15, true, 0},
    {"ttttttttttttttttt", "a:b:c:d:e:f:g:h:i:j:k:l:m:n:o:p:q", 0, false, EINVAL},
    {"u", "callback", 0, false, EINVAL},
    {"d", "callback", 0, false, EINVAL},
    {"n", "callback", 0, false, EINVAL},
    {"td", "callback:admin", 0, false, EINVAL},
    {"ttt", "callback:admin:admin", 0, false, EINVAL},
};

TEST(uses_the_sockets_that_systemd_passes)
{
    for (size_t i = 0; i < COUNT(passed); i++) {
        int r;

        pass_sockets(passed[i].kinds, passed[i].names, getpid());
        r = open_listeners(1, 1, "127.0.0.1"); // the ports of the configuration are ignored
        if (r != -passed[i].code)
            fail_msg("%s as %s: %d: %s", passed[i].kinds, passed[i].names, r, error.text);
        if (r == 0) {
            assert_int_equal(listeners.callback_count, passed[i].callback_count);
            assert_true(listeners.callback_fds_were_passed);
            assert_int_equal(listeners.admin_fd >= 0, passed[i].has_admin);
            for (size_t j = 0; j < listeners.callback_count; j++)
                assert_listens(listeners.callback_fds[j]);
        } else {
            assert_contains(error.text, "systemd");
        }
        listeners_close(&listeners);
        close_passed_sockets(strlen(passed[i].kinds));
    }
}

TEST(tells_the_sockets_apart_by_name)
{
    unsigned int admin_port;

    pass_sockets("tt", "admin:callback", getpid());
    admin_port = port_of(FIRST_FD);
    assert_int_equal(open_listeners(1, 1, "127.0.0.1"), 0);
    assert_int_equal(port_of(listeners.admin_fd), admin_port);
    assert_int_not_equal(port_of(listeners.callback_fds[0]), admin_port);
    listeners_close(&listeners);
    close_passed_sockets(2);
}

TEST(opens_what_the_configuration_says_without_passed_sockets)
{
    int taken = open_socket('t');
    unsigned int free_port = port_of(taken);
    assert_int_equal(close(taken), 0);
    assert_int_equal(open_listeners(0, free_port, "127.0.0.1"), 0);
    assert_int_equal(listeners.callback_count, 1);
    assert_false(listeners.callback_fds_were_passed);
    assert_listens(listeners.callback_fds[0]);
    assert_listens(listeners.admin_fd);
    assert_int_equal(port_of(listeners.admin_fd), free_port);
    listeners_close(&listeners);
    assert_int_equal(listeners.callback_count, 0);
    assert_int_equal(listeners.admin_fd, -1);
    listeners_close(&listeners);
}

TEST(opens_no_admin_socket_for_port_0)
{
    assert_int_equal(open_listeners(0, 0, "127.0.0.1"), 0);
    assert_int_equal(listeners.callback_count, 1);
    assert_int_equal(listeners.admin_fd, -1);
    listeners_close(&listeners);
}

TEST(opens_the_callback_socket_beside_a_passed_admin_socket)
{
    pass_sockets("u", "admin", getpid());
    assert_int_equal(open_listeners(0, 1, "127.0.0.1"), 0);
    assert_int_equal(listeners.callback_count, 1);
    assert_false(listeners.callback_fds_were_passed);
    assert_int_equal(listeners.admin_fd, FIRST_FD);
    listeners_close(&listeners);
    close_passed_sockets(0);
}

TEST(ignores_sockets_for_another_process)
{
    pass_sockets("t", "callback", getppid());
    assert_int_equal(open_listeners(0, 0, "127.0.0.1"), 0);
    assert_false(listeners.callback_fds_were_passed);
    assert_int_not_equal(listeners.callback_fds[0], FIRST_FD);
    listeners_close(&listeners);
    close_passed_sockets(1);
}

TEST(names_the_key_of_a_socket_that_cannot_be_opened)
{
    int taken = open_socket('t');
    assert_int_equal(open_listeners(port_of(taken), 0, "127.0.0.1"), -EADDRINUSE);
    assert_starts_with(error.text, CONFIG_PATH ":7: [listen] port: ");
    listeners_close(&listeners);
    assert_int_equal(open_listeners(0, 0, "192.0.2.1"), -EADDRNOTAVAIL);
    assert_starts_with(error.text, CONFIG_PATH ":6: [listen] address: ");
    listeners_close(&listeners);
    assert_int_equal(open_listeners(0, port_of(taken), "127.0.0.1"), -EADDRINUSE);
    assert_starts_with(error.text, CONFIG_PATH ":9: [admin] port: ");
    listeners_close(&listeners);
    assert_int_equal(close(taken), 0);
}

TEST_MAIN(enter_directory, leave_directory)
