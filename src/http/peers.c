#include "peers.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096

struct peer {
    struct address caller;
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

// FNV-1a. Whoever finds addresses that collide makes one list long, at most as long as `connections` allows.
static size_t bucket_of(const struct address *caller)
{
    uint32_t hash = 2166136261;

    for (size_t i = 0; i < sizeof caller->bytes; i++)
        hash = (hash ^ caller->bytes[i]) * 16777619;
    return (hash ^ hash >> 16) % BUCKETS;
}

// The link that leads to the caller's entry, or to the end of its list.
static struct peer **find(struct peers *peers, const struct address *caller)
{
    struct peer **link = &peers->buckets[bucket_of(caller)];

    while (*link && memcmp(&(*link)->caller, caller, sizeof *caller) != 0)
        link = &(*link)->next;
    return link;
}

unsigned int peers_add(struct peers *peers, const struct address *caller)
{
    struct peer **link = find(peers, caller);
    struct peer *peer = *link;

    if (!peer) {
        peer = calloc(1, sizeof *peer);
        if (!peer)
            return 0;
        peer->caller = *caller;
        *link = peer;
    }
    return ++peer->connections;
}

void peers_remove(struct peers *peers, const struct address *caller)
{
    struct peer **link = find(peers, caller);
    struct peer *peer = *link;

    assert(peer && peer->connections > 0);
    if (--peer->connections > 0)
        return;
    *link = peer->next;
    free(peer);
}
