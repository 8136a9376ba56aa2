// Tests, for each kind of connection, which client a request has and whether allow_from admits the client.
#include <stdio.h>
#include <string.h>

#include "../unit.h"
#include "credentials_stub.h"
#include "http/request.h"

#define PROXY  "10.0.0.8"
#define CLIENT "192.0.2.1"
#define HIDDEN "The last entry of X-Forwarded-For is not an address."

static struct fixture {
    struct http_shared shared;
    struct http_connection_set set;
    struct http_connection *connection;
    struct http_response *response;
    char accepted_from[ADDRESS_TEXT_BYTES]; // what the handler has seen; "": the request did not reach the handler
    char refused_from[ADDRESS_TEXT_BYTES];
    enum http_refusal refusal;
    char detail[128];
} fixture;

static struct http_response *on_head(void *context, struct http_request *request)
{
    (void)context;
    (void)snprintf(fixture.accepted_from, sizeof fixture.accepted_from, "%s", request->remote_address);
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
    (void)context;
    fixture.refusal = why;
    (void)snprintf(fixture.refused_from, sizeof fixture.refused_from, "%s", remote_address);
    (void)snprintf(fixture.detail, sizeof fixture.detail, "%s", detail);
    return fixture.response;
}

// If `allow_from` is not NULL, only a client with this address may call.
static void fixture_init(enum http_client client, const char *allow_from)
{
    const struct http_handler handler = {.on_head = on_head, .on_end = on_end, .on_refusal = on_refusal};
    struct address_block block = {.prefix = 128};
    struct http_limits limits = {.body_bytes = 1000, .connections = 10, .allow_from = &block};

    limits.allow_from_count = allow_from && address_parse(allow_from, &block.address);
    fixture = (struct fixture){.response = http_response_create(400, "{}", 2, HTTP_RESPONSE_SHARED)};
    assert_non_null(fixture.response);
    assert_int_equal(http_shared_init(&fixture.shared, "/", &handler, &limits, NULL), 0);
    fixture.set = (struct http_connection_set){.shared = &fixture.shared, .limits = limits};
    fixture.connection = http_connection_create(&fixture.shared);
    assert_non_null(fixture.connection);
    fixture.connection->transport.client = client;
    assert_true(address_parse(PROXY, &fixture.connection->transport.address));
    strcpy(fixture.connection->transport.remote_address, PROXY);
    http_set_expect(&fixture.set, fixture.connection);
    http_set_add(&fixture.set, fixture.connection);
    http_connection_enter(fixture.connection, HTTP_STAGE_IDLE);
}

static void fixture_finish(void)
{
    http_set_remove(fixture.connection);
    http_connection_destroy(fixture.connection);
    http_shared_finish(&fixture.shared);
    http_response_destroy(fixture.response);
}

// Sends a request with this Host header and up to two X-Forwarded-For headers; NULL omits a header.
static void receive(const char *first, const char *second, const char *host)
{
    struct http_exchange *exchange = http_request_start(fixture.connection, "/?a=b");
    const char *const lines[] = {first, second};

    assert_non_null(exchange);
    fixture.accepted_from[0] = fixture.refused_from[0] = '\0';
    http_request_receive_header(exchange, "Host", 4, host, strlen(host));
    http_request_receive_header(exchange, "Content-Length", 14, "2", 1);
    for (size_t i = 0; i < COUNT(lines); i++) {
        if (lines[i])
            http_request_receive_header(exchange, "x-forwarded-for", 15, lines[i], strlen(lines[i]));
    }
    (void)http_request_receive_head(exchange, "POST", "HTTP/1.1");
    http_request_finish(fixture.connection);
}

