// Records commits with prepared statements, and detects repeats and conflicts. Static functions that return int return
// SQLite's extended result code, which the public functions translate with sqlite_error.h.
#include "recorder.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "binding.h"
#include "imcallbackd/store/columns.h"
#include "schema.h"
#include "wal_buffer.h"

// Compares each recorded column with the parameter that has the same position. The first three columns, ?1 to ?3, are
// the identity.
#define IS_SAME(name, ...) ", " #name " IS ?"
#define COMPARED_COLUMNS   DESTROYED_GROUP_COLUMNS(IS_SAME, IS_SAME)

// Callers bind ?1, ?2 and so on in this order, so each text numbers its parameters in the order of their first use.
static const char *const recorder_sql[RECORDER_STATEMENT_COUNT] = {
    [RECORDER_BEGIN] = "BEGIN IMMEDIATE",
    [RECORDER_COMMIT] = "COMMIT",
    [RECORDER_ROLLBACK] = "ROLLBACK",
    [RECORDER_TEST_WRITE] = "PRAGMA user_version = " SQL_NUMBER(SCHEMA_VERSION),
    [RECORDER_FIND_SAME_BODY] = "SELECT 1 FROM destroyed_group WHERE sdk_appid = ?1 AND event_time_ms IS NULL"
                                " AND group_id = ?2 AND received_at_ms BETWEEN ?3 AND ?4 AND body = ?5",
    [RECORDER_INSERT_GROUP] = "INSERT INTO destroyed_group (id" DESTROYED_GROUP_NAMES
                              ") VALUES (NULL" DESTROYED_GROUP_PLACEHOLDERS ") ON CONFLICT DO NOTHING",
    [RECORDER_INSERT_MEMBER] = "INSERT INTO destroyed_group_member VALUES (?1, ?2, ?3)",
    [RECORDER_INSERT_TEN_MEMBERS] = "INSERT INTO destroyed_group_member VALUES (?1, ?2, ?3), (?1, ?2 + 1, ?4),"
                                    " (?1, ?2 + 2, ?5), (?1, ?2 + 3, ?6), (?1, ?2 + 4, ?7), (?1, ?2 + 5, ?8),"
                                    " (?1, ?2 + 6, ?9), (?1, ?2 + 7, ?10), (?1, ?2 + 8, ?11), (?1, ?2 + 9, ?12)",
    [RECORDER_FIND_SAME_IDENTITY] = "SELECT id" COMPARED_COLUMNS " FROM destroyed_group"
                                    " WHERE sdk_appid = ?1 AND group_id = ?2 AND event_time_ms = ?3",
    [RECORDER_LIST_MEMBERS] = "SELECT member_account FROM destroyed_group_member WHERE destroyed_group_id = ?1"
                              " ORDER BY position",
    [RECORDER_INSERT_REJECTED] =
        "INSERT INTO rejected_callback (id" REJECTED_CALLBACK_NAMES ") VALUES (NULL" REJECTED_CALLBACK_PLACEHOLDERS ")",
    [RECORDER_DROP_OLDEST_REJECTED] = "DELETE FROM rejected_callback WHERE id ="
                                      " (SELECT id FROM rejected_callback ORDER BY id LIMIT 1) RETURNING length(body)",
};

static const char sum_rejected_sql[] =
    "SELECT count(*) * " SQL_NUMBER(REJECTED_ROW_BYTES) " + coalesce(sum(length(body)), 0) FROM rejected_callback";

// Not from sqlite_sequence, which also counts ids that a repeated event has used up.
static const char newest_event_id_sql[] = "SELECT coalesce(max(id), 0) FROM destroyed_group";

static struct binding begin(const struct recorder *recorder, enum recorder_statement which)
{
    return bind_begin(recorder->statements[which]);
}

static int run(const struct recorder *recorder, enum recorder_statement which)
{
    struct binding binding = begin(recorder, which);

    return bind_run(&binding);
}

static int sum_rejected(struct recorder *recorder)
{
    char bytes[24];
    int code = query_text(recorder->connection, sum_rejected_sql, bytes, sizeof bytes);

    recorder->rejected_bytes = strtoll(bytes, NULL, 10);
    return code;
}

static int find_newest_event_id(struct recorder *recorder)
{
    char id[24];
    int code = query_text(recorder->connection, newest_event_id_sql, id, sizeof id);

    recorder->newest_event_id = strtoll(id, NULL, 10);
    return code;
}

int recorder_init(struct recorder *recorder, sqlite3 *connection, struct error *error)
{
    int code;

    *recorder = (struct recorder){.connection = connection};
    code = statements_prepare(connection, recorder_sql, recorder->statements, RECORDER_STATEMENT_COUNT);
    if (code == SQLITE_OK)
        code = sum_rejected(recorder);
    if (code == SQLITE_OK)
        code = find_newest_event_id(recorder);
    return code == SQLITE_OK ? 0 : sqlite_error(connection, error);
}

void recorder_finish(struct recorder *recorder)
{
    statements_finalize(recorder->statements, RECORDER_STATEMENT_COUNT);
    *recorder = (struct recorder){0};
}

