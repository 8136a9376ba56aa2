// Admission of connections under one lock, and the metrics of the module.
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
    struct address_block *blocks = calloc(limits->allow_from_count + 1, sizeof *blocks); // never 0 bytes
    struct address_block *old_blocks;
    struct http_credentials *old_credentials;

    if (!blocks)
        return -ENOMEM;
    for (size_t i = 0; i < limits->allow_from_count; i++)
        blocks[i] = limits->allow_from[i];
    pthread_mutex_lock(&shared->lock);
    old_blocks = shared->allow_from;
    old_credentials = shared->credentials;
    shared->limits = *limits;
    shared->limits.allow_from = shared->allow_from = blocks;
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
    free(shared->allow_from);
    free(shared->path);
    pthread_cond_destroy(&shared->all_closed);
    pthread_mutex_destroy(&shared->lock);
}

void http_shared_copy_limits(struct http_shared *shared, struct http_limits *ret_limits)
{
    pthread_mutex_lock(&shared->lock);
    *ret_limits = shared->limits;
    pthread_mutex_unlock(&shared->lock);
    ret_limits->allow_from = NULL;
    ret_limits->allow_from_count = 0;
}

static bool is_allowed(const struct http_limits *limits, const struct address *address)
{
    bool allowed = limits->allow_from_count == 0;

    for (size_t i = 0; i < limits->allow_from_count && !allowed; i++)
        allowed = address_block_contains(&limits->allow_from[i], address);
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

// Returns the network with this address, which it adds if necessary, or NULL if memory is exhausted.
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

// Counts one more connection of the network unless a hard limit is reached or memory is exhausted. The caller holds the
// lock.
static bool count_connection(struct http_shared *shared, const struct address *address, enum http_limit *ret_exceeded)
{
    const struct http_limits *limits = &shared->limits;
    struct network *network;

    if (shared->connection_count >= http_hard_limit(limits->connections))
        return false;
    network = get_network(shared, address);
    if (!network || network->connections >= http_hard_limit(limits->connections_per_address))
        return false;
    network->connections++;
    shared->connection_count++;
    *ret_exceeded = network->connections > limits->connections_per_address ? HTTP_LIMIT_PER_ADDRESS
                    : shared->connection_count > limits->connections       ? HTTP_LIMIT_CONNECTIONS
                                                                           : HTTP_LIMIT_NONE;
    return true;
}

enum http_refusal http_shared_admit(struct http_shared *shared, const struct address *address,
                                    const struct address *network, enum http_limit *ret_exceeded,
                                    struct http_credentials **ret_credentials)
{
    enum http_refusal why = HTTP_REFUSE_NONE;

    pthread_mutex_lock(&shared->lock);
    if (!is_allowed(&shared->limits, address)) {
        why = HTTP_REFUSE_PEER;
    } else if (!count_connection(shared, network, ret_exceeded)) {
        why = HTTP_REFUSE_TOO_MANY_CONNECTIONS;
    } else {
        *ret_credentials = http_credentials_ref(shared->credentials);
        metric_add(&http_connections_open, 0, 1);
    }
    pthread_mutex_unlock(&shared->lock);
    return why;
}

void http_shared_release(struct http_shared *shared, const struct address *address)
{
    struct network *const *found, *network;

    pthread_mutex_lock(&shared->lock);
    found = tfind(address, &shared->networks, compare_networks);
    assert(shared->connection_count > 0 && found);
    network = *found;
    if (--network->connections == 0) {
        tdelete(network, &shared->networks, compare_networks);
        free(network);
    }
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
