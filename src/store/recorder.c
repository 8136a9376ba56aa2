#include "recorder.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "binding.h"
#include "schema.h"

// Parameters are bound in their order, so each SQL text has them numbered in the order of use.
static const char *const recorder_sql[RECORDER_STATEMENT_COUNT] = {
    [RECORDER_BEGIN] = "BEGIN IMMEDIATE",
    [RECORDER_COMMIT] = "COMMIT",
    [RECORDER_ROLLBACK] = "ROLLBACK",
    [RECORDER_PROBE] = "PRAGMA user_version = " SQL_NUMBER(SCHEMA_VERSION),
    [RECORDER_FIND_UNTIMED] = "SELECT 1 FROM destroyed_group WHERE sdk_appid = ?1 AND event_time_ms IS NULL"
                              " AND group_id = ?2 AND received_at_ms BETWEEN ?3 AND ?4 AND body = ?5",
    [RECORDER_INSERT_GROUP] = "INSERT INTO destroyed_group (sdk_appid, group_id, event_time_ms, type, owner_account,"
                              " operator_account, name, member_count, opt_platform, client_ip, remote_address,"
                              " received_at_ms, body)"
                              " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) ON CONFLICT DO NOTHING",
    [RECORDER_INSERT_MEMBER] = "INSERT INTO destroyed_group_member VALUES (?1, ?2, ?3)",
    [RECORDER_INSERT_TEN_MEMBERS] = "INSERT INTO destroyed_group_member VALUES (?1, ?2, ?3), (?1, ?2 + 1, ?4),"
                                    " (?1, ?2 + 2, ?5), (?1, ?2 + 3, ?6), (?1, ?2 + 4, ?7), (?1, ?2 + 5, ?8),"
                                    " (?1, ?2 + 6, ?9), (?1, ?2 + 7, ?10), (?1, ?2 + 8, ?11), (?1, ?2 + 9, ?12)",
    [RECORDER_FIND_TWIN] = "SELECT id, type, owner_account, operator_account, name, member_count FROM destroyed_group"
                           " WHERE sdk_appid = ?1 AND group_id = ?2 AND event_time_ms = ?3",
    [RECORDER_LIST_MEMBERS] = "SELECT member_account FROM destroyed_group_member WHERE destroyed_group_id = ?1"
                              " ORDER BY position",
    [RECORDER_INSERT_REJECTED] = "INSERT INTO rejected_callback (received_at_ms, remote_address, sdk_appid,"
                                 " callback_command, reason, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [RECORDER_DROP_OLDEST_REJECTED] = "DELETE FROM rejected_callback WHERE id ="
                                      " (SELECT id FROM rejected_callback ORDER BY id LIMIT 1) RETURNING length(body)",
};

static const char sum_rejected_sql[] = "SELECT count(*), coalesce(sum(length(body)), 0) FROM rejected_callback";

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
    sqlite3_stmt *statement;
    int code = sqlite3_prepare_v2(recorder->connection, sum_rejected_sql, -1, &statement, NULL);

    if (code != SQLITE_OK)
        return code;
    if (sqlite3_step(statement) == SQLITE_ROW)
        recorder->rejected_bytes =
            sqlite3_column_int64(statement, 0) * REJECTED_ROW_BYTES + sqlite3_column_int64(statement, 1);
    return sqlite3_finalize(statement);
}

int recorder_init(struct recorder *recorder, sqlite3 *connection)
{
    int code;

    *recorder = (struct recorder){.connection = connection};
    code = statements_prepare(connection, recorder_sql, recorder->statements, RECORDER_STATEMENT_COUNT);
    return code == SQLITE_OK ? sum_rejected(recorder) : code;
}

void recorder_finish(struct recorder *recorder)
{
    statements_finalize(recorder->statements, RECORDER_STATEMENT_COUNT);
    *recorder = (struct recorder){0};
}

int recorder_begin(struct recorder *recorder)
{
    recorder->rejected_bytes_pending = recorder->rejected_bytes;
    return run(recorder, RECORDER_BEGIN);
}

