// Admits connections under one lock, and defines the metrics of the module.
#include "shared.h"

#include <assert.h>
#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "imcallbackd/base/clock.h"

const struct metric http_connections_open = {METRIC_GAUGE("imcallbackd_connections", "Open connections.")};
const struct metric http_requests_waiting = {
    METRIC_GAUGE("imcallbackd_waiting_requests", "Requests whose callback waits to be recorded.")};
const struct metric http_handshakes = {
    METRIC_COUNTERS("imcallbackd_tls_handshakes_total",
                    "TLS handshakes; a failed one is a connection that was closed before its handshake was complete.",
                    "result", "full", "resumed", "failed")};
const struct metric http_proxy_headers = {METRIC_COUNTERS("imcallbackd_proxy_headers_total",
                                                          "Headers of the PROXY protocol from trusted proxies.",
                                                          "result", "client", "local", "malformed")};
const struct metric http_answer_seconds = {METRIC_HISTOGRAM(
    "imcallbackd_answer_seconds", "Time from the last byte of a callback's body to its answer.", 6, 100, 250, 500, 1000,
    2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2000000, 5000000, 10000000)};

unsigned int http_hard_limit(unsigned int limit)
{
    return limit + limit / 16 + 16;
}

int http_shared_reconfigure(struct http_shared *shared, const struct http_limits *limits,
                            struct http_credentials *credentials)
{
    size_t allowed = limits->allow_from_count, trusted = limits->trusted_proxy_count;
    struct address_block *blocks = calloc(allowed + trusted + 1, sizeof *blocks); // never 0 bytes
    struct address_block *old_blocks;
    struct http_credentials *old_credentials;

    if (!blocks)
        return -ENOMEM;
    for (size_t i = 0; i < allowed; i++)
        blocks[i] = limits->allow_from[i];
    for (size_t i = 0; i < trusted; i++)
        blocks[allowed + i] = limits->trusted_proxies[i];
    pthread_mutex_lock(&shared->lock);
    old_blocks = shared->blocks;
    old_credentials = shared->credentials;
    shared->limits = *limits;
    shared->blocks = blocks;
    shared->limits.allow_from = blocks;
    shared->limits.trusted_proxies = blocks + allowed;
    shared->credentials = http_credentials_ref(credentials);
    pthread_mutex_unlock(&shared->lock);
    free(old_blocks);
    http_credentials_unref(old_credentials);
    return 0;
}

