// Turns recorded rows into rows of the destination: encodes many rows as the arrays of one statement, and sends a batch
// as one transaction that also moves the cursor. The thread that owns the destination calls these functions. The errors
// are those of destination.h, and -ENOMEM, -EFBIG or -EIO if a batch cannot be encoded.
#pragma once

#include <stddef.h>

#include "destination.h"
#include "imcallbackd/outbound/cursor.h"
#include "imcallbackd/outbound/event_uid.h"
#include "imcallbackd/store/columns.h"
#include "imcallbackd/store/reader.h"

// The name of the column with the primary key in each stream's table.
extern const char *const uid_columns[STREAM_COUNT];

// Creates the receiver's cursor for each stream unless the cursor exists already.
int cursor_create(struct destination *destination, const char *receiver, struct error *error) MUST_CHECK;

// Reads the receiver's cursor for the stream. Sets *ret_cursor to zeros if the destination has no such cursor.
int cursor_read(struct destination *destination, const char *receiver, enum stream stream, struct cursor *ret_cursor,
                struct error *error) MUST_CHECK;

#define BATCH_COLUMNS 18 // uid and id, the 13 columns of a group, and three for its members

// Buffers that batch_send reuses for each batch. The caller zeroes the buffers before the first call.
struct batch {
    struct array columns[BATCH_COLUMNS];
    struct buffer sql;
};

// Sends one transaction and a synchronization point without waiting for their results. There is at least one row, and
// the ids of the rows are in ascending order and greater than from->id. The caller may release the rows afterwards.
//
// The statement with the index CURSOR_STATEMENT changes one row if the cursor in the destination was at from->id.
// Otherwise the statement changes no row, because the cursor was moved by another transaction or was deleted. The
// destination still commits the batch, which is harmless: a row has the same key in every batch, so a row that is
// already there stays unchanged.
#define CURSOR_STATEMENT 1
int batch_send(struct batch *batch, struct destination *destination, const char *receiver, enum stream stream,
               const struct cursor *from, const struct recorded_row *rows, size_t count,
               struct error *error) MUST_CHECK;

void batch_finish(struct batch *batch);