int recorder_commit(struct recorder *recorder)
{
    int code = run(recorder, RECORDER_COMMIT);

    if (code == SQLITE_OK)
        recorder->rejected_bytes = recorder->rejected_bytes_pending;
    return code;
}

void recorder_rollback(struct recorder *recorder)
{
    // Some errors have rolled back already.
    if (!sqlite3_get_autocommit(recorder->connection))
        (void)run(recorder, RECORDER_ROLLBACK);
}

int recorder_probe(struct recorder *recorder)
{
    return run(recorder, RECORDER_PROBE);
}

void recorder_forget_rejected(struct recorder *recorder, int64_t body_bytes)
{
    recorder->rejected_bytes_pending -= REJECTED_ROW_BYTES + body_bytes;
}

static int drop_oldest_rejected(struct recorder *recorder)
{
    struct binding binding = begin(recorder, RECORDER_DROP_OLDEST_REJECTED);

    if (bind_step(&binding) == SQLITE_ROW)
        recorder_forget_rejected(recorder, sqlite3_column_int64(binding.statement, 0));
    else
        recorder->rejected_bytes_pending = 0; // nothing is left, or a failure ends the transaction
    return bind_end(&binding);
}

static int record_rejected(struct recorder *recorder, const struct rejected_callback *rejected)
{
    struct binding binding = begin(recorder, RECORDER_INSERT_REJECTED);
    int code;

    bind_int(&binding, rejected->received_at_ms);
    bind_text(&binding, rejected->remote_address);
    bind_int(&binding, rejected->sdk_appid);
    bind_text(&binding, rejected->callback_command);
    bind_text(&binding, rejected->reason);
    bind_bytes(&binding, rejected->body, rejected->body_length);
    code = bind_run(&binding);
    recorder->rejected_bytes_pending += REJECTED_ROW_BYTES + (int64_t)rejected->body_length;
    while (code == SQLITE_OK && recorder->rejected_bytes_pending > REJECTED_MAX_BYTES)
        code = drop_oldest_rejected(recorder);
    return code;
}

// Was an event without a time recorded lately with the same body?
static int find_untimed(struct recorder *recorder, const struct destroyed_group *group, bool *ret_found)
{
    struct binding binding = begin(recorder, RECORDER_FIND_UNTIMED);

    assert(group->keep_body);
    bind_int(&binding, group->sdk_appid);
    bind_text(&binding, group->group_id);
    bind_int(&binding, group->received_at_ms - REPEAT_WINDOW_MS);
    bind_int(&binding, group->received_at_ms + REPEAT_WINDOW_MS); // the clock may have gone back meanwhile
    bind_bytes(&binding, group->body, group->body_length);
    *ret_found = bind_step(&binding) == SQLITE_ROW;
    return bind_end(&binding);
}

static int insert_group(struct recorder *recorder, const struct destroyed_group *group, bool *ret_inserted)
{
    struct binding binding = begin(recorder, RECORDER_INSERT_GROUP);
    int code;

    bind_int(&binding, group->sdk_appid);
    bind_text(&binding, group->group_id);
    if (group->has_event_time)
        bind_int(&binding, group->event_time_ms);
    else
        bind_null(&binding);
    bind_text(&binding, group->type);
    bind_text(&binding, group->owner_account);
    bind_text(&binding, group->operator_account);
    bind_text(&binding, group->name);
    if (group->has_member_list)
        bind_int(&binding, (int64_t)group->member_count);
    else
        bind_null(&binding);
    bind_text(&binding, group->opt_platform);
    bind_text(&binding, group->client_ip);
    bind_text(&binding, group->remote_address);
    bind_int(&binding, group->received_at_ms);
    if (group->keep_body)
        bind_bytes(&binding, group->body, group->body_length);
    else
        bind_null(&binding);
    code = bind_run(&binding);
    *ret_inserted = code == SQLITE_OK && sqlite3_changes(recorder->connection) == 1;
    return code;
}

