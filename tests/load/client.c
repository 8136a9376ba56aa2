// Drives one client of the load generator: its TLS connection, the requests that it sends, and the answers that it
// reads.
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#include <openssl/err.h>

#define FIRST_EVENT_TIME_MS INT64_C(1700000000000)
// Each address of the loopback network has its own ports, and counts separately for the limit per address.
#define IDLE_CLIENTS_PER_ADDRESS 1000

// The signature depends only on the token and the current second, so it is computed at most once a second.
static void refresh_sign(struct load *load)
{
    char now[sizeof load->request_time];

    (void)snprintf(now, sizeof now, "%" PRId64, (int64_t)time(NULL));
    if (!load->options.token || strcmp(now, load->request_time) == 0)
        return;
    memcpy(load->request_time, now, sizeof now);
    if (signature_compute(load->options.token, now, load->sign) < 0)
        die("signature", "libcrypto failed");
}

static uint64_t group_of(const struct load *load, uint64_t event)
{
    return load->options.groups > 0 ? event % load->options.groups : event;
}

static int print_body(struct load *load, uint64_t event)
{
    struct buffer *body = &load->body;
    int r;

    body->length = 0;
    r = buffer_print(body,
                     "{\"CallbackCommand\":\"Group.CallbackAfterGroupDestroyed\",\"EventTime\":%" PRIu64
                     ",\"GroupId\":\"load-%" PRIu64 "-%" PRIu64 "\",\"MemberList\":[",
                     FIRST_EVENT_TIME_MS + event, load->options.seed, group_of(load, event));
    for (uint64_t i = 0; i < load->options.members && r == 0; i++)
        r = buffer_print(body, "%s{\"Member_Account\":\"member-%" PRIu64 "-%" PRIu64 "\"}", i > 0 ? "," : "", event, i);
    if (r == 0)
        r = buffer_print(body, "],\"Name\":\"load\",\"Operator_Account\":\"administrator\",\"Owner_Account\":\"owner\","
                               "\"Type\":\"Public\"}");
    return r;
}

static int print_request(struct load *load, struct buffer *request, uint64_t event)
{
    const struct options *options = &load->options;
    int r = print_body(load, event);

    refresh_sign(load);
    request->length = 0;
    if (r == 0)
        r = buffer_print(request, "POST /?CallbackCommand=Group.CallbackAfterGroupDestroyed&ClientIP=127.0.0.1"
                                  "&OptPlatform=RESTAPI");
    if (r == 0 && options->token)
        r = buffer_print(request, "&RequestTime=%s&Sign=%s", load->request_time, load->sign);
    if (r == 0)
        r = buffer_print(request,
                         "&SdkAppid=%" PRIu64 "&contenttype=json HTTP/1.1\r\nHost: 127.0.0.1:%" PRIu64
                         "\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n",
                         options->app, options->port, load->body.length,
                         options->new_connection && !load->opens_idle ? "Connection: close\r\n" : "");
    return r == 0 ? buffer_append(request, load->body.data, load->body.length) : r;
}

static void client_set_state(struct client *client, enum client_state state)
{
    bool was_busy = client->state != CLOSED && client->state != READY;
    bool is_busy = state != CLOSED && state != READY;

    client->load->busy += (uint64_t)is_busy - (uint64_t)was_busy;
    client->load->shaking += (uint64_t)(state == SHAKING_HANDS) - (uint64_t)(client->state == SHAKING_HANDS);
    client->state = state;
}

void client_close(struct client *client)
{
    if (client->state == CLOSED)
        return;
    if (client->state == READY)
        (void)SSL_shutdown(client->ssl);
    client_set_state(client, CLOSED);
    SSL_free(client->ssl);
    close(client->fd);
    client->ssl = NULL;
    client->fd = -1;
}

void client_fail(struct client *client)
{
    client->load->failed_connections++;
    client->load->unanswered += client->has_request && (client->state == SENDING || client->state == RECEIVING);
    client->has_request = false;
    ERR_clear_error();
    client_close(client);
}

// The clients that work connect from 127.0.0.1, the idle ones from the addresses after it.
static void client_bind(const struct client *client)
{
    const struct load *load = client->load;
    uint64_t number = (uint64_t)(client - load->clients), workers = load->options.connections;
    struct sockaddr_in source = {.sin_family = AF_INET};
    const int on = 1;

    if (number < workers)
        return;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + (uint32_t)((number - workers) / IDLE_CLIENTS_PER_ADDRESS));
    // With this option, connect chooses the port, so that ports of connections to other servers are free.
    if (setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0 ||
        bind(client->fd, (struct sockaddr *)&source, sizeof source) < 0)
        die("bind", strerror(errno));
}

