// Tests alignment, limits and reuse of an arena.
#include <stdalign.h>
#include <string.h>

#include "../unit.h"
#include "imcallbackd/base/arena.h"

#define FIRST_BLOCK_BYTES 4096 // the value in src/base/arena.c

static struct arena arena;

TEST(pieces_are_aligned_and_do_not_overlap)
{
    unsigned char *pieces[500];

    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < COUNT(pieces); i++) {
        pieces[i] = arena_alloc(&arena, i);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % alignof(max_align_t), 0);
        if (i > 0)
            memset(pieces[i], (int)(i % 251), i);
    }
    for (size_t i = 0; i < COUNT(pieces); i++) {
        for (size_t at = 0; at < i; at++)
            assert_int_equal(pieces[i][at], i % 251);
    }
    arena_finish(&arena);
}

TEST(copies_end_with_nul)
{
    char *copy;

    arena_init(&arena, 1 << 20);
    copy = arena_copy(&arena, "group and more", 5);
    assert_string_equal(copy, "group");
    assert_string_equal(arena_copy(&arena, NULL, 0), "");
    assert_memory_equal(arena_copy(&arena, "a\0b", 3), "a\0b", 4);
    assert_string_equal(copy, "group");
    arena_finish(&arena);
}

TEST(allocates_blocks_and_not_pieces)
{
    arena_init(&arena, 1 << 20);
    assert_int_equal(arena.used_bytes, 0);
    for (size_t i = 0; i < 10; i++)
        assert_non_null(arena_alloc(&arena, 100));
    assert_int_equal(arena.used_bytes, FIRST_BLOCK_BYTES);
    arena_finish(&arena);
    assert_int_equal(arena.used_bytes, 0);
    assert_non_null(arena_alloc(&arena, 100));
    assert_int_equal(arena.used_bytes, FIRST_BLOCK_BYTES);
    arena_finish(&arena);
}

TEST(stops_at_the_limit)
{
    for (size_t limit = FIRST_BLOCK_BYTES - 1; limit <= FIRST_BLOCK_BYTES + 1; limit++) {
        arena_init(&arena, limit);
        if (limit < FIRST_BLOCK_BYTES)
            assert_null(arena_alloc(&arena, 1));
        else
            assert_non_null(arena_alloc(&arena, 1));
        arena_finish(&arena);
    }
}

// Tries every size near the limit. If the arena refuses a size, it must refuse every larger size.
TEST(large_pieces_reach_but_do_not_exceed_the_limit)
{
    const size_t limit = 100000, step = alignof(max_align_t);
    size_t largest = 0;

    for (size_t bytes = limit - 20 * step; bytes <= limit + step; bytes++) {
        void *piece;

        arena_init(&arena, limit);
        piece = arena_alloc(&arena, bytes);
        assert_true(arena.used_bytes <= limit);
        if (piece) {
            assert_int_equal(largest + 1 == bytes || largest == 0, 1);
            memset(piece, 0xa5, bytes);
            largest = bytes;
        }
        arena_finish(&arena);
    }
    assert_in_range(largest, limit - 10 * step, limit - 1);
}

TEST(is_usable_after_a_refusal)
{
    size_t taken = 0;

    arena_init(&arena, 64 << 10);
    while (arena_alloc(&arena, 1000)) {
        taken += 1000;
        assert_true(taken <= arena.limit_bytes);
        assert_true(arena.used_bytes <= arena.limit_bytes);
    }
    assert_in_range(taken, 16 << 10, 64 << 10);
    arena_finish(&arena);
    assert_non_null(arena_alloc(&arena, 1000));
    arena_finish(&arena);
}

TEST(refuses_sizes_that_overflow)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 64, SIZE_MAX / 2 + 1, SIZE_MAX / 2};

    arena_init(&arena, 1 << 20);
    for (size_t i = 0; i < COUNT(sizes); i++) {
        assert_null(arena_alloc(&arena, sizes[i]));
        assert_null(arena_copy(&arena, "", sizes[i]));
    }
    assert_int_equal(arena.used_bytes, 0);
    arena_finish(&arena);
}

TEST_MAIN(NULL, NULL)
