// Shows a progress line on a terminal while the sender catches up with the store. The thread that sends calls
// catch_up_show.
#pragma once

#include <stdint.h>

// Updates the progress line; the caller calls this once a second. `delivered` is the number of events accepted since
// the start, and `waiting` is the number of recorded events that are neither accepted nor set aside. Prints nothing
// unless standard error is a terminal and at least 1,000 events wait.
void catch_up_show(int64_t delivered, int64_t waiting);

// Writes the line for `waiting` events into ret_line. If per_second is 0 or negative, the line has no rate and no
// remaining time.
#define CATCH_UP_LINE_BYTES 96
void catch_up_print(int64_t waiting, int64_t per_second, char ret_line[CATCH_UP_LINE_BYTES]);
