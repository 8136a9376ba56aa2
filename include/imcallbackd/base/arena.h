// Memory that lives as long as one request: taken piece by piece, given back at once. Not for several threads at a
// time.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; // newest first
    size_t next_block_bytes;
    size_t used_bytes;  // taken from the system so far
    size_t limit_bytes; // never takes more than this
    bool out_of_memory; // the system had no memory, when the limit would have allowed more
};

void arena_init(struct arena *arena, size_t limit_bytes);

// Aligned for any type, not zeroed. NULL when the limit is reached or the system has no memory.
void *arena_alloc(struct arena *arena, size_t bytes);

// A copy of the bytes with a 0 behind; NULL as above.
char *arena_copy(struct arena *arena, const char *data, size_t length);

// Frees everything that was taken; the arena is usable again.
void arena_finish(struct arena *arena);
