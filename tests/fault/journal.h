// Records the order of a process's writes to disk, and builds from this journal what a power failure may leave.

// The journal is in memory that all processes forked later share. Only one process at a time writes to the journal.
// When this process has ended, another process continues, or the parent builds images. The journal covers the files of
// one directory and names them by the last part of their path. All functions that record accept NULL as the journal and
// do nothing then; journal_open returns -1, which the other functions ignore.
//
// The model of a power failure after the first `cut` entries:
//  - A write or truncation is safe once the next sync of the file has succeeded. If that sync fails, the entry never
//    becomes safe, even if a later sync succeeds: the kernel may have marked the pages clean without writing them.
//  - Each other truncation happened or not. Each other write reached the disk whole, not at all, or in part. In part
//    means that each sector (512 bytes) of it is new, or unchanged, or (rarely) torn. In a torn sector, only the start
//    or only the end is new; if the file did not reach the sector before, the sector holds garbage. Bytes next to the
//    written ones are never damaged (SQLite's "powersafe overwrite"), and a gap reads as zeros.
//  - Creating and deleting a file is safe after the next sync of the directory. Until then, each may have happened or
//    not: a file that was created and synced may be missing, and a deleted file may be back.
//  - SQLite syncs the directory together with the first sync of a write-ahead log or rollback journal that it opened
//    for creation, and in deletions that request a sync. The shim (vfs.h) records exactly these syncs of the directory.
//  - The index of the write-ahead log (-shm) is lost.
//  - Between two syncs, a later write may reach the disk although an earlier write does not.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal;

struct journal *journal_create(void);
void journal_destroy(struct journal *journal);
void journal_clear(struct journal *journal);

// Returns the number by which later calls refer to the file that is now at the path. If the journal does not contain
// the file yet, records its creation.
int journal_open(struct journal *journal, const char *path);
void journal_write(struct journal *journal, int file, int64_t offset, const void *data, size_t length);
void journal_truncate(struct journal *journal, int file, int64_t size);
void journal_sync(struct journal *journal, int file, bool succeeded);
void journal_sync_directory(struct journal *journal);
void journal_delete(struct journal *journal, const char *path);

// Records a mark. The caller chooses its number, which must not be negative.
void journal_mark(struct journal *journal, int number);

size_t journal_length(const struct journal *journal);

// Returns the number of the mark at this place, or -1 if the entry is not a mark.
int journal_mark_at(const struct journal *journal, size_t place);

// Writes into an empty directory what a power failure after the first `cut` entries may leave. Advances *random.
void journal_build(const struct journal *journal, size_t cut, uint64_t *random, const char *directory);

// Returns true if each recorded file that was not deleted has exactly the recorded contents in the directory. Otherwise
// a write has bypassed the shim.
bool journal_agrees(const struct journal *journal, const char *directory);

// Returns the next random number below the limit. Every value of *random is a valid seed.
uint64_t random_below(uint64_t *random, uint64_t limit);
