// Encodes batches and moves cursors. store/columns.h describes the columns of the store; this file adds only the
// receiver, the key, the id, forwarded_at and the members.
#include "batch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static const char create_cursor_sql[] =
    "INSERT INTO imcallbackd_cursor (receiver, stream, last_id, last_received_at_ms, updated_at)"
    " VALUES ($1, $2, 0, 0, now()) ON CONFLICT (receiver, stream) DO NOTHING";

static const char read_cursor_sql[] =
    "SELECT last_id, last_received_at_ms FROM imcallbackd_cursor WHERE receiver = $1 AND stream = $2";

static const char move_cursor_sql[] =
    "UPDATE imcallbackd_cursor SET last_id = $4, last_received_at_ms = $5, updated_at = now()"
    " WHERE receiver = $1 AND stream = $2 AND last_id = $3";

// Another receiver may have shipped the same event first. The destination then has the row and the members from that
// receiver, so this statement inserts members only for rows of its own receiver.
static const char members_sql[] =
    "INSERT INTO destroyed_group_member (event_uid, position, member_account)"
    " SELECT m.event_uid, m.position, m.member_account"
    " FROM unnest($1::bytea[], $2::bigint[], $3::text[]) AS m (event_uid, position, member_account)"
    " WHERE m.event_uid IN (SELECT g.event_uid FROM destroyed_group AS g WHERE g.receiver = $4"
    " AND g.id BETWEEN $5 AND $6)"
    " ON CONFLICT (event_uid, position) DO NOTHING";

const char *const uid_columns[STREAM_COUNT] = {"event_uid", "callback_uid"};

static const char *const names_sql[STREAM_COUNT] = {DESTROYED_GROUP_NAMES, REJECTED_CALLBACK_NAMES};

static const struct {
    enum array_type array;
    const char *sql;
} types[] = {
    [COLUMN_INTEGER] = {ARRAY_OF_INTEGERS, "bigint"},
    [COLUMN_TEXT] = {ARRAY_OF_TEXT, "text"},
    [COLUMN_BYTES] = {ARRAY_OF_BYTES, "bytea"},
};

// A batch has its arrays in this order: the uid, the id, the columns of the stream, and three arrays for the members.
enum { UID_ARRAY, ID_ARRAY, COLUMN_ARRAYS };
enum { MEMBER_UID, MEMBER_POSITION, MEMBER_ACCOUNT, MEMBER_ARRAYS };

// Cursor

int cursor_create(struct destination *destination, const char *receiver, struct error *error)
{
    int r = 0;

    for (enum stream stream = 0; stream < STREAM_COUNT && r == 0; stream++) {
        struct parameters parameters = {0};

        parameters_add_text(&parameters, receiver);
        parameters_add_text(&parameters, stream_tables[stream].name);
        r = destination_query(destination, create_cursor_sql, &parameters, 0, NULL, error);
    }
    return r;
}

int cursor_read(struct destination *destination, const char *receiver, enum stream stream, struct cursor *ret_cursor,
                struct error *error)
{
    struct parameters parameters = {0};
    PGresult *result = NULL;
    int r;

    parameters_add_text(&parameters, receiver);
    parameters_add_text(&parameters, stream_tables[stream].name);
    r = destination_query(destination, read_cursor_sql, &parameters, 2, &result, error);
    if (r < 0)
        return r;
    *ret_cursor = (struct cursor){0};
    if (PQntuples(result) == 1) {
        ret_cursor->id = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        ret_cursor->received_at_ms = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    }
    PQclear(result);
    return 0;
}

// Encoding

static struct array *member_arrays(struct batch *batch, enum stream stream)
{
    return &batch->columns[COLUMN_ARRAYS + stream_tables[stream].column_count];
}

static void start_arrays(struct batch *batch, enum stream stream)
{
    const struct stream_table *table = &stream_tables[stream];
    struct array *members = member_arrays(batch, stream);

    assert(COLUMN_ARRAYS + table->column_count + MEMBER_ARRAYS <= BATCH_COLUMNS);
    array_start(&batch->columns[UID_ARRAY], ARRAY_OF_BYTES);
    array_start(&batch->columns[ID_ARRAY], ARRAY_OF_INTEGERS);
    for (size_t i = 0; i < table->column_count; i++)
        array_start(&batch->columns[COLUMN_ARRAYS + i], types[table->columns[i].type].array);
    array_start(&members[MEMBER_UID], ARRAY_OF_BYTES);
    array_start(&members[MEMBER_POSITION], ARRAY_OF_INTEGERS);
    array_start(&members[MEMBER_ACCOUNT], ARRAY_OF_TEXT);
}

static void add_value(struct array *array, const struct column *column, const void *event)
{
    const struct column_value value = column_get(column, event);

    if (value.is_null)
        array_add_null(array);
    else if (column->type == COLUMN_INTEGER)
        array_add_integer(array, value.integer);
    else if (column->type == COLUMN_TEXT)
        array_add_text(array, value.data);
    else
        array_add_bytes(array, value.data, value.length);
}

static void add_members(struct array *arrays, const struct destroyed_group *group, const unsigned char *uid)
{
    for (size_t i = 0; i < group->member_count; i++) {
        array_add_bytes(&arrays[MEMBER_UID], uid, UID_BYTES);
        array_add_integer(&arrays[MEMBER_POSITION], (int64_t)i);
        array_add_text(&arrays[MEMBER_ACCOUNT], group->members[i]);
    }
}

