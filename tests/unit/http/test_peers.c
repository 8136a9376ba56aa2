// Tests how the server counts the connections of each client network.
#include <stdlib.h>
#include <string.h>

#include "../unit.h"
#include "http/peers.h"

#define NETWORKS 20000 // several in each bucket

static struct address network_of(size_t number)
{
    struct address network = {{0x20, 0x01, 0x0d, 0xb8}};

    memcpy(network.bytes + 4, &number, 4);
    return network;
}

TEST(counts_each_network_separately)
{
    struct peers *peers = peers_create();
    struct address one = network_of(1), other = network_of(2);

    assert_non_null(peers);
    for (unsigned int i = 1; i <= 3; i++)
        assert_int_equal(peers_add(peers, &one), i);
    assert_int_equal(peers_add(peers, &other), 1);
    peers_remove(peers, &one);
    assert_int_equal(peers_add(peers, &one), 3);
    for (size_t i = 0; i < 3; i++)
        peers_remove(peers, &one);
    assert_int_equal(peers_add(peers, &one), 1); // its entry was removed
    assert_int_equal(peers_add(peers, &other), 2);
    peers_destroy(peers);
}

TEST(distinguishes_networks_in_one_bucket)
{
    struct peers *peers = peers_create();

    for (unsigned int round = 1; round <= 2; round++) {
        for (size_t i = 0; i < NETWORKS; i++) {
            struct address network = network_of(i);

            assert_int_equal(peers_add(peers, &network), round);
        }
    }
    // Removes every second network: from the start, the middle and the end of its bucket.
    for (size_t i = 0; i < NETWORKS; i += 2) {
        struct address network = network_of(i);

        peers_remove(peers, &network);
        peers_remove(peers, &network);
    }
    for (size_t i = 0; i < NETWORKS; i++) {
        struct address network = network_of(i);

        assert_int_equal(peers_add(peers, &network), i % 2 == 0 ? 1 : 3);
    }
    peers_destroy(peers);
}

TEST(destroy_accepts_null)
{
    peers_destroy(NULL);
}

TEST_MAIN(NULL, NULL)
