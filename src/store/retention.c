// Deletes old rows or releases free pages in small steps. A step must stay short, because commits wait for its
// transaction. Static functions that return int return SQLite's extended result code.
#include "retention.h"

#include <assert.h>
#include <stddef.h>

#include "binding.h"

// The limits of one step, which usually takes a few milliseconds. An event is always deleted together with all its
// members, however many there are.
#define STEP_EVENTS 256  // rows of each table that a step examines
#define STEP_ROWS   2000 // deleted rows, members included, after which a step deletes no further event
#define STEP_PAGES  64   // pages that a step releases

// About this number of free pages (of 4 KiB) stays in the file for new rows.
#define SPARE_PAGES 1024

#define DAY_MS INT64_C(86400000)

// Selects the ids to delete from the oldest ids only. There is no index on the time and none is needed: unless the
// clock was corrected, ids and times grow together.
#define OLD_IDS(table)                                                                                                 \
    "SELECT id FROM (SELECT id, received_at_ms FROM " table                                                            \
    " ORDER BY id LIMIT " SQL_NUMBER(STEP_EVENTS) ") WHERE received_at_ms < ?1 AND id <= ?2"

static const char *const retention_sql[RETENTION_STATEMENT_COUNT] = {
    [RETENTION_FIND_NEWEST] = "SELECT received_at_ms FROM destroyed_group ORDER BY id DESC LIMIT 1",
    [RETENTION_FIND_OLD] = OLD_IDS("destroyed_group"),
    [RETENTION_DELETE_MEMBERS] = "DELETE FROM destroyed_group_member WHERE destroyed_group_id = ?1",
    [RETENTION_DELETE_GROUP] = "DELETE FROM destroyed_group WHERE id = ?1",
    [RETENTION_DELETE_REJECTED] =
        "DELETE FROM rejected_callback WHERE id IN (" OLD_IDS("rejected_callback") ") RETURNING length(body)",
    [RETENTION_COUNT_FREE_PAGES] = "SELECT freelist_count FROM pragma_freelist_count, pragma_auto_vacuum"
                                   " WHERE auto_vacuum = 2",
    [RETENTION_RELEASE_PAGES] = "PRAGMA incremental_vacuum(" SQL_NUMBER(STEP_PAGES) ")",
};

static struct binding begin(const struct retention *retention, enum retention_statement which)
{
    return bind_begin(retention->statements[which]);
}

int retention_init(struct retention *retention, struct recorder *recorder, struct error *error)
{
    int code;

    *retention = (struct retention){.recorder = recorder};
    code = statements_prepare(recorder->connection, retention_sql, retention->statements, RETENTION_STATEMENT_COUNT);
    return code == SQLITE_OK ? 0 : sqlite_error(recorder->connection, error);
}

void retention_finish(struct retention *retention)
{
    statements_finalize(retention->statements, RETENTION_STATEMENT_COUNT);
    *retention = (struct retention){0};
}

static int run_with(const struct retention *retention, enum retention_statement which, int64_t value)
{
    struct binding binding = begin(retention, which);

    bind_int(&binding, value);
    return bind_run(&binding);
}

// Adds the number of deleted rows to *deleted.
static int delete_event(const struct retention *retention, int64_t id, int *deleted)
{
    int code = run_with(retention, RETENTION_DELETE_MEMBERS, id);

    if (code != SQLITE_OK)
        return code;
    *deleted += 1 + sqlite3_changes(retention->recorder->connection);
    return run_with(retention, RETENTION_DELETE_GROUP, id);
}

// Sets *ret_now_ms to the time of the clock, or to one day after the newest event was received if that is earlier.
static int find_now(const struct retention *retention, int64_t clock_ms, int64_t *ret_now_ms)
{
    struct binding binding = begin(retention, RETENTION_FIND_NEWEST);
    int64_t latest_ms = INT64_MAX;

    if (bind_step(&binding) == SQLITE_ROW)
        latest_ms = sqlite3_column_int64(binding.statement, 0) + DAY_MS;
    *ret_now_ms = clock_ms < latest_ms ? clock_ms : latest_ms;
    return bind_end(&binding);
}

