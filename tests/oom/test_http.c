// A server that finds no memory does not start, or sheds the connection, or answers 503; it goes on, and nothing is
// left over. The client is in the same process: its library is spared.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "heap_fault.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/http/credentials.h"
#include "imcallbackd/http/listen.h"
#include "imcallbackd/http/server.h"

#include <cmocka.h>
#include <openssl/ssl.h>

#define REQUEST "POST /?a=b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"

struct bench {
    char directory[64];
    struct http_credentials *identity;
    int listen_fd;
    SSL_CTX *client;
    struct http_response *refusal;
    struct http_server *server;
    int result; // of a start
    struct error error;
    char answer[512]; // its beginning; "" for none
};

static struct http_response *on_head(void *context, struct http_request *request)
{
    (void)context;
    request->verified = true;
    return NULL;
}

static struct http_response *on_body(void *context, struct http_request *request)
{
    struct bench *bench = context;

    http_request_complete(request, http_response_create(200, "{}", 2, HTTP_RESPONSE_ONCE));
    http_server_wake(bench->server);
    return NULL;
}

static void on_over(void *context, struct http_request *request)
{
    (void)context;
    (void)request;
}

static struct http_response *on_refused(void *context, enum http_refusal why, const char *remote_address,
                                        const char *detail)
{
    const struct bench *bench = context;

    (void)why;
    (void)remote_address;
    (void)detail;
    return bench->refusal;
}

static void start_server(void *context)
{
    static const struct address_block anyone = {.prefix = 0};
    struct bench *bench = context;
    const struct http_settings settings = {&bench->listen_fd, 1, false, "/", 1};
    const struct http_limits limits = {
        .body_bytes = 100,
        .connections = 10,
        .connections_per_address = 10,
        .idle_timeout_ms = 60000,
        .request_timeout_ms = 60000,
        .allow_from = &anyone,
        .allow_from_count = 1,
    };
    const struct http_handler handler = {on_head, on_body, on_over, on_refused, bench};

    bench->server = NULL;
    bench->error.text[0] = '\0';
    bench->result = http_server_create(&settings, &limits, bench->identity, &handler, &bench->server, &bench->error);
    if (bench->result == 0)
        bench->result = http_server_start(bench->server, &bench->error);
}

static void stop_server(struct bench *bench)
{
    if (bench->server)
        http_server_stop(bench->server);
    http_server_destroy(bench->server);
}

static void start_and_reconfigure(void *context)
{
    struct bench *bench = context;
    const struct address_block anyone = {.prefix = 0};
    const struct http_limits limits = {.connections = 5, .allow_from = &anyone, .allow_from_count = 1};

    start_server(bench);
    if (bench->result == 0)
        bench->result = http_server_reconfigure(bench->server, &limits, bench->identity, &bench->error);
}

static void judge_start(void *context, bool met, bool lasting)
{
    struct bench *bench = context;

    (void)lasting;
    assert_true(bench->result == 0 || (met && bench->error.text[0]));
    stop_server(bench);
}

static void starting(void **state)
{
    const struct fault_scenario scenario = {"start", NULL, start_and_reconfigure, judge_start, true};

    fault_run(&scenario, *state);
}

static int connect_to(const struct bench *bench)
{
    // Only who is never accepted, since memory is never there for it, waits so long.
    const struct timeval patience = {.tv_sec = 5};
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(getsockname(bench->listen_fd, (struct sockaddr *)&address, &length), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, length), 0);
    return fd;
}

static void ask(void *context)
{
    struct bench *bench = context;
    int fd = connect_to(bench), got = 0;
    SSL *tls = SSL_new(bench->client);

    assert_non_null(tls);
    assert_int_equal(SSL_set_fd(tls, fd), 1);
    if (SSL_connect(tls) == 1 && SSL_write(tls, REQUEST, sizeof REQUEST - 1) > 0)
        got = SSL_read(tls, bench->answer, sizeof bench->answer - 1);
    bench->answer[got > 0 ? got : 0] = '\0';
    SSL_free(tls);
    OPENSSL_thread_stop(); // what it remembers of errors
    close(fd);
}

static bool is_answered(const struct bench *bench, const char *status)
{
    return strncmp(bench->answer, status, strlen(status)) == 0;
}

static void judge_answer(void *context, bool met, bool lasting)
{
    struct bench *bench = context;

    (void)lasting;
    if (!is_answered(bench, "HTTP/1.1 200 ") && !(met && (!bench->answer[0] || is_answered(bench, "HTTP/1.1 503 "))))
        fail_msg("answered: %s", bench->answer);
    ask(bench);
    if (!is_answered(bench, "HTTP/1.1 200 "))
        fail_msg("afterwards: %s", bench->answer);
    stop_server(bench);
}

static void answering(void **state)
{
    const struct fault_scenario scenario = {"a request", start_server, ask, judge_answer, true};

    fault_run(&scenario, *state);
}

static void create_answers(void *context)
{
    static const unsigned int statuses[] = {200, 405, 503};

    (void)context;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        http_response_destroy(http_response_create(statuses[i], "{}", 2, HTTP_RESPONSE_SHARED));
}

static void judge_nothing(void *context, bool met, bool lasting)
{
    (void)context;
    (void)met;
    (void)lasting;
}

static void creating_answers(void **state)
{
    const struct fault_scenario scenario = {"answers", NULL, create_answers, judge_nothing, true};

    fault_run(&scenario, *state);
}

static int setup(void **state)
{
    static struct bench bench = {.directory = "/tmp/imcallbackd-http-XXXXXX"};
    char *arguments[] = {"certificate", "--host", "localhost", "--out", bench.directory, NULL};
    char certificate[128], key[128];
    const struct http_credentials_files files = {certificate, key, NULL};

    (void)signal(SIGPIPE, SIG_IGN);
    assert_non_null(mkdtemp(bench.directory));
    assert_int_equal(command_certificate(5, arguments), 0);
    (void)snprintf(certificate, sizeof certificate, "%s/certificate.pem", bench.directory);
    (void)snprintf(key, sizeof key, "%s/key.pem", bench.directory);
    assert_int_equal(http_credentials_load(&files, NULL, &bench.identity, &bench.error), 0);
    assert_int_equal(unlink(certificate) | unlink(key) | rmdir(bench.directory), 0);
    assert_int_equal(listen_open("127.0.0.1", 0, &bench.listen_fd, &bench.error), 0);
    bench.client = SSL_CTX_new(TLS_client_method());
    assert_non_null(bench.client);
    bench.refusal = http_response_create(503, "{}", 2, HTTP_RESPONSE_SHARED);
    assert_non_null(bench.refusal);
    *state = &bench;
    return 0;
}

static int teardown(void **state)
{
    struct bench *bench = *state;

    http_response_destroy(bench->refusal);
    SSL_CTX_free(bench->client);
    http_credentials_unref(bench->identity);
    return close(bench->listen_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starting),
        cmocka_unit_test(answering),
        cmocka_unit_test(creating_answers),
    };

    log_configure(LOG_LEVEL_CRIT, LOG_FORMAT_TEXT); // each fault has its line
    return cmocka_run_group_tests(tests, setup, teardown);
}
