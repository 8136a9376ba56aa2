// Records events with the command XADD of Redis, over TLS. The entry is the body of the callback as JSON.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rivals.h"

#include <openssl/ssl.h>

#define ANSWER_BYTES 256

struct redis_client {
    SSL *ssl;
    struct buffer body, command;
    char answer[ANSWER_BYTES];
    size_t answer_length;
};

// One cipher suite and one key exchange, as in imcallbackd-load, so that all servers do the same work.
static SSL_CTX *make_tls(const struct rivals_options *options)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_client_method());

    if (!tls || SSL_CTX_set_ciphersuites(tls, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(tls, "X25519") != 1 || SSL_CTX_load_verify_locations(tls, options->ca, NULL) != 1)
        die("TLS", "AES-128-GCM, X25519 or the certificate is missing");
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER, NULL);
    return tls;
}

static void *redis_connect(const struct rivals_options *options, int *ret_fd)
{
    static SSL_CTX *tls;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)options->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct redis_client *client = allocate(1, sizeof *client);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), flags;
    const int on = 1;

    if (!tls)
        tls = make_tls(options);
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 ||
        connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        die("connection", strerror(errno));
    client->ssl = SSL_new(tls);
    if (!client->ssl || SSL_set_fd(client->ssl, fd) != 1 || SSL_connect(client->ssl) != 1)
        die("TLS", "the handshake failed");
    flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        die("fcntl", strerror(errno));
    *ret_fd = fd;
    return client;
}

static int print_body(struct buffer *body, const struct rivals_options *options, uint64_t event)
{
    int r;

    body->length = 0;
    r = buffer_print(body,
                     "{\"CallbackCommand\":\"Group.CallbackAfterGroupDestroyed\",\"EventTime\":%" PRIu64
                     ",\"GroupId\":\"load-%" PRIu64 "-%" PRIu64 "\",\"MemberList\":[",
                     FIRST_EVENT_TIME_MS + event, options->seed, event);
    for (uint64_t i = 0; i < options->members && r == 0; i++)
        r = buffer_print(body, "%s{\"Member_Account\":\"member-%" PRIu64 "-%" PRIu64 "\"}", i > 0 ? "," : "", event, i);
    if (r == 0)
        r = buffer_print(body, "],\"Name\":\"load\",\"Operator_Account\":\"administrator\",\"Owner_Account\":\"owner\","
                               "\"Type\":\"Public\"}");
    return r;
}

static void redis_send(void *opaque, const struct rivals_options *options, uint64_t event)
{
    struct redis_client *client = opaque;
    size_t sent;

    client->answer_length = 0;
    client->command.length = 0;
    if (print_body(&client->body, options, event) < 0 ||
        buffer_print(&client->command, "*5\r\n$4\r\nXADD\r\n$8\r\ncallback\r\n$1\r\n*\r\n$4\r\nbody\r\n$%zu\r\n%s\r\n",
                     client->body.length, client->body.data) < 0)
        die("memory", strerror(ENOMEM));
    // The connection has nothing else in flight, so the socket takes the whole command.
    if (SSL_write_ex(client->ssl, client->command.data, client->command.length, &sent) != 1)
        die("TLS", "cannot send");
}

// The answer is a bulk string, `$15\r\n1700000000000-0\r\n`, or a line that starts with `-`.
static enum progress redis_receive(void *opaque)
{
    struct redis_client *client = opaque;
    const char *line;
    size_t got;

    if (SSL_read_ex(client->ssl, client->answer + client->answer_length, ANSWER_BYTES - 1 - client->answer_length,
                    &got) != 1) {
        if (SSL_get_error(client->ssl, 0) != SSL_ERROR_WANT_READ)
            die("TLS", "the server closed the connection");
        return WAITING;
    }
    client->answer_length += got;
    client->answer[client->answer_length] = '\0';
    line = strstr(client->answer, "\r\n");
    if (!line)
        return WAITING;
    if (client->answer[0] != '$')
        die("answer", client->answer);
    return strstr(line + 2, "\r\n") ? RECORDED : WAITING;
}

const struct protocol redis_protocol = {redis_connect, redis_send, redis_receive};
