// How many connections each caller has. Not for several threads at a time.
#pragma once

#include "imcallbackd/base/address.h"

struct peers;

struct peers *peers_create(void); // NULL when there is no memory
void peers_destroy(struct peers *peers);

// Returns how many the caller has now, with this one; 0 when there is no memory and it was not counted.
unsigned int peers_add(struct peers *peers, const struct address *caller);

// For a connection that was counted.
void peers_remove(struct peers *peers, const struct address *caller);
