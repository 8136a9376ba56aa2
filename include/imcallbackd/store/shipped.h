// The note on what was shipped, a small file that the forwarder writes and the daemon reads before it deletes what is
// older than the retention. It names the database by its inode and the time of its birth, so that one that was moved
// into its place, as out of a backup, whose ids are others, is not deleted from by the note on the one before. (What is
// copied over the bytes of the file, with cp for one, has both of the old.) Whatever is wrong with it, nothing is
// deleted.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

struct shipped {
    int64_t group_id;     // up to which rows of destroyed_group are in the destination for sure
    int64_t rejection_id; // and of rejected_callback
};

// Takes the place of the note before at once, without a sync: after a power cut an older one is as good.
int shipped_write(const char *path, const char *database, const struct shipped *shipped,
                  struct error *error) MUST_CHECK;

// -ENOENT: there is none. -ESTALE: it is on another database, or cannot be understood.
int shipped_read(const char *path, const char *database, struct shipped *ret_shipped, struct error *error) MUST_CHECK;
