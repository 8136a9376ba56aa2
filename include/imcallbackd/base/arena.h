// Allocates pieces of memory one by one and frees them all at once, for example at the end of a request. An arena must
// not be used by two threads at the same time.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; // newest first
    size_t next_block_bytes;
    size_t used_bytes;  // allocated from the heap, headers of the blocks included
    size_t limit_bytes; // maximum of used_bytes
    bool out_of_memory; // an allocation failed although the limit allowed it
};

void arena_init(struct arena *arena, size_t limit_bytes);

// Returns memory that is aligned for any type and not zeroed, or NULL if the allocation would exceed the limit or the
// system is out of memory.
void *arena_alloc(struct arena *arena, size_t bytes);

// Copies the bytes and appends a NUL. data may be NULL if length is 0. Returns NULL in the same cases as arena_alloc().
char *arena_copy(struct arena *arena, const char *data, size_t length);

// Frees all memory of the arena. The caller can use the empty arena again with the same limit.
void arena_finish(struct arena *arena);
