// Recorded rows and the cursor as rows of the destination: keys, statements, and the arrays of parameters that insert
// many rows with one statement. One batch is one transaction, which also moves the cursor. The thread that owns the
// destination calls these functions. Their errors are those of destination.h, and -ENOMEM or -EIO if a batch cannot be
// encoded.
#pragma once

#include <stddef.h>

#include "destination.h"
#include "imcallbackd/store/columns.h"
#include "imcallbackd/store/reader.h"

#define UID_BYTES 32

// The primary key of a row in the destination. The key is derived from the row, so that no sequence is needed, that
// distributed engines spread the rows, and that an event is one row regardless of the receiver and of repetitions:
//   event                 SHA-256 of "COMMAND\nAPP\nTIME\nGROUP"
//   event without a time  SHA-256 of "COMMAND\nAPP\n\nRECEIVER\nID\nRECEIVED_AT\nGROUP"
//   rejected callback     SHA-256 of "rejected_callback\nRECEIVER\nID\nRECEIVED_AT"
// Databases store these keys, so they never change. Returns 0, -ENOMEM or -EIO.
int row_uid(enum stream stream, const struct recorded_row *row, const char *receiver,
            unsigned char uid[UID_BYTES]) MUST_CHECK;

// The column of the primary key in the stream's table.
extern const char *const uid_columns[STREAM_COUNT];

// The last shipped row of one stream. The time tells whether the id still belongs to the same row.
struct cursor {
    int64_t id; // 0: nothing is shipped yet
    int64_t received_at_ms;
};

// Creates the cursors of a receiver that has none yet.
int cursor_create(struct destination *destination, const char *receiver, struct error *error) MUST_CHECK;

// *ret_cursor: zeroed if the destination does not know the receiver.
int cursor_read(struct destination *destination, const char *receiver, enum stream stream, struct cursor *ret_cursor,
                struct error *error) MUST_CHECK;

#define BATCH_COLUMNS 18 // the uid, the id and the columns of the larger stream, and three of its members

// Zeroed at first. The memory is used again for each batch.
struct batch {
    struct array columns[BATCH_COLUMNS];
    struct buffer sql;
};

// Sends one transaction and a synchronization point without waiting. The rows, at least one, have rising ids after
// from->id; the caller may release them afterwards. The statement CURSOR_STATEMENT changes one row if the cursor in the
// destination was at from->id. Otherwise another transaction has moved the cursor, and these rows are committed
// nevertheless, which is harmless because of their keys.
#define CURSOR_STATEMENT 1
int batch_send(struct batch *batch, struct destination *destination, const char *receiver, enum stream stream,
               const struct cursor *from, const struct recorded_row *rows, size_t count,
               struct error *error) MUST_CHECK;

void batch_finish(struct batch *batch);
