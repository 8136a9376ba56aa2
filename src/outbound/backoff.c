// Computes the delays. backoff_pause sleeps in steps of at most 200 ms, because a signal that another thread handles
// does not interrupt the sleep.
#include "imcallbackd/outbound/backoff.h"

#include <assert.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"

#define PAUSE_STEP_MS 200

int64_t backoff_add_jitter(int64_t ms)
{
    return ms / 2 + (int64_t)((double)ms * (double)random() / (double)RAND_MAX);
}

int64_t backoff_next_ms(struct backoff *backoff)
{
    assert(backoff->min_ms > 0 && backoff->min_ms <= backoff->max_ms && backoff->last_ms <= backoff->max_ms);
    if (backoff->last_ms == 0)
        backoff->last_ms = backoff->min_ms;
    else
        backoff->last_ms = backoff->last_ms * 2 < backoff->max_ms ? backoff->last_ms * 2 : backoff->max_ms;
    return backoff_add_jitter(backoff->last_ms);
}

void backoff_reset(struct backoff *backoff)
{
    backoff->last_ms = 0;
}

void backoff_seed(void)
{
    srandom((unsigned int)clock_monotonic_us() ^ (unsigned int)getpid());
}

void backoff_pause(int64_t ms, bool (*stopped)(void))
{
    int64_t end_ms = clock_monotonic_ms() + ms, left_ms;

    while (!stopped() && (left_ms = end_ms - clock_monotonic_ms()) > 0)
        (void)poll(NULL, 0, (int)(left_ms < PAUSE_STEP_MS ? left_ms : PAUSE_STEP_MS));
}
