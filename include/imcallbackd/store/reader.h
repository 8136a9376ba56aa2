// Reads the recorded rows by id, in the order of recording, while the daemon runs or while it is stopped. The reader
// neither writes nor blocks the daemon's writes: each read is one short transaction. The reader copies the rows and
// ends the transaction before it returns them.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/callback/event.h"
#include "imcallbackd/store/columns.h"

// The only writer assigns ids within its transactions, so ids grow in the order of the commits. A read after the last
// id that was seen therefore neither misses a row nor repeats one. SQLite never reuses an id, not even after rows were
// deleted.
//
// One thread at a time may use a reader. After an error, the caller closes the reader and opens a new one to try again.
struct store_reader;

// A row of destroyed_group with its members, or a row of rejected_callback, depending on the stream.
struct recorded_row {
    int64_t id;
    int64_t received_at_ms; // the same as in the event
    union {
        struct destroyed_group group; // keep_body is true if the store recorded the body
        struct rejected_callback rejection;
    } event;
};

// The position after a row of a stream. If the row with this id has another received_at_ms, the store was replaced or
// restored from a backup.
struct cursor {
    int64_t id; // 0: before the first row
    int64_t received_at_ms;
};

// Every error names the path, and a remedy if there is one. The caller only needs permission to read the database and
// its side files.
int store_reader_open(const char *path, struct store_reader **ret_reader, struct error *error) MUST_CHECK;

// Returns the next rows after an id, where 0 stands for the start. The rows are valid until the next call of this
// function or of store_reader_read_some. *ret_count is 0 if no more rows are recorded yet. A batch ends after 1,000
// rows, or with the row that reaches 1 MiB.
//
// Returns -ESTALE in two cases. In the first, the id is larger than any that the stream has assigned, so the id is
// from another database, or this database was restored from a backup. In the second, the database was moved away or
// replaced, and the reader has returned all rows of the old file.
int store_reader_read(struct store_reader *reader, enum stream stream, int64_t after_id,
                      const struct recorded_row **ret_rows, size_t *ret_count, struct error *error) MUST_CHECK;

// Does the same with at most max_rows rows, 1 to 1,000.
int store_reader_read_some(struct store_reader *reader, enum stream stream, int64_t after_id, size_t max_rows,
                           const struct recorded_row **ret_rows, size_t *ret_count, struct error *error) MUST_CHECK;

// Returns the largest id that each stream has ever assigned, or 0 if it has assigned none. Rows of an earlier read stay
// valid.
int store_reader_read_newest_ids(struct store_reader *reader, int64_t ret_ids[STREAM_COUNT],
                                 struct error *error) MUST_CHECK;

// Sets *ret_newest_id to the largest id that the stream has ever assigned, or to 0 if it has assigned none, and
// *ret_received_at_ms to the time of the row with this id, or to -1 if there is no such row. Both are from one
// transaction. Rows of an earlier read stay valid.
int store_reader_read_position(struct store_reader *reader, enum stream stream, int64_t id, int64_t *ret_newest_id,
                               int64_t *ret_received_at_ms, struct error *error) MUST_CHECK;

// Returns whether the path still names the database that the reader has open. The call is allowed after an error.
bool store_reader_is_in_place(const struct store_reader *reader);

// After a read that returned no rows, waits until another read is worthwhile. Returns when the daemon writes to the
// write-ahead log, when a signal was handled, or after about one second at the latest.
void store_reader_wait(struct store_reader *reader);

// These functions are the parts of store_reader_wait, for a caller that waits for other events as well. The caller
// waits until the descriptor is readable, but not longer than store_reader_wait_ms. If the descriptor is -1, the caller
// waits only for the time to pass. The caller then calls store_reader_waited, with timed_out set if the time has
// passed. store_reader_waited returns whether another read is worthwhile.
int store_reader_descriptor(const struct store_reader *reader);
int store_reader_wait_ms(const struct store_reader *reader);
bool store_reader_waited(struct store_reader *reader, bool timed_out);

void store_reader_close(struct store_reader *reader); // NULL is allowed
