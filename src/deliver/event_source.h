// Reads the recorded events for the sender: the next events after an id, and single events again for another attempt.
#pragma once

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/reader.h"

// A zeroed struct is closed. Each of the two readers keeps the rows of its last read.
struct event_source {
    struct store_reader *stream; // reads each event once, in order
    struct store_reader *lookup; // finds single events that `streamed` does not have
    const struct recorded_row *streamed, *found;
    size_t streamed_count, found_count;
};

// The errors are those of store/reader.h. After an error of any function, the caller closes the source.
int event_source_open(struct event_source *source, const char *database, struct error *error) MUST_CHECK;
void event_source_close(struct event_source *source); // a closed source is allowed
bool event_source_is_open(const struct event_source *source);

// Reads up to max_rows events after an id. *ret_count is 0 if there are none yet. The rows are valid until the next
// call of this function or event_source_close.
int event_source_read(struct event_source *source, int64_t after_id, size_t max_rows,
                      const struct recorded_row **ret_rows, size_t *ret_count, struct error *error) MUST_CHECK;

// Opens the database, sets *ret_cursor to the position after the newest event, and closes the database again.
int event_source_find_newest(const char *database, struct cursor *ret_cursor, struct error *error) MUST_CHECK;

// Finds an event by its id. *ret_row is NULL if the store does not have the event any more; otherwise the row is valid
// until the next call of a function of the source.
int event_source_find(struct event_source *source, int64_t id, const struct recorded_row **ret_row,
                      struct error *error) MUST_CHECK;
