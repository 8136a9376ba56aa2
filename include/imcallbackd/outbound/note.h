// Keeps the note for retention (store/shipped.h) up to date: the daemon may delete rows of the store up to the noted
// ids.
#pragma once

#include <stdbool.h>

#include "imcallbackd/store/reader.h"
#include "imcallbackd/store/shipped.h"

struct note {
    const char *path;     // of the note
    const char *database; // path of the store's database
    const char *key;      // configuration key of the path, for log lines, such as "[forward] shipped_file"
    struct shipped noted; // contents of the note
    bool failed;          // whether the last attempt to write the note failed
};

// Reads the note of a previous run into note->noted. Sets both ids to 0 if there is no valid note about this database,
// or if the note's group_id is larger than newest_id, the largest id of destroyed_group in the store.
void note_read(struct note *note, int64_t newest_id);

// Writes the note if the ids have changed. If the store was replaced, the ids belong to the old database, and the
// function writes nothing. A note that cannot be written only stops retention, so the function logs a warning for the
// first of successive failures and returns.
void note_write(struct note *note, const struct store_reader *reader, const struct shipped *shipped);

// Deletes a note whose ids belong to another database. Without a note, the daemon deletes no rows.
void note_delete(const struct note *note);
