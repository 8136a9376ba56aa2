#include "imcallbackd/store/reader.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "binding.h"
#include "imcallbackd/base/arena.h"
#include "imcallbackd/base/buffer.h"
#include "observer.h"
#include "side_file.h"

#define BATCH_MAX_ROWS  1000
#define BATCH_MAX_BYTES ((size_t)1024 * 1024)
#define WAIT_MIN_MS     1
#define WAIT_MAX_MS     1000

enum reader_statement {
    READER_NEWEST_GROUP,
    READER_GROUPS,
    READER_MEMBERS,
    READER_NEWEST_REJECTION,
    READER_REJECTIONS,
    READER_STATEMENT_COUNT,
};

static const char *const reader_sql[READER_STATEMENT_COUNT] = {
    [READER_NEWEST_GROUP] = "SELECT seq FROM sqlite_sequence WHERE name = 'destroyed_group'",
    [READER_GROUPS] = "SELECT id, sdk_appid, group_id, event_time_ms, type, owner_account, operator_account, name,"
                      " member_count, opt_platform, client_ip, remote_address, received_at_ms, body"
                      " FROM destroyed_group WHERE id > ?1 ORDER BY id LIMIT ?2",
    [READER_MEMBERS] = "SELECT member_account FROM destroyed_group_member WHERE destroyed_group_id = ?1"
                       " ORDER BY position",
    [READER_NEWEST_REJECTION] = "SELECT seq FROM sqlite_sequence WHERE name = 'rejected_callback'",
    [READER_REJECTIONS] = "SELECT id, received_at_ms, remote_address, sdk_appid, callback_command, reason, body"
                          " FROM rejected_callback WHERE id > ?1 ORDER BY id LIMIT ?2",
};

struct store_reader {
    struct observer observer;
    sqlite3_stmt *statements[READER_STATEMENT_COUNT];
    struct arena arena;  // texts and member lists of the batch
    struct buffer rows;  // of the batch
    struct buffer names; // of the members of the row that is being read
    int log_watch;       // inotify; -1: there is none, and the slow look alone wakes
    int wait_ms;
};

// One kind of row: how to find it, and how to put the one that the statement stands on behind the batch's rows.
struct kind {
    enum reader_statement newest, rows;
    int (*append)(struct store_reader *reader, sqlite3_stmt *row);
    size_t row_bytes;
};

// Opening

static void watch_log(struct store_reader *reader)
{
    struct buffer name = {0};

    reader->log_watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (reader->log_watch >= 0 && buffer_print(&name, "%s" SIDE_FILE_LOG, reader->observer.path) == 0)
        (void)inotify_add_watch(reader->log_watch, name.data, IN_MODIFY);
    buffer_finish(&name);
}

static void reader_forget_connection(struct store_reader *reader)
{
    statements_finalize(reader->statements, READER_STATEMENT_COUNT);
    observer_close(&reader->observer);
    if (reader->log_watch >= 0)
        close(reader->log_watch);
    reader->log_watch = -1;
}

static int reader_connect(struct store_reader *reader, const char *path, struct error *error)
{
    struct observer *observer = &reader->observer;
    int r = observer_open(observer, path, error);

    if (r < 0)
        return r;
    watch_log(reader);
    r = observer_begin(observer, error); // so that the schema is there for sure
    if (r == 0 &&
        statements_prepare(observer->connection, reader_sql, reader->statements, READER_STATEMENT_COUNT) != SQLITE_OK)
        r = observer_failed(observer, error);
    observer_end(observer);
    return r;
}

int store_reader_open(const char *path, struct store_reader **ret_reader, struct error *error)
{
    struct store_reader *reader = calloc(1, sizeof *reader);
    int r;

    if (!reader)
        return error_set(error, ENOMEM, "%s: out of memory", path);
    reader->log_watch = -1;
    reader->wait_ms = WAIT_MIN_MS;
    arena_init(&reader->arena, SIZE_MAX);
    r = reader_connect(reader, path, error);
    if (r < 0)
        store_reader_close(reader);
    else
        *ret_reader = reader;
    return r;
}

void store_reader_close(struct store_reader *reader)
{
    if (!reader)
        return;
    reader_forget_connection(reader);
    arena_finish(&reader->arena);
    buffer_finish(&reader->rows);
    buffer_finish(&reader->names);
    free(reader);
}

// Rows

// A copy in the batch; NULL without memory.
static const char *copy_text(struct store_reader *reader, sqlite3_stmt *row, int column)
{
    const void *data = sqlite3_column_blob(row, column);

    return arena_copy(&reader->arena, data ? data : "", (size_t)sqlite3_column_bytes(row, column));
}

