// Makes each allocation of the HTTP server fail in turn. The server may then fail to start, close the connection or
// answer 503, and must work again afterwards without leaks. The client runs in the same process. Allocations of the TLS
// libraries never fail.
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "../unit/unit.h"
#include "heap_fault.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/http/credentials.h"
#include "imcallbackd/http/listen.h"
#include "imcallbackd/http/server.h"

#include <openssl/ssl.h>

#define REQUEST "POST /?a=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
#define HEADER  "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n"

struct fixture {
    char directory[64];
    struct http_credentials *credentials;
    int listen_fd;
    SSL_CTX *client;
    bool has_proxy; // the server trusts the client as a proxy, and the client sends a PROXY header
    struct http_response *refusal;
    struct http_server *server;
    int result; // result of starting the server
    struct error error;
    char answer[512]; // the start of the response; "": none
};

static struct http_response *on_head(void *context, struct http_request *request)
{
    (void)context;
    request->verified = true;
    return NULL;
}

static struct http_response *on_body(void *context, struct http_request *request)
{
    struct fixture *fixture = context;

    http_request_complete(request, http_response_create(200, "{}", 2, HTTP_RESPONSE_ONCE));
    http_server_wake(fixture->server);
    return NULL;
}

static void on_end(void *context, struct http_request *request)
{
    (void)context;
    (void)request;
}

static struct http_response *on_refusal(void *context, enum http_refusal why, const char *remote_address,
                                        const char *detail)
{
    const struct fixture *fixture = context;

    (void)why;
    (void)remote_address;
    (void)detail;
    return fixture->refusal;
}

static void start_server(void *context)
{
    static const struct address_block all_addresses = {.prefix = 0};
    struct fixture *fixture = context;
    const struct http_settings settings = {&fixture->listen_fd, 1, false, "/", 1};
    const struct http_limits limits = {
        .body_bytes = 100,
        .connections = 10,
        .connections_per_address = 10,
        .idle_timeout_ms = 60000,
        .request_timeout_ms = 60000,
        .allow_from = &all_addresses,
        .allow_from_count = 1,
        .trusted_proxies = &all_addresses,
        .trusted_proxy_count = fixture->has_proxy,
    };
    const struct http_handler handler = {on_head, on_body, on_end, on_refusal, fixture};

    fixture->server = NULL;
    fixture->error.text[0] = '\0';
    fixture->result =
        http_server_create(&settings, &limits, fixture->credentials, &handler, &fixture->server, &fixture->error);
    if (fixture->result == 0)
        fixture->result = http_server_start(fixture->server, &fixture->error);
}

static void stop_server(struct fixture *fixture)
{
    if (fixture->server)
        http_server_stop(fixture->server);
    http_server_destroy(fixture->server);
}

static void start_and_reconfigure(void *context)
{
    struct fixture *fixture = context;
    const struct address_block all_addresses = {.prefix = 0};
    const struct http_limits limits = {.connections = 5, .allow_from = &all_addresses, .allow_from_count = 1};

    start_server(fixture);
    if (fixture->result == 0)
        fixture->result = http_server_reconfigure(fixture->server, &limits, fixture->credentials, &fixture->error);
}

static void check_start(void *context, bool met)
{
    struct fixture *fixture = context;

    assert_true(fixture->result == 0 || (met && fixture->error.text[0]));
    stop_server(fixture);
}

TEST(starts_or_reports_that_memory_is_exhausted)
{
    const struct fault_scenario scenario = {"start", NULL, start_and_reconfigure, check_start, true};

    fault_run(&scenario, *state);
}