static int delete_events(struct retention *retention, int64_t before_ms, int64_t last_id, int *deleted)
{
    struct binding binding = begin(retention, RETENTION_FIND_OLD);
    int64_t ids[STEP_EVENTS];
    size_t count = 0;
    int code;

    bind_int(&binding, before_ms);
    bind_int(&binding, last_id);
    while (count < STEP_EVENTS && bind_step(&binding) == SQLITE_ROW)
        ids[count++] = sqlite3_column_int64(binding.statement, 0);
    code = bind_end(&binding);
    for (size_t i = 0; i < count && code == SQLITE_OK && *deleted < STEP_ROWS; i++) {
        code = delete_event(retention, ids[i], deleted);
        retention->deleted_events += code == SQLITE_OK;
    }
    return code;
}

static int delete_rejected(const struct retention *retention, int64_t before_ms, int64_t last_id, int *deleted)
{
    struct binding binding = begin(retention, RETENTION_DELETE_REJECTED);

    bind_int(&binding, before_ms);
    bind_int(&binding, last_id);
    while (bind_step(&binding) == SQLITE_ROW) {
        recorder_subtract_rejected(retention->recorder, sqlite3_column_int64(binding.statement, 0));
        (*deleted)++;
    }
    return bind_end(&binding);
}

// Sets *ret_pages to 0 for a database without incremental vacuum, such as a database that the first release created.
static int count_free_pages(const struct retention *retention, int64_t *ret_pages)
{
    struct binding binding = begin(retention, RETENTION_COUNT_FREE_PAGES);

    *ret_pages = bind_step(&binding) == SQLITE_ROW ? sqlite3_column_int64(binding.statement, 0) : 0;
    return bind_end(&binding);
}

static int release_pages(const struct retention *retention, bool *ret_more)
{
    struct binding binding = begin(retention, RETENTION_RELEASE_PAGES);
    int64_t free_pages;
    int code = count_free_pages(retention, &free_pages);

    *ret_more = code == SQLITE_OK && free_pages > SPARE_PAGES;
    if (!*ret_more)
        return code;
    while (bind_step(&binding) == SQLITE_ROW) {
    }
    return bind_end(&binding);
}

static int delete_or_release(struct retention *retention, int64_t clock_ms, int64_t keep_ms, const struct shipped *last,
                             bool *ret_more)
{
    int deleted = 0, code;
    int64_t now_ms;

    code = find_now(retention, clock_ms, &now_ms);
    if (code == SQLITE_OK)
        code = delete_events(retention, now_ms - keep_ms, last->group_id, &deleted);
    if (code == SQLITE_OK)
        code = delete_rejected(retention, now_ms - keep_ms, last->rejection_id, &deleted);
    *ret_more = deleted > 0;
    if (code == SQLITE_OK && deleted == 0)
        code = release_pages(retention, ret_more);
    return code;
}

enum store_failure retention_step(struct retention *retention, int64_t now_ms, int64_t keep_ms,
                                  const struct shipped *last, bool *ret_more, struct error *error)
{
    struct recorder *recorder = retention->recorder;
    enum store_failure failure = recorder_begin(recorder, error);
    int64_t deleted_before = retention->deleted_events;

    assert(keep_ms > 0);
    *ret_more = false;
    if (failure == STORE_FAILURE_NONE)
        failure =
            sqlite_failure(recorder->connection, delete_or_release(retention, now_ms, keep_ms, last, ret_more), error);
    if (failure == STORE_FAILURE_NONE)
        failure = recorder_commit(recorder, error);
    if (failure != STORE_FAILURE_NONE)
        retention->deleted_events = deleted_before;
    return failure;
}
