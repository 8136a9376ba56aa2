// Tests what the server does with the first bytes on a connection of a trusted proxy. Each test holds the other ends of
// its connections.
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit.h"
#include "credentials_stub.h"
#include "http/trusted_proxy.h"
#include "imcallbackd/base/log.h"

#define CONNECTIONS 20
#define PER_ADDRESS 2
#define NOW         INT64_C(1000000)
#define FIRST       "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n"
#define SECOND      "PROXY TCP4 192.0.2.2 198.51.100.2 1 2\r\n"
#define HELLO       "\x16\x03\x01"

static struct fixture {
    struct http_shared shared;
    struct http_credentials credentials;
    struct http_connection_set set;
    struct http_connection *connections[CONNECTIONS];
    int proxies[CONNECTIONS];
    size_t count;
    unsigned int refusal_count;
    enum http_refusal last_refusal;
    char refused_address[ADDRESS_TEXT_BYTES];
} fixture;

static struct http_response *on_refusal(void *context, enum http_refusal why, const char *remote_address,
                                        const char *detail)
{
    (void)context;
    assert_string_equal(detail, "");
    fixture.refusal_count++;
    fixture.last_refusal = why;
    (void)snprintf(fixture.refused_address, sizeof fixture.refused_address, "%s", remote_address);
    return NULL;
}

static struct http_limits limits_with(const struct address_block *allow_from, size_t count)
{
    static const struct address_block all = {{{0}}, 0};

    return (struct http_limits){.connections = CONNECTIONS,
                                .connections_per_address = PER_ADDRESS,
                                .request_timeout_ms = 1000,
                                .idle_timeout_ms = 1000,
                                .allow_from = allow_from,
                                .allow_from_count = count,
                                .trusted_proxies = &all,
                                .trusted_proxy_count = 1};
}

static int setup(void **state)
{
    const struct http_handler handler = {.on_refusal = on_refusal};
    struct http_limits limits = limits_with(NULL, 0);

    (void)state;
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    fixture = (struct fixture){.set = {.shared = &fixture.shared, .limits = limits, .now_ms = NOW}};
    return http_shared_init(&fixture.shared, "/", &handler, &limits, &fixture.credentials);
}

// http_shared_finish asserts that no connection and no network is left. The test fails if a reference to the
// credentials is left, or if the set still counts a connection.
static int teardown(void **state)
{
    (void)state;
    for (size_t i = 0; i < fixture.count; i++) {
        http_set_remove(fixture.connections[i]);
        close(fixture.connections[i]->transport.fd);
        close(fixture.proxies[i]);
        http_connection_destroy(fixture.connections[i]);
    }
    http_shared_finish(&fixture.shared);
    return fixture.credentials.references + (int)fixture.set.connection_count;
}

#define PROXY_TEST(name) TEST_WITH(name, setup, teardown)

// Returns an admitted connection of a trusted proxy in stage HANDSHAKE. Unlike the acceptor, this function leaves
// transport.network all zeros.
static struct http_connection *connect_proxy(void)
{
    struct http_connection *connection = http_connection_create(&fixture.shared);
    struct http_admission admission;
    struct address peer, network;
    int ends[2];

    assert_non_null(connection);
    assert_true(fixture.count < CONNECTIONS);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    assert_true(address_parse("10.0.0.8", &peer));
    network = address_client_network(&peer);
    assert_int_equal(http_shared_admit(&fixture.shared, &peer, &network, &admission), HTTP_REFUSE_NONE);
    assert_true(admission.is_trusted_proxy);
    connection->transport.fd = ends[0];
    connection->transport.client = HTTP_CLIENT_UNDECIDED;
    connection->transport.address = peer;
    connection->transport.credentials = admission.credentials;
    strcpy(connection->transport.remote_address, "10.0.0.8");
    http_set_expect(&fixture.set, connection);
    http_set_add(&fixture.set, connection);
    fixture.connections[fixture.count] = connection;
    fixture.proxies[fixture.count++] = ends[1];
    return connection;
}

static void send_last(const char *data, size_t size)
{
    assert_int_equal(send(fixture.proxies[fixture.count - 1], data, size, 0), size);
}

#define SEND(text) send_last(text, sizeof(text) - 1)

static void assert_receives(struct http_connection *connection, enum http_client client, const char *remote_address)
{
    assert_true(trusted_proxy_receive(connection));
    assert_int_equal(connection->transport.client, client);
    assert_string_equal(connection->transport.remote_address, remote_address);
}

