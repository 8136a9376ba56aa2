// Provides cmocka and the macro TEST(), which defines a test and registers it with the program.
#pragma once

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

// The tests of the program, in the order of their definitions. cmocka skips the unused elements at the end.
static struct CMUnitTest unit_tests[64];
static size_t unit_test_count;

// TEST(rejects_two_lengths) { ... } defines a test. TEST_WITH() also names a setup and a teardown function, and *state
// is what the setup function has stored there.
#define TEST(name) TEST_WITH(name, NULL, NULL)
#define TEST_WITH(name_, setup_, teardown_)                                                                            \
    static void name_(void **state);                                                                                   \
    __attribute__((constructor)) static void register_##name_(void)                                                    \
    {                                                                                                                  \
        assert(unit_test_count < COUNT(unit_tests));                                                                   \
        unit_tests[unit_test_count++] = (struct CMUnitTest){#name_, name_, setup_, teardown_, NULL};                   \
    }                                                                                                                  \
    static void name_(void **state __attribute__((unused)))

// Defines main(), which runs all tests. Must be the last line of a test program. Either function may be NULL.
#define TEST_MAIN(group_setup_, group_teardown_)                                                                       \
    int main(void)                                                                                                     \
    {                                                                                                                  \
        return cmocka_run_group_tests(unit_tests, group_setup_, group_teardown_);                                      \
    }