void client_open(struct client *client)
{
    struct load *load = client->load;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)load->options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = client};
    const int on = 1;

    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    // Without TCP_NODELAY the first request would wait for the acknowledgement of the handshake's last packet.
    if (client->fd < 0 || setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        die("socket", strerror(errno));
    client_bind(client);
    client->ssl = checked(SSL_new(load->tls));
    if (SSL_set_fd(client->ssl, client->fd) != 1)
        die("TLS", "cannot use the socket");
    SSL_set_connect_state(client->ssl);
    (void)SSL_set_app_data(client->ssl, client);
    if (client->session && SSL_set_session(client->ssl, client->session) != 1)
        die("TLS", "cannot use the session");
    client_set_state(client, SHAKING_HANDS);
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        client_fail(client);
    else if (epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, client->fd, &event) < 0)
        die("epoll_ctl", strerror(errno));
}

int client_keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct client *client = SSL_get_app_data(ssl);

    SSL_SESSION_free(client->session);
    client->session = session;
    return 1;
}

void client_start_request(struct client *client)
{
    struct load *load = client->load;

    load->started++;
    client->event = load->next_event++;
    if (print_request(load, &client->request, client->event) < 0)
        die("memory", strerror(ENOMEM));
    client->has_request = true;
    client->sent = 0;
    client->answer_length = 0;
    client->started_at_us = now_us();
    if (client->state == READY)
        client_set_state(client, SENDING);
    else
        client_open(client);
}

// Handles a TLS call that did not succeed: the client fails unless it only has to wait. Returns false, because the
// client cannot continue now.
static bool client_wait_or_fail(struct client *client, int result)
{
    int error = SSL_get_error(client->ssl, result);

    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        client_fail(client);
    return false;
}

static bool client_shake_hands(struct client *client)
{
    int r = SSL_do_handshake(client->ssl);

    if (r != 1)
        return client_wait_or_fail(client, r);
    client->load->resumed += (uint64_t)SSL_session_reused(client->ssl);
    if (client->load->options.connect_late)
        client->started_at_us = now_us(); // the latency of a client that stays connected excludes the handshake
    client_set_state(client, client->has_request ? SENDING : READY);
    return true;
}

static bool client_send(struct client *client)
{
    bool is_first_write = client->sent == 0;
    size_t written;
    int r =
        SSL_write_ex(client->ssl, client->request.data + client->sent, client->request.length - client->sent, &written);

    if (r != 1)
        return client_wait_or_fail(client, r);
    client->sent += written;
    if (client->sent < client->request.length)
        return true;
    client_set_state(client, RECEIVING);
    return !is_first_write; // the answer can hardly have arrived after a single write, so a read would be wasted
}

// Returns whether the answer is complete. If so, sets the status, whether the answer is OK, and whether the server will
// close the connection.
static bool answer_read(const char *answer, size_t length, unsigned int *ret_status, bool *ret_ok, bool *ret_closing)
{
    const char *end = strstr(answer, "\r\n\r\n");
    const char *announced = strcasestr(answer, "\r\nContent-Length:");
    const char *closing = strcasestr(answer, "\r\nConnection: close");

    if (!end || !announced || announced > end || strncmp(answer, "HTTP/1.1 ", 9) != 0)
        return false;
    *ret_status = (unsigned int)strtoul(answer + 9, NULL, 10);
    end += 4;
    if (length - (size_t)(end - answer) < strtoul(announced + strlen("\r\nContent-Length:"), NULL, 10))
        return false;
    *ret_closing = closing && closing < end;
    *ret_ok = *ret_status == 200 && strstr(end, "\"ActionStatus\":\"OK\"") && strstr(end, "\"ErrorCode\":0");
    return true;
}

static void client_count(struct client *client, unsigned int status, bool ok)
{
    struct load *load = client->load;

    load->latencies_us[load->answered++] = us_since(client->started_at_us);
    load->ok += ok;
    load->by_status[status < STATUS_END ? status : 0]++;
    if (ok && load->acknowledged)
        fprintf(load->acknowledged, "load-%" PRIu64 "-%" PRIu64 "\n", load->options.seed,
                group_of(load, client->event));
}

static bool client_receive(struct client *client)
{
    struct load *load = client->load;
    unsigned int status;
    bool ok, closing;
    size_t got;
    int r = SSL_read_ex(client->ssl, client->answer + client->answer_length, ANSWER_BYTES - 1 - client->answer_length,
                        &got);

    if (r != 1)
        return client_wait_or_fail(client, r);
    client->answer_length += got;
    client->answer[client->answer_length] = '\0';
    if (!answer_read(client->answer, client->answer_length, &status, &ok, &closing)) {
        if (client->answer_length == ANSWER_BYTES - 1)
            client_fail(client);
        return client->state == RECEIVING;
    }
    client_count(client, status, ok);
    client->has_request = false;
    client_set_state(client, READY);
    if (closing || (load->options.new_connection && !load->opens_idle))
        client_close(client);
    if (load->options.rounds == 0 && !load->opens_idle && load->started < load->planned)
        client_start_request(client);
    return true;
}

void client_drive(struct client *client)
{
    bool more = true;

    while (more) {
        switch (client->state) {
        case SHAKING_HANDS:
            more = client_shake_hands(client);
            break;
        case SENDING:
            more = client_send(client);
            break;
        case RECEIVING:
            more = client_receive(client);
            break;
        case CLOSED:
        case READY:
            more = false;
        }
    }
}
