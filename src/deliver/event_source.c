// A reader keeps only the rows of its last read, so the lookups have a reader of their own. After a restart, waiting
// events are looked up in the order of their ids, so one lookup also reads the rows that follow.
#include "event_source.h"

#define LOOKUP_ROWS 16

int event_source_open(struct event_source *source, const char *database, struct error *error)
{
    int r = store_reader_open(database, &source->stream, error);

    if (r == 0)
        r = store_reader_open(database, &source->lookup, error);
    return r;
}

void event_source_close(struct event_source *source)
{
    store_reader_close(source->stream);
    store_reader_close(source->lookup);
    *source = (struct event_source){0};
}

bool event_source_is_open(const struct event_source *source)
{
    return source->stream && source->lookup;
}

int event_source_read(struct event_source *source, int64_t after_id, size_t max_rows,
                      const struct recorded_row **ret_rows, size_t *ret_count, struct error *error)
{
    int r;

    source->streamed_count = 0;
    r = store_reader_read_some(source->stream, STREAM_GROUPS, after_id, max_rows, &source->streamed,
                               &source->streamed_count, error);
    *ret_rows = source->streamed;
    *ret_count = source->streamed_count;
    return r;
}

// The rows are in ascending order of ids.
static const struct recorded_row *find(const struct recorded_row *rows, size_t count, int64_t id)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (rows[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && rows[low].id == id ? &rows[low] : NULL;
}

int event_source_find(struct event_source *source, int64_t id, const struct recorded_row **ret_row, struct error *error)
{
    int r = 0;

    *ret_row = find(source->streamed, source->streamed_count, id);
    if (!*ret_row)
        *ret_row = find(source->found, source->found_count, id);
    if (*ret_row)
        return 0;
    source->found_count = 0;
    r = store_reader_read_some(source->lookup, STREAM_GROUPS, id - 1, LOOKUP_ROWS, &source->found, &source->found_count,
                               error);
    if (r == 0)
        *ret_row = find(source->found, source->found_count, id);
    return r;
}

int event_source_find_newest(const char *database, struct cursor *ret_cursor, struct error *error)
{
    struct event_source source = {0};
    const struct recorded_row *row = NULL;
    int64_t ids[STREAM_COUNT] = {0};
    int r = event_source_open(&source, database, error);

    if (r == 0)
        r = store_reader_read_newest_ids(source.stream, ids, error);
    if (r == 0 && ids[STREAM_GROUPS] > 0)
        r = event_source_find(&source, ids[STREAM_GROUPS], &row, error);
    *ret_cursor = (struct cursor){ids[STREAM_GROUPS], row ? row->received_at_ms : 0};
    event_source_close(&source);
    return r;
}
