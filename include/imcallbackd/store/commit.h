// Defines a commit: one event or rejected callback on its way into the store. The caller owns the commit until
// store_submit, and again from the call of done(). In between, only the store may access the commit and the data that
// it points to.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/callback/event.h"

enum commit_result {
    COMMIT_RECORDED, // on disk
    COMMIT_REPEATED, // the same event is on disk already, or an earlier commit of the same batch records it
    COMMIT_CONFLICT, // an event with this identity and other content stays on disk; this one is on disk in
                     // rejected_callback
    COMMIT_FAILED,   // not acknowledged; may still be on disk if the disk failed during the COMMIT
};

// The place of the commit in the store. commit_queue.h describes the transitions.
enum commit_stage {
    COMMIT_AT_CALLER,
    COMMIT_WAITING,
    COMMIT_IN_BATCH,
};

// The caller sets give_up_at_ms and exactly one of group and rejected, and initializes all other fields to zero.
struct commit {
    const struct destroyed_group *group;
    const struct rejected_callback *rejected;
    int64_t give_up_at_ms; // end of the retries, on the monotonic clock; unless broken, the store tries at least once
    enum commit_result result;
    struct commit *next; // in done(): the next finished commit; NULL ends the list
    enum commit_stage stage;
    bool retry; // for the store: retry the commit in the next batch
};