static void assert_fails(struct http_connection *connection, int code)
{
    errno = 0;
    assert_false(trusted_proxy_receive(connection));
    assert_int_equal(errno, code);
    assert_int_equal(connection->transport.client, HTTP_CLIENT_UNDECIDED);
}

// The bytes after the header belong to TLS, so they must still be unread.
static void assert_unread(const struct http_connection *connection, const char *expected)
{
    char data[64] = "";

    (void)recv(connection->transport.fd, data, sizeof data - 1, MSG_DONTWAIT);
    assert_string_equal(data, expected);
}

static void assert_closed(void)
{
    char byte;

    assert_int_equal(recv(fixture.proxies[fixture.count - 1], &byte, 1, 0), 0);
}

static int64_t malformed_count(void)
{
    return metric_value(&http_proxy_headers, HTTP_PROXY_HEADER_MALFORMED);
}

static void assert_malformed(struct http_connection *connection)
{
    int64_t before = malformed_count();

    assert_fails(connection, ECONNRESET);
    assert_int_equal(malformed_count(), before + 1);
    assert_closed();
}

PROXY_TEST(consumes_the_header_alone)
{
    struct http_connection *connection = connect_proxy();

    SEND(FIRST HELLO);
    assert_receives(connection, HTTP_CLIENT_FROM_HEADER, "192.0.2.1");
    assert_unread(connection, HELLO);
    connection = connect_proxy();
    SEND("PROXY UNKNOWN\r\n" HELLO);
    assert_receives(connection, HTTP_CLIENT_IS_PROXY, "10.0.0.8");
    assert_unread(connection, HELLO);
}

PROXY_TEST(consumes_nothing_without_a_header)
{
    struct http_connection *connection = connect_proxy();

    SEND(HELLO);
    assert_receives(connection, HTTP_CLIENT_FROM_REQUESTS, "10.0.0.8");
    assert_unread(connection, HELLO);
}

PROXY_TEST(waits_for_the_rest_of_the_header)
{
    struct http_connection *connection = connect_proxy();
    size_t length = sizeof FIRST - 1;

    assert_fails(connection, EAGAIN);
    for (size_t i = 1; i < length; i++) {
        send_last(&FIRST[i - 1], 1);
        fixture.set.has_progress = false;
        assert_fails(connection, EAGAIN);
        assert_fails(connection, EAGAIN);
        assert_int_equal(connection->transport.header_bytes, i);
        assert_false(fixture.set.has_progress); // otherwise the loop would not sleep
    }
    SEND("\n" HELLO);
    assert_receives(connection, HTTP_CLIENT_FROM_HEADER, "192.0.2.1");
    assert_int_equal(connection->transport.header_bytes, 0);
    assert_true(fixture.set.has_progress);
    assert_unread(connection, HELLO);
}

PROXY_TEST(closes_after_a_malformed_header)
{
    struct http_connection *connection = connect_proxy();

    SEND("PROXY TCP5");
    assert_fails(connection, EAGAIN);
    SEND("\r\n");
    assert_malformed(connection);
    assert_int_equal(connection->transport.header_bytes, 0);
    assert_int_equal(fixture.refusal_count, 0);
}

// The unread bytes of the header hide the end of the connection from recv, so the server must look for the end itself.
PROXY_TEST(detects_the_end_within_a_header)
{
    struct http_connection *connection = connect_proxy();

    SEND("PROXY TCP4 192");
    assert_fails(connection, EAGAIN);
    assert_int_equal(shutdown(fixture.proxies[0], SHUT_WR), 0);
    assert_malformed(connection);
}

PROXY_TEST(an_end_before_the_first_byte_is_not_malformed)
{
    struct http_connection *connection = connect_proxy();
    int64_t before = malformed_count();

    assert_int_equal(shutdown(fixture.proxies[0], SHUT_WR), 0);
    assert_receives(connection, HTTP_CLIENT_UNDECIDED, "10.0.0.8"); // the caller's own recv then returns 0
    assert_int_equal(malformed_count(), before);
}

PROXY_TEST(a_closed_connection_does_not_wait_for_its_header)
{
    struct http_connection *connection = connect_proxy();
    int64_t before = malformed_count();

    SEND("PROXY TCP4 192");
    assert_fails(connection, EAGAIN);
    http_connection_close(connection); // as the loop does at the deadline
    assert_fails(connection, ECONNRESET);
    assert_int_equal(malformed_count(), before);
    assert_int_equal(connection->transport.header_bytes, sizeof "PROXY TCP4 192" - 1);
}