enum store_failure recorder_begin(struct recorder *recorder, struct error *error)
{
    assert(!recorder->in_transaction);
    recorder->in_transaction = true;
    recorder->rejected_bytes_pending = recorder->rejected_bytes;
    recorder->newest_event_id_pending = recorder->newest_event_id;
    return sqlite_failure(recorder->connection, run(recorder, RECORDER_BEGIN), error);
}

enum store_failure recorder_commit(struct recorder *recorder, struct error *error)
{
    enum store_failure failure;

    assert(recorder->in_transaction);
    failure = sqlite_failure(recorder->connection, run(recorder, RECORDER_COMMIT), error);
    if (failure == STORE_FAILURE_NONE) {
        assert(sqlite3_get_autocommit(recorder->connection));
        recorder->in_transaction = false;
        recorder->rejected_bytes = recorder->rejected_bytes_pending;
        recorder->newest_event_id = recorder->newest_event_id_pending;
    }
    return failure;
}

void recorder_rollback(struct recorder *recorder)
{
    // SQLite rolls back by itself after some errors.
    if (!sqlite3_get_autocommit(recorder->connection))
        (void)run(recorder, RECORDER_ROLLBACK);
    wal_buffer_discard(recorder->connection);
    recorder->in_transaction = false;
}

enum store_failure recorder_test_write(struct recorder *recorder, struct error *error)
{
    assert(!recorder->in_transaction);
    return sqlite_failure(recorder->connection, run(recorder, RECORDER_TEST_WRITE), error);
}

void recorder_subtract_rejected(struct recorder *recorder, int64_t body_bytes)
{
    assert(recorder->in_transaction && body_bytes >= 0);
    recorder->rejected_bytes_pending -= REJECTED_ROW_BYTES + body_bytes;
}

static void bind_columns(struct binding *binding, enum stream stream, const void *event)
{
    const struct stream_table *table = &stream_tables[stream];

    for (size_t i = 0; i < table->column_count; i++) {
        struct column_value value = column_get(&table->columns[i], event);

        if (value.is_null)
            bind_null(binding);
        else if (table->columns[i].type == COLUMN_INTEGER)
            bind_int(binding, value.integer);
        else if (table->columns[i].type == COLUMN_TEXT)
            bind_text(binding, value.data);
        else
            bind_bytes(binding, value.data, value.length);
    }
}

static int drop_oldest_rejected(struct recorder *recorder)
{
    struct binding binding = begin(recorder, RECORDER_DROP_OLDEST_REJECTED);

    if (bind_step(&binding) == SQLITE_ROW)
        recorder_subtract_rejected(recorder, sqlite3_column_int64(binding.statement, 0));
    else
        recorder->rejected_bytes_pending = 0; // the table is empty, or the statement failed and the caller rolls back
    return bind_end(&binding);
}

static int record_rejected(struct recorder *recorder, const struct rejected_callback *rejected)
{
    struct binding binding = begin(recorder, RECORDER_INSERT_REJECTED);
    int code;

    bind_columns(&binding, STREAM_REJECTIONS, rejected);
    code = bind_run(&binding);
    recorder->rejected_bytes_pending += REJECTED_ROW_BYTES + (int64_t)rejected->body_length;
    while (code == SQLITE_OK && recorder->rejected_bytes_pending > REJECTED_MAX_BYTES)
        code = drop_oldest_rejected(recorder);
    return code;
}

// Searches the repeat window for an event of the same app and group that has no time and the same body.
static int find_same_body(struct recorder *recorder, const struct destroyed_group *group, bool *ret_found)
{
    struct binding binding = begin(recorder, RECORDER_FIND_SAME_BODY);

    assert(!group->has_event_time && group->keep_body);
    bind_int(&binding, group->sdk_appid);
    bind_text(&binding, group->group_id);
    bind_int(&binding, group->received_at_ms - REPEAT_WINDOW_MS);
    bind_int(&binding, group->received_at_ms + REPEAT_WINDOW_MS); // the clock may have been set back since
    bind_bytes(&binding, group->body, group->body_length);
    *ret_found = bind_step(&binding) == SQLITE_ROW;
    return bind_end(&binding);
}

static int insert_group(struct recorder *recorder, const struct destroyed_group *group, bool *ret_inserted)
{
    struct binding binding = begin(recorder, RECORDER_INSERT_GROUP);
    int code;

    bind_columns(&binding, STREAM_GROUPS, group);
    code = bind_run(&binding);
    *ret_inserted = code == SQLITE_OK && sqlite3_changes(recorder->connection) == 1;
    return code;
}

