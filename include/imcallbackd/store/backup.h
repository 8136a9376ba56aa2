// A copy of the database as it is at one instant, while the daemon records or not.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"

struct backup_callbacks {
    // Called now and then, several times a second, on the caller's thread or another, but never on two at a time.
    // done_bytes stays at total_bytes while the copy is checked. False: give up.
    bool (*go_on)(void *context, uint64_t done_bytes, uint64_t total_bytes);
    void *context;
};

// Makes target, which must not be there yet, with the mode 0640 less the umask. Its content is checked and on disk
// before it gets its name; until then it is TARGET.partial-PID, and after a failure it is gone. The copy is one file
// without side files. The daemon is not kept from recording, but its write-ahead log grows while the copy is made.
//
// -EEXIST: the target is there. -ECANCELED: go_on said so. Errors name the path and the remedy.
int backup_make(const char *database, const char *target, const struct backup_callbacks *callbacks,
                struct error *error) MUST_CHECK;
