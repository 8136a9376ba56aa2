// Prints the progress line. The line ends with a carriage return, so that the next progress line or log line overwrites
// it.
#include "catch_up.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"

#define MIN_WAITING       1000
#define ERASE_END_OF_LINE "\033[K"

static int64_t delivered_before, time_before_ms, per_second;

void catch_up_print(int64_t waiting, int64_t rate, char ret_line[CATCH_UP_LINE_BYTES])
{
    int64_t left_s = rate > 0 ? waiting / rate : 0;

    if (rate <= 0)
        (void)snprintf(ret_line, CATCH_UP_LINE_BYTES, "%" PRId64 " events left", waiting);
    else
        (void)snprintf(ret_line, CATCH_UP_LINE_BYTES,
                       "%" PRId64 " events left, %" PRId64 " events/s, %" PRId64 ":%02" PRId64 ":%02" PRId64 " left",
                       waiting, rate, left_s / 3600, left_s / 60 % 60, left_s % 60);
}

// The rate is a moving average with a time constant of about 5 s, so that the displayed time left does not jump.
void catch_up_show(int64_t delivered, int64_t waiting)
{
    int64_t now_ms = clock_monotonic_ms(), current;
    char line[CATCH_UP_LINE_BYTES];

    if (time_before_ms > 0 && now_ms > time_before_ms) {
        current = (delivered - delivered_before) * 1000 / (now_ms - time_before_ms);
        per_second = per_second == 0 ? current : (4 * per_second + current) / 5;
    }
    time_before_ms = now_ms;
    delivered_before = delivered;
    if (waiting < MIN_WAITING || !isatty(STDERR_FILENO))
        return;
    catch_up_print(waiting, per_second, line);
    fprintf(stderr, "%s" ERASE_END_OF_LINE "\r", line);
}
