// Writes the note only when it changes, and logs only the first of successive failures.
#include "imcallbackd/outbound/note.h"

#include <unistd.h>

#include "imcallbackd/base/log.h"

void note_read(struct note *note, int64_t newest_id)
{
    struct error no_note;

    note->noted = (struct shipped){0};
    if (shipped_read(note->path, note->database, &note->noted, &no_note) < 0 || note->noted.group_id > newest_id)
        note->noted = (struct shipped){0};
}

void note_write(struct note *note, const struct store_reader *reader, const struct shipped *shipped)
{
    struct error error;

    if ((shipped->group_id == note->noted.group_id && shipped->rejection_id == note->noted.rejection_id) ||
        !store_reader_is_in_place(reader))
        return;
    if (shipped_write(note->path, note->database, shipped, &error) == 0) {
        note->noted = *shipped;
        note->failed = false;
    } else if (!note->failed) {
        log_warning("%s: %s; [store] retention deletes no further rows until this file can be written", note->key,
                    error.text);
        note->failed = true;
    }
}

void note_delete(const struct note *note)
{
    (void)unlink(note->path);
}
