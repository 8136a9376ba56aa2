// Keeps one cause from filling the log: of what is told through one limit, a line goes out every ten seconds at most,
// and says how many were left out before it. Any thread may use it; zeroed, it is ready.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_LIMIT_INTERVAL_MS 10000

struct log_limit {
    atomic_int_fast64_t quiet_until_ms;
    atomic_uint left_out;
};

// True: write the line, and say in it how many were left out since the last one.
bool log_limit_passes(struct log_limit *limit, unsigned int *ret_left_out);
