// Tests the admission of connections: the limit for all, the limit per client network, allow_from, and trusted proxies.
#include <string.h>

#include "../unit.h"
#include "credentials_stub.h"
#include "http/shared.h"

#define LIMIT       40
#define PER_ADDRESS 8
#define NETWORKS    20000

static struct http_shared shared;
static struct http_credentials credentials;

static int setup(void **state)
{
    const struct http_limits limits = {.connections = LIMIT, .connections_per_address = PER_ADDRESS};
    const struct http_handler handler = {0};

    (void)state;
    return http_shared_init(&shared, "/", &handler, &limits, &credentials);
}

// http_shared_finish asserts that no connection and no network is left. The test fails if a reference to the
// credentials is left.
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
    struct http_admission admission;
    enum http_refusal why = http_shared_admit(&shared, &network, &network, &admission);

    http_credentials_unref(admission.credentials);
    assert_int_equal(admission.credentials == NULL, why != HTTP_REFUSE_NONE);
    assert_false(admission.is_trusted_proxy);
    *ret_exceeded = admission.exceeded_limit;
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

SHARED_TEST(allows_no_unknown_address_with_allow_from)
{
    const struct address_block block = {network_of(1), 128};
    const struct http_limits limits = {.allow_from = &block, .allow_from_count = 1};
    struct address one = network_of(1), other = network_of(2);

    assert_true(http_shared_allows(&shared, &one));
    assert_true(http_shared_allows(&shared, NULL));
    assert_int_equal(http_shared_reconfigure(&shared, &limits, &credentials), 0);
    assert_true(http_shared_allows(&shared, &one));
    assert_false(http_shared_allows(&shared, &other));
    assert_false(http_shared_allows(&shared, NULL));
}

#define PROXY   7
#define ALLOWED 1

// Only network ALLOWED is in allow_from, and PROXY is the trusted proxy.
static void trust_proxy(void)
{
    const struct address_block allowed = {network_of(ALLOWED), 128}, trusted = {network_of(PROXY), 128};
    const struct http_limits limits = {.connections = LIMIT,
                                       .connections_per_address = PER_ADDRESS,
                                       .allow_from = &allowed,
                                       .allow_from_count = 1,
                                       .trusted_proxies = &trusted,
                                       .trusted_proxy_count = 1};

    assert_int_equal(http_shared_reconfigure(&shared, &limits, &credentials), 0);
}

static enum http_refusal admit_proxy(enum http_limit *ret_exceeded)
{
    struct address peer = network_of(PROXY);
    struct http_admission admission;
    enum http_refusal why = http_shared_admit(&shared, &peer, &peer, &admission);

    assert_true(admission.is_trusted_proxy);
    http_credentials_unref(admission.credentials);
    *ret_exceeded = admission.exceeded_limit;
    return why;
}

static enum http_refusal admit_client(size_t number, enum http_limit *ret_exceeded)
{
    struct address client = network_of(number);

    return http_shared_admit_client(&shared, &client, &client, ret_exceeded);
}

SHARED_TEST(exempts_a_trusted_proxy_from_the_limit_per_address_and_from_allow_from)
{
    enum http_limit exceeded;

    trust_proxy();
    for (unsigned int i = 0; i < http_hard_limit(LIMIT); i++) {
        assert_int_equal(admit_proxy(&exceeded), HTTP_REFUSE_NONE);
        assert_int_equal(exceeded, i < LIMIT ? HTTP_LIMIT_NONE : HTTP_LIMIT_CONNECTIONS);
    }
    assert_int_equal(admit_proxy(&exceeded), HTTP_REFUSE_TOO_MANY_CONNECTIONS);
    for (unsigned int i = 0; i < http_hard_limit(LIMIT); i++)
        http_shared_release(&shared, NULL);
    assert_refused(PROXY + 1, HTTP_REFUSE_PEER); // any other peer has to be in allow_from
}

SHARED_TEST(limits_the_clients_that_a_proxy_names)
{
    unsigned int hard_limit = http_hard_limit(PER_ADDRESS);
    enum http_limit exceeded = HTTP_LIMIT_NONE;

    trust_proxy();
    for (unsigned int i = 0; i <= hard_limit; i++)
        assert_int_equal(admit_proxy(&exceeded), HTTP_REFUSE_NONE);
    assert_int_equal(admit_client(ALLOWED + 1, &exceeded), HTTP_REFUSE_PEER);
    for (unsigned int i = 0; i < hard_limit; i++) {
        assert_int_equal(admit_client(ALLOWED, &exceeded), HTTP_REFUSE_NONE);
        assert_int_equal(exceeded, i < PER_ADDRESS ? HTTP_LIMIT_NONE : HTTP_LIMIT_PER_ADDRESS);
    }
    assert_int_equal(admit_client(ALLOWED, &exceeded), HTTP_REFUSE_TOO_MANY_CONNECTIONS);
    // A client's direct connections and those through the proxy share a limit.
    assert_refused(ALLOWED, HTTP_REFUSE_TOO_MANY_CONNECTIONS);
    release(ALLOWED);
    assert_admitted(ALLOWED, HTTP_LIMIT_PER_ADDRESS);
    for (unsigned int i = 0; i < hard_limit; i++)
        release(ALLOWED);
    http_shared_release(&shared, NULL);
}

SHARED_TEST(a_reload_replaces_the_trusted_proxies)
{
    const struct http_limits limits = {.connections = LIMIT, .connections_per_address = PER_ADDRESS};
    enum http_limit exceeded;

    trust_proxy();
    assert_int_equal(admit_proxy(&exceeded), HTTP_REFUSE_NONE);
    assert_int_equal(http_shared_reconfigure(&shared, &limits, &credentials), 0);
    assert_admitted(PROXY, HTTP_LIMIT_NONE); // asserts that the peer is not a trusted proxy
    release(PROXY);
    http_shared_release(&shared, NULL); // the open connection still counts as one of a proxy
}

TEST_MAIN(NULL, NULL)
