// Tests the admission of connections: the limit for all, the limit per client network, and allow_from.
#include <string.h>

#include "../unit.h"
#include "http/shared.h"

#define LIMIT       40
#define PER_ADDRESS 8
#define NETWORKS    20000

// No test needs a certificate, so these stubs replace the functions of credentials.c.
struct http_credentials {
    int references;
};

struct http_credentials *http_credentials_ref(struct http_credentials *credentials)
{
    credentials->references++;
    return credentials;
}

void http_credentials_unref(struct http_credentials *credentials)
{
    if (credentials)
        credentials->references--;
}

static struct http_shared shared;
static struct http_credentials credentials;

static int setup(void **state)
{
    const struct http_limits limits = {.connections = LIMIT, .connections_per_address = PER_ADDRESS};
    const struct http_handler handler = {0};

    (void)state;
    return http_shared_init(&shared, "/", &handler, &limits, &credentials);
}

// http_shared_finish asserts that no connection and no network is left.
static int teardown(void **state)
{
    (void)state;
    http_shared_finish(&shared);
    return credentials.references;
}

static struct address network_of(size_t number)
{
    struct address network = {{0x20, 0x01, 0x0d, 0xb8}};

    memcpy(network.bytes + 4, &number, 4);
    return network;
}

static enum http_refusal admit(size_t number, enum http_limit *ret_exceeded)
{
    struct address network = network_of(number);
    struct http_credentials *taken;
    enum http_refusal why = http_shared_admit(&shared, &network, &network, ret_exceeded, &taken);

    if (why == HTTP_REFUSE_NONE)
        http_credentials_unref(taken);
    return why;
}

static void assert_admitted(size_t number, enum http_limit expected)
{
    enum http_limit exceeded = HTTP_LIMIT_NONE;

    assert_int_equal(admit(number, &exceeded), HTTP_REFUSE_NONE);
    assert_int_equal(exceeded, expected);
}

static void assert_refused(size_t number, enum http_refusal expected)
{
    enum http_limit exceeded;

    assert_int_equal(admit(number, &exceeded), expected);
}

static void release(size_t number)
{
    struct address network = network_of(number);

    http_shared_release(&shared, &network);
}

#define SHARED_TEST(name) TEST_WITH(name, setup, teardown)

SHARED_TEST(limits_each_network_separately)
{
    for (unsigned int i = 0; i < http_hard_limit(PER_ADDRESS); i++)
        assert_admitted(1, i < PER_ADDRESS ? HTTP_LIMIT_NONE : HTTP_LIMIT_PER_ADDRESS);
    assert_refused(1, HTTP_REFUSE_TOO_MANY_CONNECTIONS);
    assert_admitted(2, HTTP_LIMIT_NONE);
    release(1);
    assert_admitted(1, HTTP_LIMIT_PER_ADDRESS);
    for (unsigned int i = 0; i < http_hard_limit(PER_ADDRESS); i++)
        release(1);
    assert_admitted(1, HTTP_LIMIT_NONE);
    release(1);
    release(2);
}

SHARED_TEST(limits_all_connections)
{
    for (unsigned int i = 0; i < http_hard_limit(LIMIT); i++)
        assert_admitted(i, i < LIMIT ? HTTP_LIMIT_NONE : HTTP_LIMIT_CONNECTIONS);
    assert_refused(0, HTTP_REFUSE_TOO_MANY_CONNECTIONS);
    assert_refused((size_t)LIMIT * 2, HTTP_REFUSE_TOO_MANY_CONNECTIONS);
    for (unsigned int i = 0; i < http_hard_limit(LIMIT); i++)
        release(i);
}

SHARED_TEST(counts_many_networks)
{
    shared.limits.connections = 3 * NETWORKS;
    shared.limits.connections_per_address = 2;
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < NETWORKS; i++)
            assert_admitted(i, HTTP_LIMIT_NONE);
    }
    for (size_t i = 0; i < NETWORKS; i += 2) {
        release(i);
        release(i);
    }
    for (size_t i = 0; i < NETWORKS; i++)
        assert_admitted(i, i % 2 == 0 ? HTTP_LIMIT_NONE : HTTP_LIMIT_PER_ADDRESS);
    for (size_t i = 0; i < NETWORKS; i++) {
        for (size_t count = i % 2 == 0 ? 1 : 3; count > 0; count--)
            release(i);
    }
}

SHARED_TEST(refuses_addresses_outside_allow_from)
{
    const struct address_block blocks[] = {{network_of(1), 128}, {network_of(2), 128}};
    const struct http_limits limits = {
        .connections = 9, .connections_per_address = 9, .allow_from = blocks, .allow_from_count = COUNT(blocks)};

    assert_int_equal(http_shared_reconfigure(&shared, &limits, &credentials), 0);
    assert_admitted(1, HTTP_LIMIT_NONE);
    assert_admitted(2, HTTP_LIMIT_NONE);
    assert_refused(3, HTTP_REFUSE_PEER);
    release(1);
    release(2);
}

TEST_MAIN(NULL, NULL)
