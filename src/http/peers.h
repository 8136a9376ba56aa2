// Counts the open connections of each client network. Not thread-safe: the owner serializes the calls.
#pragma once

#include "imcallbackd/base/address.h"

struct peers;

struct peers *peers_create(void); // returns NULL if memory is exhausted
void peers_destroy(struct peers *peers);

// Returns the network's number of connections, including this one. Returns 0, without counting the connection, if
// memory is exhausted.
unsigned int peers_add(struct peers *peers, const struct address *network);

// Requires a previous successful peers_add for the same network.
void peers_remove(struct peers *peers, const struct address *network);
