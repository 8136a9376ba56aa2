#include "batch.h"

#include <errno.h>
#include <stdlib.h>

#include "uid.h"

static const char *const stream_names[STREAM_COUNT] = {"destroyed_group", "rejected_callback"};

static const char new_cursor_sql[] =
    "INSERT INTO imcallbackd_cursor (receiver, stream, last_id, last_received_at_ms, updated_at)"
    " VALUES ($1, $2, 0, 0, now()) ON CONFLICT (receiver, stream) DO NOTHING";

static const char read_cursor_sql[] =
    "SELECT last_id, last_received_at_ms FROM imcallbackd_cursor WHERE receiver = $1 AND stream = $2";

static const char move_cursor_sql[] =
    "UPDATE imcallbackd_cursor SET last_id = $4, last_received_at_ms = $5, updated_at = now()"
    " WHERE receiver = $1 AND stream = $2 AND last_id = $3";

static const char groups_sql[] =
    "INSERT INTO destroyed_group (event_uid, receiver, id, sdk_appid, group_id, event_time_ms, type, owner_account,"
    " operator_account, name, member_count, opt_platform, client_ip, remote_address, received_at_ms, body,"
    " forwarded_at)"
    " SELECT e.event_uid, $1, e.id, e.sdk_appid, e.group_id, e.event_time_ms, e.type, e.owner_account,"
    " e.operator_account, e.name, e.member_count, e.opt_platform, e.client_ip, e.remote_address, e.received_at_ms,"
    " e.body, now()"
    " FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[],"
    " $9::text[], $10::text[], $11::bigint[], $12::text[], $13::text[], $14::text[], $15::bigint[], $16::bytea[])"
    " AS e (event_uid, id, sdk_appid, group_id, event_time_ms, type, owner_account, operator_account, name,"
    " member_count, opt_platform, client_ip, remote_address, received_at_ms, body)"
    " ON CONFLICT (event_uid) DO NOTHING";

// Another receiver may have been first with the same event. Then the members that are there came with the row that is
// there, and ours must not be mixed in.
static const char members_sql[] =
    "INSERT INTO destroyed_group_member (event_uid, position, member_account)"
    " SELECT m.event_uid, m.position, m.member_account"
    " FROM unnest($1::bytea[], $2::bigint[], $3::text[]) AS m (event_uid, position, member_account)"
    " WHERE m.event_uid IN (SELECT g.event_uid FROM destroyed_group AS g WHERE g.receiver = $4"
    " AND g.id BETWEEN $5 AND $6)"
    " ON CONFLICT (event_uid, position) DO NOTHING";

static const char rejections_sql[] =
    "INSERT INTO rejected_callback (callback_uid, receiver, id, received_at_ms, remote_address, sdk_appid,"
    " callback_command, reason, body, forwarded_at)"
    " SELECT c.callback_uid, $1, c.id, c.received_at_ms, c.remote_address, c.sdk_appid, c.callback_command, c.reason,"
    " c.body, now()"
    " FROM unnest($2::bytea[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[],"
    " $9::bytea[])"
    " AS c (callback_uid, id, received_at_ms, remote_address, sdk_appid, callback_command, reason, body)"
    " ON CONFLICT (callback_uid) DO NOTHING";

// In the order of groups_sql; behind them those of members_sql.
enum group_column {
    GROUP_UID,
    GROUP_ID,
    GROUP_APP,
    GROUP_NAME_ID,
    GROUP_TIME,
    GROUP_TYPE,
    GROUP_OWNER,
    GROUP_OPERATOR,
    GROUP_NAME,
    GROUP_MEMBER_COUNT,
    GROUP_PLATFORM,
    GROUP_CLIENT,
    GROUP_REMOTE,
    GROUP_RECEIVED,
    GROUP_BODY,
    GROUP_COLUMNS,
    MEMBER_UID = GROUP_COLUMNS,
    MEMBER_POSITION,
    MEMBER_ACCOUNT,
    GROUP_AND_MEMBER_COLUMNS,
};

static const enum array_type group_types[GROUP_AND_MEMBER_COLUMNS] = {
    [GROUP_UID] = ARRAY_OF_BYTES,          [GROUP_ID] = ARRAY_OF_INTEGERS,
    [GROUP_APP] = ARRAY_OF_INTEGERS,       [GROUP_NAME_ID] = ARRAY_OF_TEXT,
    [GROUP_TIME] = ARRAY_OF_INTEGERS,      [GROUP_TYPE] = ARRAY_OF_TEXT,
    [GROUP_OWNER] = ARRAY_OF_TEXT,         [GROUP_OPERATOR] = ARRAY_OF_TEXT,
    [GROUP_NAME] = ARRAY_OF_TEXT,          [GROUP_MEMBER_COUNT] = ARRAY_OF_INTEGERS,
    [GROUP_PLATFORM] = ARRAY_OF_TEXT,      [GROUP_CLIENT] = ARRAY_OF_TEXT,
    [GROUP_REMOTE] = ARRAY_OF_TEXT,        [GROUP_RECEIVED] = ARRAY_OF_INTEGERS,
    [GROUP_BODY] = ARRAY_OF_BYTES,         [MEMBER_UID] = ARRAY_OF_BYTES,
    [MEMBER_POSITION] = ARRAY_OF_INTEGERS, [MEMBER_ACCOUNT] = ARRAY_OF_TEXT,
};