static const struct {
    enum http_client client;
    const char *allow_from;
    const char *first, *second;
    const char *accepted_from; // NULL: refused
    const char *refused_from, *detail;
} rows[] = {
    // The client was checked when it connected, and X-Forwarded-For is ignored.
    {HTTP_CLIENT_IS_PEER, NULL, CLIENT, NULL, PROXY, NULL, NULL},
    {HTTP_CLIENT_IS_PEER, "::1", CLIENT, "unknown", PROXY, NULL, NULL},
    {HTTP_CLIENT_FROM_HEADER, NULL, CLIENT, NULL, PROXY, NULL, NULL},
    {HTTP_CLIENT_FROM_HEADER, "::1", CLIENT, "unknown", PROXY, NULL, NULL},
    // The proxy itself is the client, and each request is checked.
    {HTTP_CLIENT_IS_PROXY, NULL, CLIENT, NULL, PROXY, NULL, NULL},
    {HTTP_CLIENT_IS_PROXY, PROXY, "unknown", NULL, PROXY, NULL, NULL},
    {HTTP_CLIENT_IS_PROXY, CLIENT, CLIENT, NULL, NULL, PROXY, ""},
    // Each request may name its client. If X-Forwarded-For is missing, the proxy itself is the client. If its last
    // entry is not an address, the client is unknown, and only an empty allow_from admits the client.
    {HTTP_CLIENT_FROM_REQUESTS, NULL, NULL, NULL, PROXY, NULL, NULL},
    {HTTP_CLIENT_FROM_REQUESTS, NULL, CLIENT, NULL, CLIENT, NULL, NULL},
    {HTTP_CLIENT_FROM_REQUESTS, NULL, "::1", CLIENT, CLIENT, NULL, NULL},
    {HTTP_CLIENT_FROM_REQUESTS, NULL, CLIENT, "unknown", PROXY, NULL, NULL},
    {HTTP_CLIENT_FROM_REQUESTS, CLIENT, CLIENT, NULL, CLIENT, NULL, NULL},
    {HTTP_CLIENT_FROM_REQUESTS, CLIENT, "::1", NULL, NULL, "::1", ""},
    {HTTP_CLIENT_FROM_REQUESTS, CLIENT, CLIENT, "::1", NULL, "::1", ""},
    {HTTP_CLIENT_FROM_REQUESTS, CLIENT, NULL, NULL, NULL, PROXY, ""},
    {HTTP_CLIENT_FROM_REQUESTS, CLIENT, CLIENT, "unknown", NULL, PROXY, HIDDEN},
    // The proxy itself may call, but a client that the proxy hides may not.
    {HTTP_CLIENT_FROM_REQUESTS, PROXY, NULL, NULL, PROXY, NULL, NULL},
    {HTTP_CLIENT_FROM_REQUESTS, PROXY, "unknown", NULL, NULL, PROXY, HIDDEN},
    {HTTP_CLIENT_FROM_REQUESTS, PROXY, CLIENT, NULL, NULL, CLIENT, ""},
};

TEST(the_connection_decides_what_names_the_client)
{
    for (size_t i = 0; i < COUNT(rows); i++) {
        const char *accepted_from = rows[i].accepted_from ? rows[i].accepted_from : "";
        const char *refused_from = rows[i].refused_from ? rows[i].refused_from : "";

        fixture_init(rows[i].client, rows[i].allow_from);
        receive(rows[i].first, rows[i].second, "localhost");
        if (strcmp(fixture.accepted_from, accepted_from) != 0 || strcmp(fixture.refused_from, refused_from) != 0)
            fail_msg("row %zu: accepted from '%s', refused from '%s'", i, fixture.accepted_from, fixture.refused_from);
        if (*refused_from) {
            assert_int_equal(fixture.refusal, HTTP_REFUSE_PEER);
            assert_string_equal(fixture.detail, rows[i].detail);
        }
        fixture_finish();
    }
}

TEST(each_request_of_a_connection_has_its_own_client)
{
    fixture_init(HTTP_CLIENT_FROM_REQUESTS, NULL);
    receive(CLIENT, NULL, "localhost");
    assert_string_equal(fixture.accepted_from, CLIENT);
    receive(NULL, NULL, "localhost");
    assert_string_equal(fixture.accepted_from, PROXY);
    receive("2001:db8::7", NULL, "localhost");
    assert_string_equal(fixture.accepted_from, "2001:db8::7");
    fixture_finish();
}

// Two parsers could find different clients in such a head.
TEST(an_ambiguous_head_names_no_client)
{
    fixture_init(HTTP_CLIENT_FROM_REQUESTS, CLIENT);
    receive(CLIENT, NULL, "not a host");
    assert_string_equal(fixture.refused_from, PROXY);
    assert_int_equal(fixture.refusal, HTTP_REFUSE_FRAMING);
    fixture_finish();
}

TEST_MAIN(NULL, NULL)
