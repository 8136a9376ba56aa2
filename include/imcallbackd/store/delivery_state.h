// Keeps the state of `imcallbackd deliver` in a small SQLite database of its own, which survives kill -9 and power
// failure. Every event up to the position was taken over. Of these, the table `waiting` has the events that are neither
// accepted nor set aside, and the table `set_aside` has those that the sender has given up. All other events up to the
// position were accepted, or were recorded before the position at which the state was created.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/store/reader.h"

#define DELIVERY_STATE_MAX_WAITING 10000

struct waiting_event {
    int64_t id;
    int64_t group_key; // equal for all events of one group
    int64_t received_at_ms;
    int64_t first_failure_ms; // time of the first failed attempt; 0: no attempt has failed
    int64_t first_refusal_ms; // time of the first attempt that the endpoint refused; 0: none
    int tries;                // failed attempts
    int last_status;          // HTTP status of the last failed attempt; 0: no answer
};

enum delivery_change_kind {
    DELIVERY_WAITS,     // inserts the event into `waiting`, or replaces it there
    DELIVERY_ACCEPTED,  // removes the event
    DELIVERY_SET_ASIDE, // moves the event to `set_aside`
};

struct delivery_change {
    enum delivery_change_kind kind;
    struct waiting_event event; // only the id matters for DELIVERY_ACCEPTED
};

// What an operator can do about a state that cannot be used, for the end of a message.
#define DELIVERY_STATE_REMEDY                                                                                          \
    "move the state away together with its -wal and -shm: the next start sends every event again, or with "            \
    "--start-at now only new ones"

struct delivery_state;

// Opens the file, or creates it at the position `initial`, where NULL stands for the position before the first event.
// Locks the file, so that a second sender is refused with -EBUSY. Refuses a damaged file, and a file of another program
// or version, which stays unchanged. Returns -EEXIST if `initial` is not NULL and the file already has a state. Every
// error of this and of the following functions names the path, and a remedy if there is one.
int delivery_state_open(const char *path, const struct cursor *initial, struct delivery_state **ret_state,
                        struct error *error) MUST_CHECK;

// Returns the position in STREAM_GROUPS up to which every event was taken over.
struct cursor delivery_state_position(const struct delivery_state *state);

// Appends every waiting event, in ascending order of ids, as struct waiting_event. Returns -EIO if there are more than
// DELIVERY_STATE_MAX_WAITING, because the state is then damaged.
int delivery_state_read_waiting(struct delivery_state *state, struct buffer *events, struct error *error) MUST_CHECK;

int delivery_state_count_set_aside(struct delivery_state *state, int64_t *ret_count, struct error *error) MUST_CHECK;

// Applies the changes in their order and moves the position, in one transaction that is on disk when the function
// returns 0. The position must not move backwards, and no change may have a larger id than the position. Returns
// -EAGAIN after a shortage, such as a full disk, or while the file is not at its path: nothing has changed there, and
// the caller may try the same changes and further ones again. Any other failure is final, and the caller must close the
// state. Events that are set aside get the time now_ms.
int delivery_state_apply(struct delivery_state *state, const struct delivery_change *changes, size_t count,
                         const struct cursor *position, int64_t now_ms, struct error *error) MUST_CHECK;

void delivery_state_close(struct delivery_state *state); // NULL is allowed
