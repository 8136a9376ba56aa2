// The progress line on a terminal while the sender catches up with the store. The thread that sends calls this
// function.
#pragma once

#include <stdint.h>

// Call this once a second. delivered: events accepted since the start; waiting: events that are not accepted. Prints
// nothing unless standard error is a terminal and at least 1,000 events wait.
void catch_up_show(int64_t delivered, int64_t waiting);

// Writes the line for `waiting` events at this rate into ret_line.
#define CATCH_UP_LINE_BYTES 96
void catch_up_print(int64_t waiting, int64_t per_second, char ret_line[CATCH_UP_LINE_BYTES]);
