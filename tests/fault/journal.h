// What went to the disk, in the order in which it went there, and what a loss of power may leave of it.
//
// The journal lies in memory that is shared with the processes that are forked from now on: one writes, and when it has
// ended another goes on or the parent builds images from it. It knows the files of one directory, each by the last part
// of its path. NULL for a journal: nothing is recorded.
//
// The model of a loss of power, after the first `cut` entries:
//  - A write or truncation is safe once the file's next sync succeeded. If that sync failed, it never gets safe: the
//    system may have dropped the pages, and what was read from the cache until now is gone.
//  - Each of the others reached the disk whole, not at all, or in part: of every 512 bytes of the file that it touches,
//    some came through, some are as they were before, and in a few the power failed: they are written from their
//    beginning or their end on, or are garbage where the file was made longer. Bytes beside those that were written are
//    never harmed (SQLite relies on that, "powersafe overwrite"), and a gap reads as zeros.
//  - Creating and deleting a file is safe after the next sync of the directory. Before that each may have happened or
//    not: a file that was created and synced may be missing, and one that was deleted may be back.
//  - SQLite syncs the directory together with the first sync of a write-ahead log or a rollback journal that it opened
//    for creation, and in deletions that ask for it; the shim records just that. All files are in one directory.
//  - The index of the log (-shm) is lost. The order of writes between two syncs means nothing.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;

struct journal *journal_create(void);
void journal_destroy(struct journal *journal);
void journal_clear(struct journal *journal);

// The file that is at the path now; one that is new to the journal was just created. For later calls.
int journal_open(struct journal *journal, const char *path);
void journal_write(struct journal *journal, int file, int64_t offset, const void *data, size_t length);
void journal_truncate(struct journal *journal, int file, int64_t size);
void journal_sync(struct journal *journal, int file, bool succeeded);
void journal_sync_directory(struct journal *journal);
void journal_delete(struct journal *journal, const char *path);

// Something happened at this point, a number of the caller's.
void journal_mark(struct journal *journal, int number);

size_t journal_length(const struct journal *journal);

// The number of the mark, if the entry at this place is one; otherwise -1.
int journal_mark_at(const struct journal *journal, size_t place);

// Puts into an empty directory what may be found after a cut; random is moved on.
void journal_build(const struct journal *journal, size_t cut, uint64_t *random, const char *directory);

// Is what was recorded all that is in the directory's files? Otherwise something has gone past the shim.
bool journal_agrees(const struct journal *journal, const char *directory);

// The next number below a limit. Any value of *random is a seed.
uint64_t random_below(uint64_t *random, uint64_t limit);
