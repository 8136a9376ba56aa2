// Compares a cursor with the largest id of its stream and with the row that the store has under the cursor's id.
#include "imcallbackd/outbound/cursor.h"

int cursor_check(struct store_reader *reader, enum stream stream, const struct cursor *cursor, int64_t newest_id,
                 bool *ret_matches, struct error *error)
{
    const struct recorded_row *rows;
    size_t count = 0;
    int r;

    *ret_matches = cursor->id >= 0 && cursor->id <= newest_id;
    if (cursor->id <= 0 || !*ret_matches)
        return 0;
    r = store_reader_read_some(reader, stream, cursor->id - 1, 1, &rows, &count, error);
    if (r == 0 && count > 0 && rows[0].id == cursor->id)
        *ret_matches = rows[0].received_at_ms == cursor->received_at_ms;
    return r;
}