static int read_members(struct store_reader *reader, struct recorded_group *group)
{
    sqlite3_stmt *statement = reader->statements[READER_MEMBERS];
    const char **members;
    int r = 0, code;

    reader->names.length = 0;
    (void)sqlite3_bind_int64(statement, 1, group->id);
    while ((code = sqlite3_step(statement)) == SQLITE_ROW && r == 0) {
        const char *name = copy_text(reader, statement, 0);

        r = name ? buffer_append(&reader->names, &name, sizeof name) : -ENOMEM;
    }
    (void)sqlite3_reset(statement);
    if (r < 0)
        return SQLITE_NOMEM;
    if (code != SQLITE_DONE)
        return code;
    members = arena_alloc(&reader->arena, reader->names.length + 1);
    if (!members)
        return SQLITE_NOMEM;
    if (reader->names.length > 0)
        memcpy(members, reader->names.data, reader->names.length);
    group->event.members = members;
    group->event.member_count = reader->names.length / sizeof *members;
    return SQLITE_OK;
}

static int append_group(struct store_reader *reader, sqlite3_stmt *row)
{
    struct recorded_group group = {
        .id = sqlite3_column_int64(row, 0),
        .event =
            {
                .sdk_appid = sqlite3_column_int64(row, 1),
                .group_id = copy_text(reader, row, 2),
                .has_event_time = sqlite3_column_type(row, 3) != SQLITE_NULL,
                .event_time_ms = sqlite3_column_int64(row, 3),
                .type = copy_text(reader, row, 4),
                .owner_account = copy_text(reader, row, 5),
                .operator_account = copy_text(reader, row, 6),
                .name = copy_text(reader, row, 7),
                .has_member_list = sqlite3_column_type(row, 8) != SQLITE_NULL,
                .opt_platform = copy_text(reader, row, 9),
                .client_ip = copy_text(reader, row, 10),
                .remote_address = copy_text(reader, row, 11),
                .received_at_ms = sqlite3_column_int64(row, 12),
                .keep_body = sqlite3_column_type(row, 13) != SQLITE_NULL,
                .body = copy_text(reader, row, 13),
                .body_length = (size_t)sqlite3_column_bytes(row, 13),
            },
    };
    const struct destroyed_group *event = &group.event;
    int code;

    if (!event->group_id || !event->type || !event->owner_account || !event->operator_account || !event->name ||
        !event->opt_platform || !event->client_ip || !event->remote_address || !event->body)
        return SQLITE_NOMEM;
    code = read_members(reader, &group);
    if (code != SQLITE_OK)
        return code;
    return buffer_append(&reader->rows, &group, sizeof group) < 0 ? SQLITE_NOMEM : SQLITE_OK;
}

static int append_rejection(struct store_reader *reader, sqlite3_stmt *row)
{
    struct recorded_rejection rejection = {
        .id = sqlite3_column_int64(row, 0),
        .callback =
            {
                .received_at_ms = sqlite3_column_int64(row, 1),
                .remote_address = copy_text(reader, row, 2),
                .sdk_appid = sqlite3_column_int64(row, 3),
                .callback_command = copy_text(reader, row, 4),
                .reason = copy_text(reader, row, 5),
                .body = copy_text(reader, row, 6),
                .body_length = (size_t)sqlite3_column_bytes(row, 6),
            },
    };
    const struct rejected_callback *callback = &rejection.callback;

    if (!callback->remote_address || !callback->callback_command || !callback->reason || !callback->body)
        return SQLITE_NOMEM;
    return buffer_append(&reader->rows, &rejection, sizeof rejection) < 0 ? SQLITE_NOMEM : SQLITE_OK;
}

static const struct kind groups = {READER_NEWEST_GROUP, READER_GROUPS, append_group, sizeof(struct recorded_group)};
static const struct kind rejections = {READER_NEWEST_REJECTION, READER_REJECTIONS, append_rejection,
                                       sizeof(struct recorded_rejection)};

// Reading

static int failed(struct store_reader *reader, int code, struct error *error)
{
    return code == SQLITE_NOMEM ? error_set(error, ENOMEM, "%s: out of memory", reader->observer.path)
                                : observer_failed(&reader->observer, error);
}

static int read_newest(struct store_reader *reader, const struct kind *kind, int64_t *ret_id, struct error *error)
{
    sqlite3_stmt *statement = reader->statements[kind->newest];
    int code = sqlite3_step(statement), r = 0;

    *ret_id = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    if (code != SQLITE_ROW && code != SQLITE_DONE)
        r = failed(reader, code, error);
    (void)sqlite3_reset(statement);
    return r;
}

