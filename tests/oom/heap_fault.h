// Makes allocations fail on demand. heap_fault.c replaces malloc() and its relatives for the program and for all its
// libraries. The replacements call the allocator of the C library, or of the sanitizer in a build with one. All threads
// share the same countdown.
#pragma once

#include <stdbool.h>

// A scenario that must survive a failing allocation. `context` belongs to the test.
struct fault_scenario {
    const char *name;
    void (*prepare)(void *context); // runs without a fault; NULL: nothing to prepare
    void (*run)(void *context);     // runs with the fault
    // Runs without a fault. Fails the test unless the result is complete or, if the fault happened, a clean failure.
    // Frees what run() has allocated.
    void (*judge)(void *context, bool met);
    bool spares_tls; // allocations of the TLS libraries never fail
};

// Runs the scenario with its first allocation failing, then with its second, and so on until the scenario ends before
// the fault. Each allocation fails once alone and once together with all later ones. Fails the test if blocks leak.
// In the environment, ALLOCATIONS=n lets only about n allocations of each scenario fail, and SEED=n repeats a run.
void fault_run(const struct fault_scenario *scenario, void *context);
