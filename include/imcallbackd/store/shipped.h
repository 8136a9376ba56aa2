// The note on what was shipped: a small file that the forwarder writes, and that the daemon reads before it deletes
// rows that are older than the retention. The daemon deletes nothing unless the note is valid.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

// The destination has every row up to these ids. An id of 0 means that the destination has no row of the table.
//
// The note names the database by the inode and the birth time of the file. A note about an earlier database therefore
// does not apply to a database that was moved into its place, for example from a backup, where the ids belong to other
// rows. Overwriting the file in place, as cp does, keeps both and goes unnoticed.
struct shipped {
    int64_t group_id;     // largest shipped id of destroyed_group
    int64_t rejection_id; // largest shipped id of rejected_callback
};

// Replaces the note atomically, but does not sync it: an older note after a power failure only makes the daemon delete
// less.
int shipped_write(const char *path, const char *database, const struct shipped *shipped,
                  struct error *error) MUST_CHECK;

// Returns -ENOENT if there is no note, or -ESTALE if the note is about another database or is damaged.
int shipped_read(const char *path, const char *database, struct shipped *ret_shipped, struct error *error) MUST_CHECK;