// In the order of rejections_sql.
enum rejection_column {
    REJECTION_UID,
    REJECTION_ID,
    REJECTION_RECEIVED,
    REJECTION_REMOTE,
    REJECTION_APP,
    REJECTION_COMMAND,
    REJECTION_REASON,
    REJECTION_BODY,
    REJECTION_COLUMNS,
};

static const enum array_type rejection_types[REJECTION_COLUMNS] = {
    [REJECTION_UID] = ARRAY_OF_BYTES,   [REJECTION_ID] = ARRAY_OF_INTEGERS,  [REJECTION_RECEIVED] = ARRAY_OF_INTEGERS,
    [REJECTION_REMOTE] = ARRAY_OF_TEXT, [REJECTION_APP] = ARRAY_OF_INTEGERS, [REJECTION_COMMAND] = ARRAY_OF_TEXT,
    [REJECTION_REASON] = ARRAY_OF_TEXT, [REJECTION_BODY] = ARRAY_OF_BYTES,
};

_Static_assert(GROUP_AND_MEMBER_COLUMNS <= BATCH_COLUMNS, "a batch has room for all columns");
_Static_assert(GROUP_COLUMNS + 1 <= PARAMETERS_MAX, "a statement has room for all parameters");

// Cursor

int cursor_make(struct destination *destination, const char *receiver, struct error *error)
{
    int r = 0;

    for (size_t i = 0; i < STREAM_COUNT && r == 0; i++) {
        struct parameters parameters = {0};

        parameters_add_text(&parameters, receiver);
        parameters_add_text(&parameters, stream_names[i]);
        r = destination_query(destination, new_cursor_sql, &parameters, NULL, error);
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
    parameters_add_text(&parameters, stream_names[stream]);
    r = destination_query(destination, read_cursor_sql, &parameters, &result, error);
    if (r < 0)
        return r;
    *ret_cursor = (struct cursor){0};
    if (PQntuples(result) == 1)
        *ret_cursor =
            (struct cursor){strtoll(PQgetvalue(result, 0, 0), NULL, 10), strtoll(PQgetvalue(result, 0, 1), NULL, 10)};
    PQclear(result);
    return 0;
}

// The cursor goes first, so that a second forwarder of the same name waits here and not between the rows.
static int send_begin(struct destination *destination, const char *receiver, enum stream stream,
                      const struct cursor *from, const struct cursor *to, struct error *error)
{
    struct parameters parameters = {0};
    int r = destination_send(destination, "BEGIN", NULL, error);

    parameters_add_text(&parameters, receiver);
    parameters_add_text(&parameters, stream_names[stream]);
    parameters_add_integer(&parameters, from->id);
    parameters_add_integer(&parameters, to->id);
    parameters_add_integer(&parameters, to->received_at_ms);
    return r < 0 ? r : destination_send(destination, move_cursor_sql, &parameters, error);
}

static int send_end(struct destination *destination, struct error *error)
{
    int r = destination_send(destination, "COMMIT", NULL, error);

    return r < 0 ? r : destination_sync(destination, error);
}

// Packing

static void begin_columns(struct batch *batch, const enum array_type *types, size_t count)
{
    for (size_t i = 0; i < count; i++)
        array_begin(&batch->columns[i], types[i]);
}

static void pack_members(struct array *columns, const struct destroyed_group *event, const unsigned char *uid)
{
    for (size_t i = 0; i < event->member_count; i++) {
        array_add_bytes(&columns[MEMBER_UID], uid, UID_BYTES);
        array_add_integer(&columns[MEMBER_POSITION], (int64_t)i);
        array_add_text(&columns[MEMBER_ACCOUNT], event->members[i]);
    }
}

static void add_integer_or_null(struct array *column, bool there, int64_t value)
{
    if (there)
        array_add_integer(column, value);
    else
        array_add_null(column);
}

static int pack_group(struct array *columns, const struct recorded_row *group, const char *receiver)
{
    const struct destroyed_group *event = &group->event.group;
    unsigned char uid[UID_BYTES];
    int r = uid_of_group(group, receiver, uid);

    if (r < 0)
        return r;
    array_add_bytes(&columns[GROUP_UID], uid, sizeof uid);
    array_add_integer(&columns[GROUP_ID], group->id);
    array_add_integer(&columns[GROUP_APP], event->sdk_appid);
    array_add_text(&columns[GROUP_NAME_ID], event->group_id);
    add_integer_or_null(&columns[GROUP_TIME], event->has_event_time, event->event_time_ms);
    array_add_text(&columns[GROUP_TYPE], event->type);
    array_add_text(&columns[GROUP_OWNER], event->owner_account);
    array_add_text(&columns[GROUP_OPERATOR], event->operator_account);
    array_add_text(&columns[GROUP_NAME], event->name);
    add_integer_or_null(&columns[GROUP_MEMBER_COUNT], event->has_member_list, (int64_t)event->member_count);
    array_add_text(&columns[GROUP_PLATFORM], event->opt_platform);
    array_add_text(&columns[GROUP_CLIENT], event->client_ip);
    array_add_text(&columns[GROUP_REMOTE], event->remote_address);
    array_add_integer(&columns[GROUP_RECEIVED], event->received_at_ms);
    if (event->keep_body)
        array_add_bytes(&columns[GROUP_BODY], event->body, event->body_length);
    else
        array_add_null(&columns[GROUP_BODY]);
    pack_members(columns, event, uid);
    return 0;
}

static int pack_rejection(struct array *columns, const struct recorded_row *rejection, const char *receiver)
{
    const struct rejected_callback *callback = &rejection->event.rejection;
    unsigned char uid[UID_BYTES];
    int r = uid_of_rejection(rejection, receiver, uid);

    if (r < 0)
        return r;
    array_add_bytes(&columns[REJECTION_UID], uid, sizeof uid);
    array_add_integer(&columns[REJECTION_ID], rejection->id);
    array_add_integer(&columns[REJECTION_RECEIVED], callback->received_at_ms);
    array_add_text(&columns[REJECTION_REMOTE], callback->remote_address);
    array_add_integer(&columns[REJECTION_APP], callback->sdk_appid);
    array_add_text(&columns[REJECTION_COMMAND], callback->callback_command);
    array_add_text(&columns[REJECTION_REASON], callback->reason);
    array_add_bytes(&columns[REJECTION_BODY], callback->body, callback->body_length);
    return 0;
}

// Sending

static int send_rows(struct batch *batch, struct destination *destination, const char *receiver, const char *sql,
                     size_t columns, struct error *error)
{
    struct parameters parameters = {0};

    parameters_add_text(&parameters, receiver);
    for (size_t i = 0; i < columns; i++)
        parameters_add_array(&parameters, &batch->columns[i]);
    return destination_send(destination, sql, &parameters, error);
}

static int send_members(struct batch *batch, struct destination *destination, const char *receiver, int64_t first_id,
                        int64_t last_id, struct error *error)
{
    struct parameters parameters = {0};

    if (batch->columns[MEMBER_UID].count == 0)
        return 0;
    for (size_t i = MEMBER_UID; i < GROUP_AND_MEMBER_COLUMNS; i++)
        parameters_add_array(&parameters, &batch->columns[i]);
    parameters_add_text(&parameters, receiver);
    parameters_add_integer(&parameters, first_id);
    parameters_add_integer(&parameters, last_id);
    return destination_send(destination, members_sql, &parameters, error);
}

static int packing_failed(int code, struct error *error)
{
    return error_set(error, -code, code == -ENOMEM ? "out of memory" : "libcrypto cannot make a SHA-256");
}

int batch_send_groups(struct batch *batch, struct destination *destination, const char *receiver,
                      const struct cursor *from, const struct recorded_row *groups, size_t count, struct error *error)
{
    const struct recorded_row *last = &groups[count - 1];
    const struct cursor to = {last->id, last->received_at_ms};
    int r = 0;

    begin_columns(batch, group_types, GROUP_AND_MEMBER_COLUMNS);
    for (size_t i = 0; i < count && r == 0; i++)
        r = pack_group(batch->columns, &groups[i], receiver);
    if (r < 0)
        return packing_failed(r, error);
    r = send_begin(destination, receiver, STREAM_GROUPS, from, &to, error);
    if (r == 0)
        r = send_rows(batch, destination, receiver, groups_sql, GROUP_COLUMNS, error);
    if (r == 0)
        r = send_members(batch, destination, receiver, groups[0].id, last->id, error);
    return r < 0 ? r : send_end(destination, error);
}

int batch_send_rejections(struct batch *batch, struct destination *destination, const char *receiver,
                          const struct cursor *from, const struct recorded_row *rejections, size_t count,
                          struct error *error)
{
    const struct recorded_row *last = &rejections[count - 1];
    const struct cursor to = {last->id, last->received_at_ms};
    int r = 0;

    begin_columns(batch, rejection_types, REJECTION_COLUMNS);
    for (size_t i = 0; i < count && r == 0; i++)
        r = pack_rejection(batch->columns, &rejections[i], receiver);
    if (r < 0)
        return packing_failed(r, error);
    r = send_begin(destination, receiver, STREAM_REJECTIONS, from, &to, error);
    if (r == 0)
        r = send_rows(batch, destination, receiver, rejections_sql, REJECTION_COLUMNS, error);
    return r < 0 ? r : send_end(destination, error);
}

void batch_finish(struct batch *batch)
{
    for (size_t i = 0; i < BATCH_COLUMNS; i++)
        array_finish(&batch->columns[i]);
}
