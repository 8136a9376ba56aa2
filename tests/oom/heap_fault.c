// The replacements may run before main() and in any thread, so they use only atomics and do not allocate memory
// themselves.
#include "heap_fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

// SANITIZED is set in a build with sanitizers. This file itself is compiled without sanitizers, because its functions
// run before the sanitizers are initialized.
#ifdef SANITIZED
#define REPLACED(name) __interceptor_##name
#else
#define SANITIZED      0
#define REPLACED(name) __libc_##name
#endif

// The replaced allocator.
void *REPLACED(malloc)(size_t bytes);
void *REPLACED(calloc)(size_t count, size_t bytes);
void *REPLACED(realloc)(void *block, size_t bytes);
void REPLACED(free)(void *block);

static atomic_size_t countdown; // allocations until the fault; 0: no fault is set, or it has happened
static size_t left_at_stop;     // the countdown when the last run ended
static atomic_bool lasting, met, spares_tls;
static atomic_size_t blocks;

// Returns true if the allocation must not fail. A scenario may spare the TLS libraries: without memory, libgmp aborts
// and libtasn1 writes through a NULL pointer, both below GnuTLS, and libcrypto allocates thousands of blocks to read
// one key. In a build with sanitizers, libc is always spared, because a sanitizer calls libc for its own purposes.
static bool must_not_fail(const void *caller)
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

    if ((left == 0 && !met) || must_not_fail(caller))
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
    return fails(__builtin_return_address(0)) ? NULL : counted(REPLACED(malloc)(bytes));
}

void *calloc(size_t count, size_t bytes)
{
    return fails(__builtin_return_address(0)) ? NULL : counted(REPLACED(calloc)(count, bytes));
}

void *realloc(void *block, size_t bytes)
{
    if (block && bytes == 0) {
        free(block);
        return NULL;
    }
    if (fails(__builtin_return_address(0)))
        return NULL;
    return block ? REPLACED(realloc)(block, bytes) : counted(REPLACED(realloc)(block, bytes));
}

void free(void *block)
{
    if (block)
        blocks--;
    REPLACED(free)(block);
}

// This file also replaces strdup() and strndup(), because a sanitizer's versions do not call the malloc() of this file.
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

static void start_countdown(size_t at, bool is_lasting)
{
    met = false;
    lasting = is_lasting;
    countdown = at;
}

static bool stop_countdown(void)
{
    bool was_met = met;

    left_at_stop = countdown;
    countdown = 0;
    lasting = false; // cleared before met, because another thread may be in fails()
    met = false;
    return was_met;
}

// Runs the scenario once with the fault at allocation number `at`; 0: without a fault. Returns the number of leaked
// blocks.
static ptrdiff_t run_once(const struct fault_scenario *scenario, void *context, size_t at, bool is_lasting,
                          bool *ret_met)
{
    size_t before = blocks;

    if (scenario->prepare)
        scenario->prepare(context);
    start_countdown(at, is_lasting);
    scenario->run(context);
    *ret_met = stop_countdown();
    scenario->judge(context, *ret_met);
    return (ptrdiff_t)(blocks - before);
}

// A block that a library allocates once and keeps is not a leak. A real leak occurs in every run, so the test fails
// only if each of four runs leaks more than `kept` blocks, which a run without a fault leaves, too. In a build with
// sanitizers, this file does not see all allocations, and the sanitizer itself finds leaks at the end. Returns true if
// the fault happened.
static bool run_with_fault(const struct fault_scenario *scenario, void *context, size_t at, bool is_lasting,
                           ptrdiff_t kept)
{
    const int times = 4;
    ptrdiff_t leaked = 0;
    bool was_met;

    for (int i = 0; i < times; i++) {
        leaked = run_once(scenario, context, at, is_lasting, &was_met);
        if (SANITIZED || leaked <= kept)
            return was_met;
    }
    fail_msg("%s, allocation %zu%s: %td blocks leaked", scenario->name, at, is_lasting ? " and all later ones" : "",
             leaked);
    return false;
}

static unsigned number_from_environment(const char *name, unsigned fallback)
{
    const char *text = getenv(name);

    return text ? (unsigned)strtoul(text, NULL, 10) : fallback;
}

// Returns the largest step between two allocations that fail: with random steps from 1 to this number, about
// ALLOCATIONS of the scenario's allocations fail.
static size_t step_max(const struct fault_scenario *scenario, void *context)
{
    const size_t beyond = SIZE_MAX / 2; // never reached
    size_t wanted = number_from_environment("ALLOCATIONS", 0), total;
    bool was_met;

    if (wanted == 0)
        return 1;
    (void)run_once(scenario, context, beyond, false, &was_met);
    total = beyond - left_at_stop;
    return total <= wanted ? 1 : 2 * total / wanted - 1;
}

void fault_run(const struct fault_scenario *scenario, void *context)
{
    static unsigned seed;
    static unsigned short state[3];
    size_t at = 0, tried = 0, step;
    ptrdiff_t kept = 0;
    bool was_met;

    if (!seed) {
        seed = number_from_environment("SEED", (unsigned)time(NULL));
        print_message("SEED=%u\n", seed);
        state[0] = (unsigned short)seed;
        state[1] = (unsigned short)(seed >> 16);
    }

    spares_tls = scenario->spares_tls;
    (void)run_once(scenario, context, 0, false, &was_met);
    if (spares_tls) // GnuTLS keeps memory for each thread that has used it
        kept = run_once(scenario, context, 0, false, &was_met);
    kept = kept < 0 ? 0 : kept;
    step = step_max(scenario, context);
    do {
        at += 1 + (size_t)nrand48(state) % step;
        tried++;
        (void)run_with_fault(scenario, context, at, true, kept);
    } while (run_with_fault(scenario, context, at, false, kept));
    print_message("%s: %zu of %zu allocations failed\n", scenario->name, tried - 1, at - 1);
}
