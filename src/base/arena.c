// Allocates blocks from the heap and hands out consecutive pieces of the newest block. The rest of an older block stays
// unused.
#include "imcallbackd/base/arena.h"

#include <assert.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_BLOCK_BYTES   ((size_t)4096)       // enough for an event with a few members
#define LARGEST_BLOCK_BYTES ((size_t)256 * 1024) // new blocks double in size up to this, unless a piece needs more

struct arena_block {
    struct arena_block *older;
    size_t capacity;
    size_t used;
    alignas(max_align_t) char bytes[];
};

void arena_init(struct arena *arena, size_t limit_bytes)
{
    *arena = (struct arena){.next_block_bytes = FIRST_BLOCK_BYTES, .limit_bytes = limit_bytes};
}

static struct arena_block *arena_add_block(struct arena *arena, size_t bytes)
{
    size_t capacity = arena->next_block_bytes - sizeof(struct arena_block);
    struct arena_block *block;

    assert(arena->used_bytes <= arena->limit_bytes);
    if (capacity < bytes)
        capacity = bytes;
    if (capacity + sizeof *block > arena->limit_bytes - arena->used_bytes)
        return NULL;
    block = malloc(sizeof *block + capacity);
    if (!block) {
        arena->out_of_memory = true;
        return NULL;
    }
    *block = (struct arena_block){.older = arena->blocks, .capacity = capacity};
    arena->blocks = block;
    arena->used_bytes += sizeof *block + capacity;
    if (arena->next_block_bytes < LARGEST_BLOCK_BYTES)
        arena->next_block_bytes *= 2;
    return block;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    const size_t align = alignof(max_align_t);
    struct arena_block *block = arena->blocks;
    void *taken;

    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + align - 1) / align * align;
    if (!block || block->capacity - block->used < bytes) {
        block = arena_add_block(arena, bytes);
        if (!block)
            return NULL;
    }
    assert(block->used <= block->capacity && bytes <= block->capacity - block->used);
    taken = block->bytes + block->used;
    block->used += bytes;
    return taken;
}

char *arena_copy(struct arena *arena, const char *data, size_t length)
{
    char *copy = length < SIZE_MAX / 2 ? arena_alloc(arena, length + 1) : NULL;

    if (!copy)
        return NULL;
    assert(data || length == 0);
    if (length > 0)
        memcpy(copy, data, length);
    copy[length] = '\0';
    return copy;
}

void arena_finish(struct arena *arena)
{
    struct arena_block *block = arena->blocks;

    assert(!block == (arena->used_bytes == 0));
    while (block) {
        struct arena_block *older = block->older;

        assert(block->used <= block->capacity);
        free(block);
        block = older;
    }
    arena_init(arena, arena->limit_bytes);
}
