// What was recorded as rows of the destination: the statements, and the parameters from which they make many rows at a
// time. One batch is one transaction, which also moves the cursor. For the thread that has the destination; errors are
// those of destination.h, and -ENOMEM or -EIO when a batch cannot be packed.
#pragma once

#include <stddef.h>

#include "destination.h"
#include "imcallbackd/store/reader.h"

// Up to where something was shipped. The time tells whether the id still means the same row.
struct cursor {
    int64_t id; // 0: nothing yet
    int64_t received_at_ms;
};

#define BATCH_COLUMNS 19

// Zeroed at first; keeps its memory from batch to batch.
struct batch {
    struct array columns[BATCH_COLUMNS];
};

// Makes the cursors of a receiver that is new.
int cursor_make(struct destination *destination, const char *receiver, struct error *error) MUST_CHECK;

// Of a receiver that is not known there, it is 0.
int cursor_read(struct destination *destination, const char *receiver, enum stream stream, struct cursor *ret_cursor,
                struct error *error) MUST_CHECK;

// Both send one transaction with a synchronisation point behind it, and need what they were given no longer. Its
// statement CURSOR_STATEMENT changes one row when the cursor stood at `from`; otherwise somebody else has moved it, and
// the rows are no worse for being there.
#define CURSOR_STATEMENT 1
int batch_send_groups(struct batch *batch, struct destination *destination, const char *receiver,
                      const struct cursor *from, const struct recorded_row *groups, size_t count,
                      struct error *error) MUST_CHECK;
int batch_send_rejections(struct batch *batch, struct destination *destination, const char *receiver,
                          const struct cursor *from, const struct recorded_row *rejections, size_t count,
                          struct error *error) MUST_CHECK;

void batch_finish(struct batch *batch);
