// A heap that runs out on demand. The program's malloc and its kin are replaced, for every library in it too; under a
// sanitizer what is behind them is the sanitizer's. All threads share it.
#pragma once

#include <stdbool.h>

// What is to be survived; `context` is the test's own.
struct fault_scenario {
    const char *name;
    void (*prepare)(void *context); // without a fault; NULL: nothing to do
    void (*run)(void *context);     // with the fault
    // Without it again. Fails the test unless the outcome is right: the full one, or a clean failure if a fault was
    // met. Gives back what run has taken.
    void (*judge)(void *context, bool met, bool lasting);
    bool spares_tls; // what the TLS libraries take does not fail
};

// Runs the scenario with its first allocation failing, then with its second, and so on until no fault is met any more:
// each alone, and with all behind it. Fails the test when blocks are left over.
void fault_run(const struct fault_scenario *scenario, void *context);
