// Keeps one flag for the whole process, because a signal concerns the whole process.
#include "stop.h"

#include <stdatomic.h>

static atomic_bool is_requested;

void stop_request(void)
{
    is_requested = true;
}

bool stop_is_requested(void)
{
    return is_requested;
}
