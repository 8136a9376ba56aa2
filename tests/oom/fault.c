#include "fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// SANITIZED is set in a build with sanitizers, of which this file itself is free: it is called before they are ready.
#ifdef SANITIZED
#define BEHIND(name) __interceptor_##name
#else
#define SANITIZED    0
#define BEHIND(name) __libc_##name
#endif

// The heap that is replaced.
void *BEHIND(malloc)(size_t bytes);
void *BEHIND(calloc)(size_t count, size_t bytes);
void *BEHIND(realloc)(void *block, size_t bytes);
void BEHIND(free)(void *block);

static atomic_size_t countdown; // 0: no fault is wanted, or it was met
static atomic_bool lasting, met, spares_tls;
static atomic_size_t blocks;

// What is not ours to mend: GnuTLS and what is under it aborts without memory (libgmp) or writes through the NULL that
// it got (libtasn1), libcrypto takes thousands of blocks to read one key, and a sanitizer calls libc for its own needs.
static bool is_spared(const void *caller)
{
    static const char *const tls[] = {"/libgnutls.", "/libtasn1.", "/libgmp.", "/libcrypto.", "/libssl."};
    Dl_info object;

    if ((!spares_tls && !SANITIZED) || dladdr(caller, &object) == 0)
        return false;
    for (size_t i = 0; i < sizeof tls / sizeof tls[0] && spares_tls; i++) {
        if (strstr(object.dli_fname, tls[i]))
            return true;
    }
    return SANITIZED && strstr(object.dli_fname, "/libc.");
}

static bool fails(const void *caller)
{
    size_t left = countdown;

    if ((left == 0 && !met) || is_spared(caller))
        return false;
    while (left > 0 && !atomic_compare_exchange_weak(&countdown, &left, left - 1))
        ;
    if (left == 1)
        met = true;
    if (left == 1 || (met && lasting)) {
        errno = ENOMEM;
        return true;
    }
    return false;
}

static void *counted(void *block)
{
    if (block)
        blocks++;
    return block;
}

void *malloc(size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : counted(BEHIND(malloc)(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : counted(BEHIND(calloc)(count, bytes));
}

void *realloc(void *block, size_t bytes)
{
    if (block && bytes == 0) {
        free(block);
        return NULL;
    }
    if (fails(__builtin_return_address(0)))
        return NULL;
    return block ? BEHIND(realloc)(block, bytes) : counted(BEHIND(realloc)(block, bytes));
}

void free(void *block)
{
    if (block)
        blocks--;
    BEHIND(free)(block);
}

// A sanitizer's own would not come by here.
static char *copy_of(const char *text, size_t length)
{
    char *copy = malloc(length + 1);

    if (copy) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    return copy;
}

char *strdup(const char *text)
{
    return copy_of(text, strlen(text));
}

char *strndup(const char *text, size_t most)
{
    return copy_of(text, strnlen(text, most));
}

static void begin(size_t at, bool is_lasting)
{
    met = false;
    lasting = is_lasting;
    countdown = at;
}

static bool end(void)
{
    bool was_met = met;

    countdown = 0;
    lasting = false; // another thread may be about to meet it
    met = false;
    return was_met;
}

// Returns how many blocks are left over.
static ptrdiff_t run_once(const struct fault_scenario *scenario, void *context, size_t at, bool is_lasting,
                          bool *ret_met)
{
    size_t before = blocks;

    if (scenario->prepare)
        scenario->prepare(context);
    begin(at, is_lasting);
    scenario->run(context);
    *ret_met = end();
    scenario->judge(context, *ret_met, is_lasting);
    return (ptrdiff_t)(blocks - before);
}

// What a library keeps for good, once it has met a fault of some kind, is no leak: a leak comes again and again. A
// sanitizer takes blocks by ways of its own, and finds what is left over at the end.
static bool run_with_fault(const struct fault_scenario *scenario, void *context, size_t at, bool is_lasting,
                           ptrdiff_t kept)
{
    const int times = 4;
    ptrdiff_t left_over = 0;
    bool was_met;

    for (int i = 0; i < times; i++) {
        left_over = run_once(scenario, context, at, is_lasting, &was_met);
        if (SANITIZED || left_over <= kept)
            return was_met;
    }
    fail_msg("%s, allocation %zu%s: %td blocks are left over", scenario->name, at,
             is_lasting ? " and all behind it" : "", left_over);
    return false;
}

void fault_run(const struct fault_scenario *scenario, void *context)
{
    size_t at = 0;
    ptrdiff_t kept = 0;
    bool was_met;

    spares_tls = scenario->spares_tls;
    (void)run_once(scenario, context, 0, false, &was_met);
    if (spares_tls) // GnuTLS keeps something for each thread that it was used on
        kept = run_once(scenario, context, 0, false, &was_met);
    kept = kept < 0 ? 0 : kept;
    do {
        at++;
        (void)run_with_fault(scenario, context, at, true, kept);
    } while (run_with_fault(scenario, context, at, false, kept));
    print_message("%s: %zu allocations\n", scenario->name, at - 1);
}