// Is the id one of those that this database has given?
static int check_after_id(struct store_reader *reader, const struct kind *kind, int64_t after_id, struct error *error)
{
    int64_t newest;
    int r = read_newest(reader, kind, &newest, error);

    if (r == 0 && after_id > newest)
        r = error_set(
            error, ESTALE,
            "%s: the newest id that was ever given in it is %lld, so %lld is of another database, or this one was "
            "put back from a backup; read on behind an id whose event is in it",
            reader->observer.path, (long long)newest, (long long)after_id);
    return r;
}

static int read_rows(struct store_reader *reader, const struct kind *kind, int64_t after_id, struct error *error)
{
    sqlite3_stmt *statement = reader->statements[kind->rows];
    int code, r = 0;

    (void)sqlite3_bind_int64(statement, 1, after_id);
    (void)sqlite3_bind_int64(statement, 2, BATCH_MAX_ROWS);
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        code = kind->append(reader, statement);
        if (code != SQLITE_OK || reader->arena.used_bytes >= BATCH_MAX_BYTES)
            break;
    }
    if (code != SQLITE_DONE && code != SQLITE_OK)
        r = failed(reader, code, error);
    (void)sqlite3_reset(statement);
    return r;
}

static int read_once(struct store_reader *reader, const struct kind *kind, int64_t after_id, struct error *error)
{
    int r = observer_begin(&reader->observer, error);

    if (r < 0)
        return r;
    r = check_after_id(reader, kind, after_id, error);
    if (r == 0)
        r = read_rows(reader, kind, after_id, error);
    observer_end(&reader->observer);
    return r;
}

static int reconnect(struct store_reader *reader, struct error *error)
{
    char *path = strdup(reader->observer.path);
    int r;

    if (!path)
        return error_set(error, ENOMEM, "%s: out of memory", reader->observer.path);
    reader_forget_connection(reader);
    r = reader_connect(reader, path, error);
    free(path);
    return r;
}

// Where the files are is looked at before they are read. So when they were moved away and hold nothing more then, that
// is all: the daemon acknowledges nothing that it commits to files that are out of place.
static int reader_read(struct store_reader *reader, const struct kind *kind, int64_t after_id, size_t *ret_count,
                       struct error *error)
{
    enum observer_place place = observer_place(&reader->observer);
    int r = place == OBSERVER_SIDE_FILE_CHANGED ? reconnect(reader, error) : 0;

    arena_finish(&reader->arena);
    reader->rows.length = 0;
    if (r == 0)
        r = read_once(reader, kind, after_id, error);
    if (r < 0)
        return r;
    *ret_count = reader->rows.length / kind->row_bytes;
    if (*ret_count > 0)
        reader->wait_ms = WAIT_MIN_MS;
    else if (place == OBSERVER_REPLACED)
        return error_set(error, ESTALE,
                         "%s: the database was moved away or replaced; all that was recorded in it up to id %lld has "
                         "been read, and what is there now begins with ids of its own",
                         reader->observer.path, (long long)after_id);
    return 0;
}

int store_reader_read_groups(struct store_reader *reader, int64_t after_id, const struct recorded_group **ret_groups,
                             size_t *ret_count, struct error *error)
{
    int r = reader_read(reader, &groups, after_id, ret_count, error);

    *ret_groups = (const struct recorded_group *)(const void *)reader->rows.data;
    return r;
}

int store_reader_read_rejections(struct store_reader *reader, int64_t after_id,
                                 const struct recorded_rejection **ret_rejections, size_t *ret_count,
                                 struct error *error)
{
    int r = reader_read(reader, &rejections, after_id, ret_count, error);

    *ret_rejections = (const struct recorded_rejection *)(const void *)reader->rows.data;
    return r;
}

int store_reader_newest(struct store_reader *reader, int64_t *ret_group_id, int64_t *ret_rejection_id,
                        struct error *error)
{
    int r = observer_begin(&reader->observer, error);

    if (r < 0)
        return r;
    r = read_newest(reader, &groups, ret_group_id, error);
    if (r == 0)
        r = read_newest(reader, &rejections, ret_rejection_id, error);
    observer_end(&reader->observer);
    return r;
}

bool store_reader_is_in_place(const struct store_reader *reader)
{
    return reader->observer.path && observer_place(&reader->observer) != OBSERVER_REPLACED;
}

// A change of the log is told when the daemon writes to it, and a commit can be seen only once it is synced. So after
// each change one looks soon, and then ever less often.
void store_reader_wait(struct store_reader *reader)
{
    struct pollfd log = {.fd = reader->log_watch, .events = POLLIN};
    char events[4096];

    if (poll(&log, 1, reader->wait_ms) != 0) {
        (void)!read(reader->log_watch, events, sizeof events);
        reader->wait_ms = WAIT_MIN_MS;
    } else if (reader->wait_ms < WAIT_MAX_MS) {
        reader->wait_ms *= 2;
    }
}