// After a suspension of the process, unread data starts a new deadline, but not if the loop has seen the data before.
PROXY_TEST(an_incomplete_header_does_not_extend_the_deadline)
{
    struct http_connection *seen = connect_proxy(), *unseen;

    SEND("PROXY TCP4 192");
    assert_fails(seen, EAGAIN);
    unseen = connect_proxy();
    SEND("PROXY TCP4 192");
    assert_fails(unseen, EAGAIN);
    SEND(".");
    fixture.set.now_ms = NOW + 60000;
    (void)http_set_close_expired(&fixture.set);
    assert_true(seen->transport.closing);
    assert_false(unseen->transport.closing);
}

PROXY_TEST(checks_the_client_against_allow_from)
{
    struct address_block allowed = {.prefix = 128};
    struct http_connection *connection;
    struct http_limits limits;

    assert_true(address_parse("192.0.2.2", &allowed.address));
    limits = limits_with(&allowed, 1);
    assert_int_equal(http_shared_reconfigure(&fixture.shared, &limits, &fixture.credentials), 0);
    connection = connect_proxy();
    SEND(FIRST HELLO);
    assert_fails(connection, ECONNRESET);
    assert_closed();
    assert_int_equal(fixture.refusal_count, 1);
    assert_int_equal(fixture.last_refusal, HTTP_REFUSE_PEER);
    assert_string_equal(fixture.refused_address, "192.0.2.1");
    connection = connect_proxy();
    SEND(SECOND HELLO);
    assert_receives(connection, HTTP_CLIENT_FROM_HEADER, "192.0.2.2");
    assert_int_equal(fixture.refusal_count, 1);
}

static struct http_connection *connect_client(const char *header)
{
    struct http_connection *connection = connect_proxy();

    send_last(header, strlen(header));
    (void)trusted_proxy_receive(connection);
    return connection;
}

PROXY_TEST(limits_the_connections_of_each_client)
{
    unsigned int hard_limit = http_hard_limit(PER_ADDRESS);

    for (unsigned int i = 0; i <= hard_limit; i++) {
        struct http_connection *connection = connect_client(FIRST);
        bool is_over = i == hard_limit;

        assert_int_equal(connection->transport.client, is_over ? HTTP_CLIENT_UNDECIDED : HTTP_CLIENT_FROM_HEADER);
        if (!is_over)
            assert_int_equal(connection->exceeded_limit, i < PER_ADDRESS ? HTTP_LIMIT_NONE : HTTP_LIMIT_PER_ADDRESS);
    }
    assert_closed();
    assert_int_equal(fixture.refusal_count, 1);
    assert_int_equal(fixture.last_refusal, HTTP_REFUSE_TOO_MANY_CONNECTIONS);
    assert_int_equal(connect_client(SECOND)->exceeded_limit, HTTP_LIMIT_NONE);
}

PROXY_TEST(evicts_another_connection_of_the_client)
{
    struct http_connection *other = connect_client(SECOND), *first = connect_client(FIRST), *over;

    http_connection_enter(other, HTTP_STAGE_IDLE);
    http_connection_enter(first, HTTP_STAGE_IDLE);
    (void)connect_client(FIRST);
    over = connect_client(FIRST);
    assert_int_equal(over->exceeded_limit, HTTP_LIMIT_NONE);
    assert_false(over->transport.closing);
    assert_true(first->transport.closing);
    assert_false(other->transport.closing);
}

// ::1 belongs to the network ::/64, whose address is all zeros. transport.network of `local` is all zeros, too, but a
// connection without a client belongs to no client network.
PROXY_TEST(evicts_no_connection_without_a_client_for_a_client)
{
    struct http_connection *local = connect_client("PROXY UNKNOWN\r\n"), *over = NULL;

    assert_int_equal(local->transport.client, HTTP_CLIENT_IS_PROXY);
    http_connection_enter(local, HTTP_STAGE_IDLE);
    for (unsigned int i = 0; i <= PER_ADDRESS; i++)
        over = connect_client("PROXY TCP6 ::1 ::1 1 2\r\n");
    assert_int_equal(over->exceeded_limit, HTTP_LIMIT_PER_ADDRESS);
    assert_false(local->transport.closing);
}

TEST_MAIN(NULL, NULL)
