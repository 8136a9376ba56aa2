// Turns recorded rows into rows of the destination: computes the keys, encodes many rows as the arrays of one
// statement, and sends a batch as one transaction that also moves the cursor. The thread that owns the destination
// calls these functions. The errors are those of destination.h, and -ENOMEM, -EFBIG or -EIO if a batch cannot be
// encoded.
#pragma once

#include <stddef.h>

#include "destination.h"
#include "imcallbackd/store/columns.h"
#include "imcallbackd/store/reader.h"

#define UID_BYTES 32

// Computes the primary key of a row in the destination, a hash of what identifies the row. Therefore the destination
// needs no sequence, distributed engines spread the rows, and a row that is shipped again is not duplicated. An event
// with a time has the same key on every receiver. The hashed text of each kind of row is:
//   event                 SHA-256 of "COMMAND\nAPP\nTIME\nGROUP"
//   event without a time  SHA-256 of "COMMAND\nAPP\n\nRECEIVER\nID\nRECEIVED_AT\nGROUP"
//   rejected callback     SHA-256 of "rejected_callback\nRECEIVER\nID\nRECEIVED_AT"
// These texts never change, because databases contain the keys. Returns 0, -ENOMEM or -EIO.
int row_uid(enum stream stream, const struct recorded_row *row, const char *receiver,
            unsigned char uid[UID_BYTES]) MUST_CHECK;

// The name of the column with the primary key in each stream's table.
extern const char *const uid_columns[STREAM_COUNT];

// The last shipped row of one stream. If the row with this id in the store has another received_at_ms, the store was
// replaced or restored from a backup.
struct cursor {
    int64_t id; // 0: nothing is shipped yet
    int64_t received_at_ms;
};

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
// destination still commits the batch, which is harmless because a row has the same key in every batch.
#define CURSOR_STATEMENT 1
int batch_send(struct batch *batch, struct destination *destination, const char *receiver, enum stream stream,
               const struct cursor *from, const struct recorded_row *rows, size_t count,
               struct error *error) MUST_CHECK;

void batch_finish(struct batch *batch);
