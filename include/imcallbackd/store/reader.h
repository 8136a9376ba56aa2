// Reads what was recorded, by id in the order of recording, beside a daemon that records or without one. It neither
// writes nor keeps the daemon from writing: each read is one short transaction whose rows are copied, and over before
// the caller gets them.
//
// Ids only grow, in the order of commit, because one writer gives them inside of its one transaction at a time. So
// reading on behind the last id that was seen misses nothing and repeats nothing. An id is never given anew, not even
// after rows were deleted.
//
// For one thread at a time. After an error a reader is of no more use: close it, and open another one to try again.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/callback/event.h"

struct store_reader;

// A row of destroyed_group with its members; event.keep_body says whether there is a body.
struct recorded_group {
    int64_t id;
    struct destroyed_group event;
};

// A row of rejected_callback.
struct recorded_rejection {
    int64_t id;
    struct rejected_callback callback;
};

// Errors of all functions name the path and the remedy. No rights are needed but to read the database and its side
// files.
int store_reader_open(const char *path, struct store_reader **ret_reader, struct error *error) MUST_CHECK;

// Gives the next rows behind an id (0: from the beginning), all of which live until the next read. None: this was all
// so far. A batch ends after 1,000 rows or 1 MiB, but has one row at least.
//
// -ESTALE: nothing can come behind this id any more. Either it is larger than any that was ever given, so that it must
// be of another database or this one was put back from a backup; or another file took the database's place, and all
// that was recorded in the one that was opened has been read.
int store_reader_read_groups(struct store_reader *reader, int64_t after_id, const struct recorded_group **ret_groups,
                             size_t *ret_count, struct error *error) MUST_CHECK;
int store_reader_read_rejections(struct store_reader *reader, int64_t after_id,
                                 const struct recorded_rejection **ret_rejections, size_t *ret_count,
                                 struct error *error) MUST_CHECK;

// The newest ids that were ever given, 0 for none. Rows from an earlier read stay as they are.
int store_reader_newest(struct store_reader *reader, int64_t *ret_group_id, int64_t *ret_rejection_id,
                        struct error *error) MUST_CHECK;

// Is the database that is read still what one finds at its path? Allowed after an error, too.
bool store_reader_is_in_place(const struct store_reader *reader);

// Waits, after a read that gave nothing, until it is worth another one: something is being recorded, a second is over,
// or a signal was handled.
void store_reader_wait(struct store_reader *reader);

void store_reader_close(struct store_reader *reader); // NULL is allowed