static int add_row(struct batch *batch, enum stream stream, const struct recorded_row *row, const char *receiver)
{
    const struct stream_table *table = &stream_tables[stream];
    unsigned char uid[UID_BYTES];
    int r = row_uid(stream, row, receiver, uid);

    if (r < 0)
        return r;
    array_add_bytes(&batch->columns[UID_ARRAY], uid, sizeof uid);
    array_add_integer(&batch->columns[ID_ARRAY], row->id);
    for (size_t i = 0; i < table->column_count; i++)
        add_value(&batch->columns[COLUMN_ARRAYS + i], &table->columns[i], &row->event);
    if (stream == STREAM_GROUPS)
        add_members(member_arrays(batch, stream), &row->event.group, uid);
    return 0;
}

// The receiver is $1, the uid is $2, the id is $3, and the columns of the stream follow.
static int print_insert(struct buffer *sql, enum stream stream)
{
    const struct stream_table *table = &stream_tables[stream];
    const char *uid = uid_columns[stream], *names = names_sql[stream];
    int r;

    sql->length = 0;
    r = buffer_print(sql,
                     "INSERT INTO %s (receiver, %s, id%s, forwarded_at) SELECT $1, e.*, now()"
                     " FROM unnest($2::bytea[], $3::bigint[]",
                     table->name, uid, names);
    for (size_t i = 0; i < table->column_count && r == 0; i++)
        r = buffer_print(sql, ", $%zu::%s[]", i + 4, types[table->columns[i].type].sql);
    if (r == 0)
        r = buffer_print(sql, ") AS e (%s, id%s) ON CONFLICT (%s) DO NOTHING", uid, names, uid);
    return r;
}

static int encode(struct batch *batch, enum stream stream, const char *receiver, const struct recorded_row *rows,
                  size_t count, struct error *error)
{
    int r = print_insert(&batch->sql, stream);

    start_arrays(batch, stream);
    for (size_t i = 0; i < count && r == 0; i++) {
        assert(i == 0 || rows[i].id > rows[i - 1].id);
        r = add_row(batch, stream, &rows[i], receiver);
    }
    if (r < 0)
        return error_set(error, -r, r == -ENOMEM ? "out of memory" : "libcrypto cannot compute a SHA-256 hash");
    return 0;
}

// Sending

static int send_cursor(struct destination *destination, const char *receiver, enum stream stream,
                       const struct cursor *from, const struct recorded_row *last, struct error *error)
{
    struct parameters parameters = {0};

    parameters_add_text(&parameters, receiver);
    parameters_add_text(&parameters, stream_tables[stream].name);
    parameters_add_integer(&parameters, from->id);
    parameters_add_integer(&parameters, last->id);
    parameters_add_integer(&parameters, last->received_at_ms);
    return destination_send(destination, move_cursor_sql, &parameters, error);
}

static int send_rows(struct batch *batch, struct destination *destination, const char *receiver, enum stream stream,
                     struct error *error)
{
    struct parameters parameters = {0};

    parameters_add_text(&parameters, receiver);
    for (size_t i = 0; i < COLUMN_ARRAYS + stream_tables[stream].column_count; i++) {
        assert(batch->columns[i].code < 0 || batch->columns[i].count == batch->columns[ID_ARRAY].count);
        parameters_add_array(&parameters, &batch->columns[i]);
    }
    return destination_send(destination, buffer_text(&batch->sql), &parameters, error);
}

static int send_members(struct batch *batch, struct destination *destination, const char *receiver, enum stream stream,
                        int64_t first_id, int64_t last_id, struct error *error)
{
    struct array *arrays = member_arrays(batch, stream);
    struct parameters parameters = {0};

    if (arrays[MEMBER_UID].count == 0)
        return 0;
    for (size_t i = 0; i < MEMBER_ARRAYS; i++)
        parameters_add_array(&parameters, &arrays[i]);
    parameters_add_text(&parameters, receiver);
    parameters_add_integer(&parameters, first_id);
    parameters_add_integer(&parameters, last_id);
    return destination_send(destination, members_sql, &parameters, error);
}

int batch_send(struct batch *batch, struct destination *destination, const char *receiver, enum stream stream,
               const struct cursor *from, const struct recorded_row *rows, size_t count, struct error *error)
{
    int r;

    assert(stream < STREAM_COUNT && count > 0 && rows[0].id > from->id);
    r = encode(batch, stream, receiver, rows, count, error);
    if (r == 0)
        r = destination_send(destination, "BEGIN", NULL, error);
    if (r == 0)
        r = send_cursor(destination, receiver, stream, from, &rows[count - 1], error);
    if (r == 0)
        r = send_rows(batch, destination, receiver, stream, error);
    if (r == 0)
        r = send_members(batch, destination, receiver, stream, rows[0].id, rows[count - 1].id, error);
    if (r == 0)
        r = destination_send(destination, "COMMIT", NULL, error);
    return r < 0 ? r : destination_sync(destination, error);
}

void batch_finish(struct batch *batch)
{
    for (size_t i = 0; i < BATCH_COLUMNS; i++)
        array_finish(&batch->columns[i]);
    buffer_finish(&batch->sql);
}
