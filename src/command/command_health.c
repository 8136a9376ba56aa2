// `health` asks the monitoring listener of a running service for its health, so that a container without an HTTP client
// can have a health check. The request is HTTP/1.0, after which the listener closes the connection.
#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "config.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/command/command.h"
#include "options.h"

#define ANSWER_BYTES 4096 // the answers have some hundred bytes
#define TIMEOUT_S    5    // for the connection, for the request, and for the answer

struct service {
    const char *name;
    const char *page;
    const char *answer; // the first line of the body with the status 200
    size_t port;        // offset of the struct config_value in struct config
};

// The first service is the default.
static const struct service services[] = {
    {"serve", "/readyz", "ready", offsetof(struct config, admin_port)},
    {"forward", "/healthz", "alive", offsetof(struct config, forward_admin_port)},
    {"deliver", "/healthz", "alive", offsetof(struct config, deliver_admin_port)},
};

static const struct service *find_service(const char *name)
{
    for (size_t i = 0; i < sizeof services / sizeof services[0]; i++) {
        if (strcmp(name, services[i].name) == 0)
            return &services[i];
    }
    return NULL;
}

// Returns the address at which this machine reaches a listener on `address`. A listener on :: also accepts IPv4, which,
// unlike ::1, works where IPv6 is disabled.
static const char *reachable(const char *address)
{
    return strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0 ? "127.0.0.1" : address;
}

static int connect_to(const char *address, const char *port, int *ret_fd, struct error *error)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    const struct timeval timeout = {.tv_sec = TIMEOUT_S};
    struct addrinfo *found;
    int r = getaddrinfo(address, port, &hints, &found), fd = -1;

    if (r != 0)
        return error_set(error, EINVAL, "%s", gai_strerror(r));
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) < 0 ||
        connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
        r = error_set(error, errno, "%s; start the service, or correct [admin] address and the port",
                      errno == EINPROGRESS ? "the connection timed out" : strerror(errno));
        if (fd >= 0)
            close(fd);
    }
    freeaddrinfo(found);
    if (r == 0)
        *ret_fd = fd;
    return r;
}

// Reads until the listener closes the connection, and terminates the text with NUL.
static int read_answer(int fd, char text[ANSWER_BYTES], struct error *error)
{
    const int64_t end_ms = clock_monotonic_ms() + TIMEOUT_S * INT64_C(1000);
    size_t length = 0;

    for (;;) {
        ssize_t got = recv(fd, text + length, ANSWER_BYTES - 1 - length, 0);

        if (got < 0)
            return error_set(error, errno, "%s",
                             errno == EAGAIN ? "no answer; the service hangs or is overloaded" : strerror(errno));
        if (got == 0)
            break;
        if (clock_monotonic_ms() > end_ms)
            return error_set(error, ETIMEDOUT, "no complete answer in %d s; the service hangs or is overloaded",
                             TIMEOUT_S);
        length += (size_t)got;
    }
    text[length] = '\0';
    return 0;
}

// Prints the first line of the body if the service is healthy. Otherwise this line is the error.
static int judge(char *text, const char *answer, struct error *error)
{
    char *body = strstr(text, "\r\n\r\n");
    unsigned int status;

    if (sscanf(text, "HTTP/1.%*1u %3u ", &status) != 1 || !body)
        return error_set(error, EPROTO, "no HTTP answer; another program listens on this port");
    body += strlen("\r\n\r\n");
    body[strcspn(body, "\r\n")] = '\0';
    if (status != 200)
        return error_set(error, EAGAIN, "status %u: %s", status, body);
    if (strcmp(body, answer) != 0)
        return error_set(error, EPROTO, "the body is not '%s'; another program listens on this port", answer);
    puts(body);
    return 0;
}

static int ask(const char *address, uint64_t number, const struct service *service, struct error *error)
{
    char text[ANSWER_BYTES], port[sizeof "18446744073709551615"];
    int fd = -1, length, r;

    (void)snprintf(port, sizeof port, "%" PRIu64, number);
    r = connect_to(address, port, &fd, error);
    if (r == 0) {
        length = snprintf(text, sizeof text, "GET %s HTTP/1.0\r\n\r\n", service->page);
        r = send(fd, text, (size_t)length, MSG_NOSIGNAL) == length ? read_answer(fd, text, error)
                                                                   : error_set(error, errno, "%s", strerror(errno));
        close(fd);
    }
    if (r == 0)
        r = judge(text, service->answer, error);
    if (r < 0)
        error_wrap(error, "%s port %s: %s", address, port, service->page);
    return r;
}

static int check_health(const char *path, const struct service *service, struct error *error)
{
    const struct config_value *port;
    struct config config = {0};
    int r = config_read(path, &config, error);

    if (r == 0) {
        port = (const struct config_value *)((const char *)&config + service->port);
        r = port->number > 0 ? ask(reachable(config.admin_address.text), port->number, service, error)
                             : config_wrap_result(&config, port,
                                                  error_set(error, EINVAL,
                                                            "the port is 0, so the service has no listener to ask; set "
                                                            "a port"),
                                                  error);
    }
    config_finish(&config);
    return r;
}

int command_health(int argc, char **argv)
{
    const char *path = NULL, *name = services[0].name;
    struct option_spec specs[] = {{"--config", "-c", &path, 1, 0}, {"", NULL, &name, 1, 0}};
    const struct service *service;
    struct error error;

    if (options_read(argc, argv, specs, sizeof specs / sizeof specs[0]) < 0)
        return EXIT_USAGE;
    if (!path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    service = find_service(name);
    if (!service)
        return options_wrong_usage(argv[0], "'%s' is not one of: serve, forward, deliver", name);
    return check_health(path, service, &error) < 0 ? command_failed(argv[0], &error) : 0;
}
