// Stores the time of the oldest waiting event instead of its age, because the age grows between two calls of lag_set.
#include "imcallbackd/outbound/lag.h"

#include "imcallbackd/base/clock.h"

void lag_set(struct lag *lag, int64_t events, int64_t last_id, int64_t oldest_received_at_ms)
{
    lag->oldest_waiting_ms = oldest_received_at_ms;
    metric_set(lag->events, 0, oldest_received_at_ms > 0 && events > 0 ? events : 0);
    metric_set(lag->last_id, 0, last_id);
}

int64_t lag_ms(const struct lag *lag)
{
    int64_t oldest_ms = lag->oldest_waiting_ms, now_ms = clock_realtime_ms();

    return oldest_ms > 0 && now_ms > oldest_ms ? now_ms - oldest_ms : 0;
}

void lag_refresh(const struct lag *lag)
{
    metric_set(lag->seconds, 0, lag_ms(lag));
}
