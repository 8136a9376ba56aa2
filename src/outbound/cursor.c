// Compares a cursor with the largest id of its stream and with the row that the store has under the cursor's id.
#include "imcallbackd/outbound/cursor.h"

int cursor_check(struct store_reader *reader, enum stream stream, const struct cursor *cursor, bool *ret_matches,
                 struct error *error)
{
    int64_t newest_id = 0, received_at_ms = 0;
    int r = store_reader_read_position(reader, stream, cursor->id, &newest_id, &received_at_ms, error);

    *ret_matches = cursor->id >= 0 && cursor->id <= newest_id;
    if (cursor->id > 0 && received_at_ms >= 0)
        *ret_matches = *ret_matches && received_at_ms == cursor->received_at_ms;
    return r;
}