// Ten rows a statement as long as it goes, because a statement costs more than a row.
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
    return SQLITE_OK;
}

// Without memory for the column it is not the same, and the statement's end tells the failure.
static bool same_text(sqlite3_stmt *statement, int column, const char *text)
{
    const char *recorded = (const char *)sqlite3_column_text(statement, column);

    return recorded && strcmp(recorded, text) == 0;
}

static int compare_members(struct recorder *recorder, const struct destroyed_group *group, int64_t id, bool *ret_same)
{
    struct binding binding = begin(recorder, RECORDER_LIST_MEMBERS);
    size_t position = 0;
    bool same = true;

    bind_int(&binding, id);
    while (same && bind_step(&binding) == SQLITE_ROW) {
        same = position < group->member_count && same_text(binding.statement, 0, group->members[position]);
        position++;
    }
    *ret_same = same && position == group->member_count;
    return bind_end(&binding);
}

// The column, from RECORDER_FIND_TWIN's first row, in which the group differs from what is recorded; NULL for none.
static const char *differing_column(sqlite3_stmt *twin, const struct destroyed_group *group)
{
    const char *const texts[] = {group->type, group->owner_account, group->operator_account, group->name};
    const int first = 1, member_count = 5;

    for (int i = 0; i < member_count - first; i++) {
        if (!same_text(twin, first + i, texts[i]))
            return sqlite3_column_name(twin, first + i);
    }
    if ((sqlite3_column_type(twin, member_count) != SQLITE_NULL) != group->has_member_list ||
        sqlite3_column_int64(twin, member_count) != (int64_t)group->member_count)
        return sqlite3_column_name(twin, member_count);
    return NULL;
}

// The event's identity is recorded already, as *ret_id. *ret_difference: in what the two differ, NULL for nothing.
static int compare_with_twin(struct recorder *recorder, const struct destroyed_group *group, int64_t *ret_id,
                             const char **ret_difference)
{
    struct binding binding = begin(recorder, RECORDER_FIND_TWIN);
    bool same_members;
    int code;

    bind_int(&binding, group->sdk_appid);
    bind_text(&binding, group->group_id);
    bind_int(&binding, group->event_time_ms);
    if (bind_step(&binding) != SQLITE_ROW) {
        code = bind_end(&binding);
        return code != SQLITE_OK ? code : SQLITE_CORRUPT_INDEX; // the index just said that it is there
    }
    *ret_id = sqlite3_column_int64(binding.statement, 0);
    *ret_difference = differing_column(binding.statement, group);
    code = bind_end(&binding);
    if (code != SQLITE_OK || *ret_difference)
        return code;
    code = compare_members(recorder, group, *ret_id, &same_members);
    if (code == SQLITE_OK && !same_members)
        *ret_difference = "member list";
    return code;
}

static int record_twin(struct recorder *recorder, struct commit *commit)
{
    const struct destroyed_group *group = commit->group;
    const char *difference;
    char reason[128];
    int64_t id;
    int code = compare_with_twin(recorder, group, &id, &difference);

    if (code != SQLITE_OK)
        return code;
    commit->result = difference ? COMMIT_CONFLICT : COMMIT_REPEATED;
    if (!difference)
        return SQLITE_OK;
    (void)snprintf(reason, sizeof reason, "conflict: recorded as destroyed_group %lld with another %s", (long long)id,
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
        code = find_untimed(recorder, group, &repeated);
    if (code != SQLITE_OK || repeated) {
        commit->result = COMMIT_REPEATED;
        return code;
    }
    code = insert_group(recorder, group, &inserted);
    if (code != SQLITE_OK)
        return code;
    if (!inserted)
        return record_twin(recorder, commit);
    commit->result = COMMIT_RECORDED;
    return insert_members(recorder, group, sqlite3_last_insert_rowid(recorder->connection));
}

int recorder_record(struct recorder *recorder, struct commit *commit)
{
    if (commit->group)
        return record_group(recorder, commit);
    commit->result = COMMIT_RECORDED;
    return record_rejected(recorder, commit->rejected);
}
