// A hash table of a fixed number of buckets; each bucket is a linked list.
#include "peers.h"

#include <assert.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096

struct peer {
    struct address network;
    unsigned int connections;
    struct peer *next;
};

struct peers {
    struct peer *buckets[BUCKETS];
};

struct peers *peers_create(void)
{
    return calloc(1, sizeof(struct peers));
}

void peers_destroy(struct peers *peers)
{
    for (size_t i = 0; peers && i < BUCKETS; i++) {
        while (peers->buckets[i]) {
            struct peer *peer = peers->buckets[i];

            peers->buckets[i] = peer->next;
            free(peer);
        }
    }
    free(peers);
}

// FNV-1a. A client that owns colliding addresses can make one list long, but no longer than [limits] connections.
static size_t bucket_of(const struct address *network)
{
    uint32_t hash = 2166136261;

    for (size_t i = 0; i < sizeof network->bytes; i++)
        hash = (hash ^ network->bytes[i]) * 16777619;
    return (hash ^ hash >> 16) % BUCKETS;
}

// Returns the link to the network's entry, or the link at the end of its bucket.
static struct peer **find(struct peers *peers, const struct address *network)
{
    struct peer **link = &peers->buckets[bucket_of(network)];

    while (*link && memcmp(&(*link)->network, network, sizeof *network) != 0)
        link = &(*link)->next;
    return link;
}

unsigned int peers_add(struct peers *peers, const struct address *network)
{
    struct peer **link = find(peers, network);
    struct peer *peer = *link;

    if (!peer) {
        peer = calloc(1, sizeof *peer);
        if (!peer)
            return 0;
        peer->network = *network;
        *link = peer;
    }
    assert(peer->connections < UINT_MAX);
    return ++peer->connections;
}

void peers_remove(struct peers *peers, const struct address *network)
{
    struct peer **link = find(peers, network);
    struct peer *peer = *link;

    assert(peer && peer->connections > 0);
    if (--peer->connections > 0)
        return;
    *link = peer->next;
    free(peer);
}