// Inserts ten rows with one statement where possible, because ten separate statements take longer.
static int insert_members(struct recorder *recorder, const struct destroyed_group *group, int64_t id)
{
    size_t position = 0;

    while (position < group->member_count) {
        size_t rows = group->member_count - position < 10 ? 1 : 10;
        struct binding binding = begin(recorder, rows == 1 ? RECORDER_INSERT_MEMBER : RECORDER_INSERT_TEN_MEMBERS);
        int code;

        bind_int(&binding, id);
        bind_int(&binding, (int64_t)position);
        for (size_t end = position + rows; position < end; position++)
            bind_text(&binding, group->members[position]);
        code = bind_run(&binding);
        if (code != SQLITE_OK)
            return code;
    }
    assert(position == group->member_count);
    return SQLITE_OK;
}

static int compare_members(struct recorder *recorder, const struct destroyed_group *group, int64_t id, bool *ret_same)
{
    struct binding binding = begin(recorder, RECORDER_LIST_MEMBERS);
    size_t position = 0;
    bool same = true;

    bind_int(&binding, id);
    while (same && bind_step(&binding) == SQLITE_ROW) {
        const char *recorded = (const char *)sqlite3_column_text(binding.statement, 0);

        // If SQLite runs out of memory for the text, `recorded` is NULL and bind_end returns the failure.
        same = position < group->member_count && recorded && strcmp(recorded, group->members[position]) == 0;
        position++;
    }
    *ret_same = same && position == group->member_count;
    return bind_end(&binding);
}

// Returns the name of the first content column in which the recorded event differs from the new one, or NULL if no
// content column differs. `row` is the row of RECORDER_FIND_SAME_IDENTITY.
static const char *differing_column(sqlite3_stmt *row)
{
    const struct stream_table *table = &stream_tables[STREAM_GROUPS];

    for (size_t i = 0; i < table->column_count; i++) {
        if (table->columns[i].part == COLUMN_CONTENT && !sqlite3_column_int(row, (int)i + 1)) // the id comes first
            return table->columns[i].name;
    }
    return NULL;
}

// Compares the group with the recorded event of the same identity, and sets *ret_id to the id of that event. Sets
// *ret_difference to the name of the first content column that differs, to "member list" if only the members differ, or
// to NULL if both have the same content.
static int compare_with_recorded(struct recorder *recorder, const struct destroyed_group *group, int64_t *ret_id,
                                 const char **ret_difference)
{
    struct binding binding = begin(recorder, RECORDER_FIND_SAME_IDENTITY);
    bool same_members;
    int code;

    assert(group->has_event_time);
    bind_columns(&binding, STREAM_GROUPS, group);
    if (bind_step(&binding) != SQLITE_ROW) {
        code = bind_end(&binding);
        return code != SQLITE_OK ? code : SQLITE_CORRUPT_INDEX; // the insertion has just found this identity
    }
    *ret_id = sqlite3_column_int64(binding.statement, 0);
    *ret_difference = differing_column(binding.statement);
    code = bind_end(&binding);
    if (code != SQLITE_OK || *ret_difference)
        return code;
    code = compare_members(recorder, group, *ret_id, &same_members);
    if (code == SQLITE_OK && !same_members)
        *ret_difference = "member list";
    return code;
}

static int record_repeat_or_conflict(struct recorder *recorder, struct commit *commit)
{
    const struct destroyed_group *group = commit->group;
    const char *difference;
    char reason[128];
    int64_t id;
    int code = compare_with_recorded(recorder, group, &id, &difference);

    if (code != SQLITE_OK)
        return code;
    commit->result = difference ? COMMIT_CONFLICT : COMMIT_REPEATED;
    if (!difference)
        return SQLITE_OK;
    (void)snprintf(reason, sizeof reason, "conflict: recorded as destroyed_group %" PRId64 " with another %s", id,
                   difference);
    return record_rejected(recorder, &(struct rejected_callback){
                                         .received_at_ms = group->received_at_ms,
                                         .remote_address = group->remote_address,
                                         .sdk_appid = group->sdk_appid,
                                         .callback_command = CALLBACK_COMMAND,
                                         .reason = reason,
                                         .body = group->body,
                                         .body_length = group->body_length,
                                     });
}

static int record_group(struct recorder *recorder, struct commit *commit)
{
    const struct destroyed_group *group = commit->group;
    bool repeated = false, inserted;
    int code = SQLITE_OK;

    if (!group->has_event_time)
        code = find_same_body(recorder, group, &repeated);
    if (code != SQLITE_OK || repeated) {
        commit->result = COMMIT_REPEATED;
        return code;
    }
    code = insert_group(recorder, group, &inserted);
    if (code != SQLITE_OK)
        return code;
    if (!inserted)
        return record_repeat_or_conflict(recorder, commit);
    commit->result = COMMIT_RECORDED;
    recorder->newest_event_id_pending = sqlite3_last_insert_rowid(recorder->connection);
    return insert_members(recorder, group, recorder->newest_event_id_pending);
}

enum store_failure recorder_record(struct recorder *recorder, struct commit *commit, struct error *error)
{
    int code;

    assert(recorder->in_transaction && !commit->group != !commit->rejected);
    commit->result = COMMIT_RECORDED;
    code = commit->group ? record_group(recorder, commit) : record_rejected(recorder, commit->rejected);
    return sqlite_failure(recorder->connection, code, error);
}
