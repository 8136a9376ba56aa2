// Records that the process was asked to stop sending. Both functions are safe in a signal handler.
#pragma once

#include <stdbool.h>

void stop_request(void);
bool stop_is_requested(void);
