#include "imcallbackd/base/log_limit.h"

#include "imcallbackd/base/clock.h"

bool log_limit_passes(struct log_limit *limit, unsigned int *ret_left_out)
{
    int_fast64_t now_ms = clock_monotonic_ms(), quiet_until_ms = limit->quiet_until_ms;

    // Of several threads that come at the end of an interval, the one that moves it writes.
    if (now_ms < quiet_until_ms ||
        !atomic_compare_exchange_strong(&limit->quiet_until_ms, &quiet_until_ms, now_ms + LOG_LIMIT_INTERVAL_MS)) {
        limit->left_out++;
        return false;
    }
    *ret_left_out = atomic_exchange(&limit->left_out, 0);
    return true;
}