static int connect_to(const struct fixture *fixture)
{
    // If the server never has the memory to accept the connection, the client waits this long.
    const struct timeval timeout = {.tv_sec = 5};
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(getsockname(fixture->listen_fd, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
    return fd;
}

static void ask(void *context)
{
    struct fixture *fixture = context;
    int fd = connect_to(fixture), got = 0;
    SSL *tls = SSL_new(fixture->client);

    assert_non_null(tls);
    if (fixture->has_proxy)
        assert_int_equal(send(fd, HEADER, sizeof HEADER - 1, 0), sizeof HEADER - 1);
    assert_int_equal(SSL_set_fd(tls, fd), 1);
    if (SSL_connect(tls) == 1 && SSL_write(tls, REQUEST, sizeof REQUEST - 1) > 0)
        got = SSL_read(tls, fixture->answer, sizeof fixture->answer - 1);
    fixture->answer[got > 0 ? got : 0] = '\0';
    SSL_free(tls);
    OPENSSL_thread_stop(); // frees the error queue
    close(fd);
}

static bool is_answered(const struct fixture *fixture, const char *status)
{
    return strncmp(fixture->answer, status, strlen(status)) == 0;
}

static void check_answer(void *context, bool met)
{
    struct fixture *fixture = context;

    if (!is_answered(fixture, "HTTP/1.1 200 ") &&
        !(met && (!fixture->answer[0] || is_answered(fixture, "HTTP/1.1 503 "))))
        fail_msg("the response is: %s", fixture->answer);
    ask(fixture);
    if (!is_answered(fixture, "HTTP/1.1 200 "))
        fail_msg("the next response is: %s", fixture->answer);
    stop_server(fixture);
}

TEST(answers_or_closes_and_works_again)
{
    const struct fault_scenario scenario = {"a request", start_server, ask, check_answer, true};

    fault_run(&scenario, *state);
}

TEST(admits_the_client_of_a_proxy_or_closes_and_works_again)
{
    const struct fault_scenario scenario = {"a request through a proxy", start_server, ask, check_answer, true};
    struct fixture *fixture = *state;

    fixture->has_proxy = true;
    fault_run(&scenario, fixture);
    fixture->has_proxy = false;
}

static void create_responses(void *context)
{
    static const unsigned int statuses[] = {200, 405, 503};

    (void)context;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        http_response_destroy(http_response_create(statuses[i], "{}", 2, HTTP_RESPONSE_SHARED));
}

static void check_nothing(void *context, bool met)
{
    (void)context;
    (void)met;
}

TEST(creates_responses_without_leaks)
{
    const struct fault_scenario scenario = {"responses", NULL, create_responses, check_nothing, true};

    fault_run(&scenario, *state);
}

static int setup(void **state)
{
    static struct fixture fixture = {.directory = "/tmp/imcallbackd-http-XXXXXX"};
    char *arguments[] = {"certificate", "--host", "localhost", "--out", fixture.directory, NULL};
    char certificate[128], key[128];
    const struct http_credentials_files files = {certificate, key, NULL};

    (void)signal(SIGPIPE, SIG_IGN);
    assert_non_null(mkdtemp(fixture.directory));
    assert_int_equal(command_certificate(5, arguments), 0);
    (void)snprintf(certificate, sizeof certificate, "%s/certificate.pem", fixture.directory);
    (void)snprintf(key, sizeof key, "%s/key.pem", fixture.directory);
    assert_int_equal(http_credentials_load(&files, NULL, &fixture.credentials, &fixture.error), 0);
    assert_int_equal(unlink(certificate) | unlink(key) | rmdir(fixture.directory), 0);
    assert_int_equal(listen_open("127.0.0.1", 0, &fixture.listen_fd, &fixture.error), 0);
    fixture.client = SSL_CTX_new(TLS_client_method());
    assert_non_null(fixture.client);
    fixture.refusal = http_response_create(503, "{}", 2, HTTP_RESPONSE_SHARED);
    assert_non_null(fixture.refusal);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    http_response_destroy(fixture->refusal);
    SSL_CTX_free(fixture->client);
    http_credentials_unref(fixture->credentials);
    return close(fixture->listen_fd);
}

int main(void)
{
    log_configure(LOG_LEVEL_CRIT, LOG_FORMAT_TEXT); // each fault would log a line
    return cmocka_run_group_tests(unit_tests, setup, teardown);
}
