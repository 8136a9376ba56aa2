// Opens, checks and names listening sockets. The text of some errno values suggests no remedy; for these, bind_hint
// adds a cause or a remedy to the message.
#include "imcallbackd/http/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_un local;
};

// Returns the length of the address, or 0 if the text is not a numeric address.
static socklen_t parse_address(const char *text, unsigned int port, union socket_address *address)
{
    *address = (union socket_address){0};
    if (inet_pton(AF_INET, text, &address->v4.sin_addr) == 1) {
        address->v4.sin_family = AF_INET;
        address->v4.sin_port = htons((in_port_t)port);
        return sizeof address->v4;
    }
    if (inet_pton(AF_INET6, text, &address->v6.sin6_addr) == 1) {
        address->v6.sin6_family = AF_INET6;
        address->v6.sin6_port = htons((in_port_t)port);
        return sizeof address->v6;
    }
    return 0;
}

static const char *bind_hint(int code)
{
    switch (code) {
    case EADDRINUSE:
        return "; stop the program that listens on this port, or choose another port";
    case EACCES:
        return "; pass a socket from systemd for ports below 1024";
    case EADDRNOTAVAIL:
        return "; this machine does not have this address";
    default:
        return "";
    }
}

int listen_open(const char *address_text, unsigned int port, int *ret_fd, struct error *error)
{
    const int on = 1, off = 0;
    union socket_address address;
    socklen_t length = parse_address(address_text, port, &address);
    int fd;

    if (length == 0)
        return error_set(error, EINVAL, "%s is not a numeric IPv4 or IPv6 address", address_text);
    fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd < 0)
        return error_set(error, errno, "cannot create a socket: %s", strerror(errno));
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (address.any.sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0) ||
        bind(fd, &address.any, length) < 0 || listen(fd, SOMAXCONN) < 0) {
        int code = errno;

        close(fd);
        return error_set(error, code, "cannot listen on %s port %u: %s%s", address_text, port, strerror(code),
                         bind_hint(code));
    }
    *ret_fd = fd;
    return 0;
}

int listen_adopt(int fd, bool accepts_unix, struct error *error)
{
    int type = 0, family = 0, listening = 0, flags;
    socklen_t type_length = sizeof type, family_length = sizeof family, listening_length = sizeof listening;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0 || type != SOCK_STREAM ||
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &family_length) < 0 ||
        (family != AF_INET && family != AF_INET6 && !(accepts_unix && family == AF_UNIX)) ||
        getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &listening_length) < 0 || !listening)
        return error_set(error, EINVAL,
                         "descriptor %d, passed by systemd, is not a listening TCP %ssocket; use ListenStream= "
                         "and Accept=no in the socket unit",
                         fd, accepts_unix ? "or Unix " : "");
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return error_set(error, errno, "descriptor %d: %s", fd, strerror(errno));
    return 0;
}

unsigned int listen_port(int fd)
{
    union socket_address address = {0};
    socklen_t length = sizeof address;

    if (getsockname(fd, &address.any, &length) < 0)
        return 0;
    switch (address.any.sa_family) {
    case AF_INET:
        return ntohs(address.v4.sin_port);
    case AF_INET6:
        return ntohs(address.v6.sin6_port);
    default:
        return 0;
    }
}

void listen_name(int fd, char name[LISTEN_NAME_BYTES])
{
    union socket_address address = {0};
    socklen_t length = sizeof address;
    char host[LISTEN_NAME_BYTES / 2] = "?", port[sizeof "65535"] = "?";

    if (getsockname(fd, &address.any, &length) == 0 && address.any.sa_family == AF_UNIX) {
        (void)snprintf(name, LISTEN_NAME_BYTES, "unix:%.*s", (int)sizeof address.local.sun_path,
                       address.local.sun_path);
        return;
    }
    (void)getnameinfo(&address.any, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    (void)snprintf(name, LISTEN_NAME_BYTES, address.any.sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}
