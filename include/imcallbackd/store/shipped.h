// Reads and writes the note on what was shipped: a small file that `forward` or `deliver` writes, and that the daemon
// reads before it deletes rows that are older than the retention. A daemon that is configured to read a note deletes
// nothing unless the note is valid.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

// The service that wrote the note no longer needs any row up to these ids; 0 means that it still needs every row of the
// table. `forward` needs a row until the destination has the row. `deliver` needs an event until the event is accepted
// or set aside, and never needs a rejected callback.
//
// The note names the database by the inode and the birth time of the file. A note about an earlier database therefore
// does not apply to a database that was moved into its place, for example from a backup, where the ids belong to other
// rows. Overwriting the file in place, as cp does, keeps both values and goes unnoticed.
struct shipped {
    int64_t group_id;     // the service needs no row of destroyed_group up to this id
    int64_t rejection_id; // the service needs no row of rejected_callback up to this id
};

// Replaces the note atomically, but does not sync it: after a power failure, the note may be older or damaged, which
// only makes the daemon delete less.
int shipped_write(const char *path, const char *database, const struct shipped *shipped,
                  struct error *error) MUST_CHECK;

// Never waits for another process, not even if the path names a FIFO. Returns 0, -ENOENT if there is no note, -EINVAL
// if the path does not name a regular file, -ESTALE if the note is about another database or is damaged, or another
// -errno. *ret_shipped is valid only on success; both ids are then at least 0.
int shipped_read(const char *path, const char *database, struct shipped *ret_shipped, struct error *error) MUST_CHECK;