int http_shared_init(struct http_shared *shared, const char *path, const struct http_handler *handler,
                     const struct http_limits *limits, struct http_credentials *credentials)
{
    pthread_condattr_t monotonic;

    *shared = (struct http_shared){.handler = *handler, .path = strdup(path)};
    pthread_mutex_init(&shared->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&shared->all_closed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return shared->path ? http_shared_reconfigure(shared, limits, credentials) : -ENOMEM;
}

void http_shared_finish(struct http_shared *shared)
{
    assert(shared->connection_count == 0 && !shared->networks && shared->body_in_flight == 0);
    http_credentials_unref(shared->credentials);
    free(shared->blocks);
    free(shared->path);
    pthread_cond_destroy(&shared->all_closed);
    pthread_mutex_destroy(&shared->lock);
}

void http_shared_copy_limits(struct http_shared *shared, struct http_limits *ret_limits)
{
    pthread_mutex_lock(&shared->lock);
    *ret_limits = shared->limits;
    pthread_mutex_unlock(&shared->lock);
    ret_limits->allow_from = ret_limits->trusted_proxies = NULL;
    ret_limits->allow_from_count = ret_limits->trusted_proxy_count = 0;
}

static bool is_allowed(const struct http_limits *limits, const struct address *client)
{
    return limits->allow_from_count == 0 ||
           (client && address_blocks_contain(limits->allow_from, limits->allow_from_count, client));
}

bool http_shared_allows(struct http_shared *shared, const struct address *client)
{
    bool allowed;

    pthread_mutex_lock(&shared->lock);
    allowed = is_allowed(&shared->limits, client);
    pthread_mutex_unlock(&shared->lock);
    return allowed;
}

// A node of shared->networks. A balanced tree, unlike a hash table, stays fast even if a client chooses addresses that
// collide.
struct network {
    struct address address; // the first member, so that a pointer to an address serves as a key
    unsigned int connections;
};

static int compare_networks(const void *one, const void *other)
{
    return memcmp(one, other, sizeof(struct address));
}

// Returns the network with this address, and adds the network if necessary. Returns NULL if memory is exhausted. The
// caller holds the lock.
static struct network *get_network(struct http_shared *shared, const struct address *address)
{
    struct network *const *found = tfind(address, &shared->networks, compare_networks);
    struct network *network;

    if (found)
        return *found;
    network = calloc(1, sizeof *network);
    if (!network)
        return NULL;
    network->address = *address;
    if (tsearch(network, &shared->networks, compare_networks))
        return network;
    free(network);
    return NULL;
}

// Counts one more connection of the network, and sets *ret_exceeded. Returns false, without counting, if the hard limit
// is reached or memory is exhausted. The caller holds the lock.
static bool count_for_network(struct http_shared *shared, const struct address *address, enum http_limit *ret_exceeded)
{
    unsigned int limit = shared->limits.connections_per_address;
    struct network *network = get_network(shared, address);

    if (!network || network->connections >= http_hard_limit(limit))
        return false;
    network->connections++;
    *ret_exceeded = network->connections > limit ? HTTP_LIMIT_PER_ADDRESS : HTTP_LIMIT_NONE;
    return true;
}

// Counts one more connection, also for its network unless the peer is a trusted proxy, and sets
// admission->exceeded_limit. Returns false, without counting, if a hard limit is reached or memory is exhausted. The
// caller holds the lock.
static bool count_connection(struct http_shared *shared, const struct address *network,
                             struct http_admission *admission)
{
    unsigned int limit = shared->limits.connections;

    if (shared->connection_count >= http_hard_limit(limit) ||
        (!admission->is_trusted_proxy && !count_for_network(shared, network, &admission->exceeded_limit)))
        return false;
    shared->connection_count++;
    if (admission->exceeded_limit == HTTP_LIMIT_NONE && shared->connection_count > limit)
        admission->exceeded_limit = HTTP_LIMIT_CONNECTIONS;
    return true;
}

enum http_refusal http_shared_admit(struct http_shared *shared, const struct address *peer,
                                    const struct address *network, struct http_admission *ret_admission)
{
    const struct http_limits *limits = &shared->limits;
    struct http_admission admission = {.exceeded_limit = HTTP_LIMIT_NONE};
    enum http_refusal why = HTTP_REFUSE_NONE;

    pthread_mutex_lock(&shared->lock);
    admission.is_trusted_proxy = address_blocks_contain(limits->trusted_proxies, limits->trusted_proxy_count, peer);
    if (!admission.is_trusted_proxy && !is_allowed(limits, peer)) {
        why = HTTP_REFUSE_PEER;
    } else if (!count_connection(shared, network, &admission)) {
        why = HTTP_REFUSE_TOO_MANY_CONNECTIONS;
    } else {
        admission.credentials = http_credentials_ref(shared->credentials);
        metric_add(&http_connections_open, 0, 1);
    }
    pthread_mutex_unlock(&shared->lock);
    *ret_admission = admission;
    return why;
}

enum http_refusal http_shared_admit_client(struct http_shared *shared, const struct address *client,
                                           const struct address *network, enum http_limit *ret_exceeded)
{
    enum http_refusal why = HTTP_REFUSE_NONE;

    pthread_mutex_lock(&shared->lock);
    if (!is_allowed(&shared->limits, client))
        why = HTTP_REFUSE_PEER;
    else if (!count_for_network(shared, network, ret_exceeded))
        why = HTTP_REFUSE_TOO_MANY_CONNECTIONS;
    pthread_mutex_unlock(&shared->lock);
    return why;
}

// The caller holds the lock.
static void release_network(struct http_shared *shared, const struct address *address)
{
    struct network *const *found = tfind(address, &shared->networks, compare_networks);
    struct network *network;

    assert(found);
    network = *found;
    if (--network->connections > 0)
        return;
    tdelete(network, &shared->networks, compare_networks);
    free(network);
}

void http_shared_release(struct http_shared *shared, const struct address *network)
{
    pthread_mutex_lock(&shared->lock);
    assert(shared->connection_count > 0);
    if (network)
        release_network(shared, network);
    metric_add(&http_connections_open, 0, -1);
    if (--shared->connection_count == 0)
        pthread_cond_signal(&shared->all_closed);
    pthread_mutex_unlock(&shared->lock);
}

unsigned int http_shared_wait_until_empty(struct http_shared *shared, int64_t until_ms)
{
    struct timespec deadline = clock_timespec(until_ms);

    pthread_mutex_lock(&shared->lock);
    while (shared->connection_count > 0) {
        if (pthread_cond_timedwait(&shared->all_closed, &shared->lock, &deadline) == ETIMEDOUT)
            break;
    }
    pthread_mutex_unlock(&shared->lock);
    return shared->connection_count;
}
