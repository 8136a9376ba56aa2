// The hooks through which cJSON allocates are global to the process. A thread-local variable therefore holds the arena
// for the text that the calling thread parses.
#include "json_tree.h"

#include <assert.h>
#include <pthread.h>

static _Thread_local struct arena *parse_arena;
static _Thread_local bool parse_arena_is_full;
static pthread_once_t hooks_once = PTHREAD_ONCE_INIT;

static void *arena_malloc_hook(size_t bytes)
{
    void *taken = parse_arena ? arena_alloc(parse_arena, bytes) : NULL;

    parse_arena_is_full = parse_arena_is_full || !taken;
    return taken;
}

static void arena_free_hook(void *taken)
{
    (void)taken;
}

static void init_hooks(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = arena_malloc_hook, .free_fn = arena_free_hook});
}

cJSON *json_tree_parse(struct arena *arena, const char *text, size_t length, const char **ret_end, bool *ret_is_full)
{
    cJSON *tree;

    pthread_once(&hooks_once, init_hooks);
    assert(!parse_arena);
    parse_arena = arena;
    parse_arena_is_full = false;
    *ret_end = text;
    tree = cJSON_ParseWithLengthOpts(text, length, ret_end, 0);
    parse_arena = NULL;
    *ret_is_full = !tree && parse_arena_is_full;
    return tree;
}
