// Reads the rows of a stream in batches, copies them into an arena, and waits for new rows. Before each batch, the
// reader checks the files: if only a side file has changed, the reader reconnects; if the database was moved away, the
// reader reads the old file to its end.
#include "imcallbackd/store/reader.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "binding.h"
#include "imcallbackd/base/arena.h"
#include "imcallbackd/base/buffer.h"
#include "read_connection.h"

#define BATCH_MAX_ROWS  1000
#define BATCH_MAX_BYTES ((size_t)1024 * 1024)
#define WAIT_MIN_MS     1
#define WAIT_MAX_MS     1000

enum reader_statement {
    READER_GROUPS = STREAM_GROUPS, // read_rows() uses the stream as the index of its statement
    READER_REJECTIONS = STREAM_REJECTIONS,
    READER_TIMES, // and the next ones: one statement for each stream
    READER_NEWEST_ID = READER_TIMES + STREAM_COUNT,
    READER_MEMBERS,
    READER_STATEMENT_COUNT,
};

static const char *const reader_sql[READER_STATEMENT_COUNT] = {
    [READER_NEWEST_ID] = "SELECT seq FROM sqlite_sequence WHERE name = ?1",
    [READER_GROUPS] = "SELECT id" DESTROYED_GROUP_NAMES " FROM destroyed_group WHERE id > ?1 ORDER BY id LIMIT ?2",
    [READER_REJECTIONS] =
        "SELECT id" REJECTED_CALLBACK_NAMES " FROM rejected_callback WHERE id > ?1 ORDER BY id LIMIT ?2",
    [READER_TIMES + STREAM_GROUPS] = "SELECT received_at_ms FROM destroyed_group WHERE id = ?1",
    [READER_TIMES + STREAM_REJECTIONS] = "SELECT received_at_ms FROM rejected_callback WHERE id = ?1",
    [READER_MEMBERS] = ("SELECT member_account FROM destroyed_group_member WHERE destroyed_group_id = ?1"
                        " ORDER BY position"),
};

struct store_reader {
    struct read_connection connection;
    sqlite3_stmt *statements[READER_STATEMENT_COUNT];
    struct arena arena;  // text, bodies and member lists of the batch
    struct buffer rows;  // struct recorded_row of the batch
    struct buffer names; // members of the current row
    int log_watch;       // inotify descriptor; -1: none, so store_reader_wait only waits for time to pass
    int wait_ms;
};

// Opening

// Without inotify, store_reader_wait still works, but detects new rows later.
static void watch_log(struct store_reader *reader)
{
    struct buffer name = {0};

    assert(reader->log_watch < 0);
    reader->log_watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (reader->log_watch >= 0 && buffer_print(&name, "%s" SIDE_FILE_LOG, reader->connection.path) == 0)
        (void)inotify_add_watch(reader->log_watch, name.data, IN_MODIFY);
    buffer_finish(&name);
}

static void disconnect(struct store_reader *reader)
{
    statements_finalize(reader->statements, READER_STATEMENT_COUNT);
    read_connection_close(&reader->connection);
    if (reader->log_watch >= 0)
        close(reader->log_watch);
    reader->log_watch = -1;
}

static int connect_to(struct store_reader *reader, const char *path, struct error *error)
{
    struct read_connection *connection = &reader->connection;
    int r = read_connection_open(connection, path, error);

    if (r < 0)
        return r;
    watch_log(reader);
    r = read_connection_begin(connection, error); // refuses a database without imcallbackd's tables
    if (r == 0 &&
        statements_prepare(connection->sqlite, reader_sql, reader->statements, READER_STATEMENT_COUNT) != SQLITE_OK)
        r = read_connection_failed(connection, error);
    read_connection_end(connection);
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
    r = connect_to(reader, path, error);
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
    disconnect(reader);
    arena_finish(&reader->arena);
    buffer_finish(&reader->rows);
    buffer_finish(&reader->names);
    free(reader);
}

// Rows

// Copies the value, followed by a NUL, into the arena of the batch. Returns NULL if memory is exhausted.
static const char *copy_column(struct store_reader *reader, sqlite3_stmt *statement, int index)
{
    const void *data = sqlite3_column_blob(statement, index);

    return arena_copy(&reader->arena, data ? data : "", (size_t)sqlite3_column_bytes(statement, index));
}

static int read_members(struct store_reader *reader, int64_t id, struct destroyed_group *group)
{
    struct binding binding = bind_begin(reader->statements[READER_MEMBERS]);
    const char **members;
    int r = 0, code;

    reader->names.length = 0;
    bind_int(&binding, id);
    while (r == 0 && bind_step(&binding) == SQLITE_ROW) {
        const char *name = copy_column(reader, binding.statement, 0);

        r = name ? buffer_append(&reader->names, &name, sizeof name) : -ENOMEM;
    }
    code = bind_end(&binding);
    if (r < 0 || code != SQLITE_OK)
        return r < 0 ? SQLITE_NOMEM : code;
    members = arena_alloc(&reader->arena, reader->names.length + 1);
    if (!members)
        return SQLITE_NOMEM;
    if (reader->names.length > 0)
        memcpy(members, reader->names.data, reader->names.length);
    group->members = members;
    group->member_count = reader->names.length / sizeof *members;
    return SQLITE_OK;
}

// A damaged file can hold NULL where the schema forbids NULL; the reader then returns 0 or an empty value.
static int read_value(struct store_reader *reader, sqlite3_stmt *statement, int index, const struct column *column,
                      void *event)
{
    struct column_value value = {
        .is_null = column->is_optional && sqlite3_column_type(statement, index) == SQLITE_NULL,
    };

    if (column->type == COLUMN_INTEGER) {
        value.integer = sqlite3_column_int64(statement, index);
    } else if (!value.is_null) {
        value.data = copy_column(reader, statement, index);
        value.length = (size_t)sqlite3_column_bytes(statement, index);
        if (!value.data)
            return SQLITE_NOMEM;
    }
    column_set(column, event, &value);
    return SQLITE_OK;
}

// Callers continue after the last id that they have read, so each id must be larger than the previous one.
static int check_order(struct store_reader *reader, enum stream stream, int64_t previous_id, int64_t id,
                       struct error *error)
{
    if (id > previous_id)
        return 0;
    return error_set(error, EIO, "%s: the table %s is damaged: id %lld follows id %lld; restore it from a backup",
                     reader->connection.path, stream_tables[stream].name, (long long)id, (long long)previous_id);
}

// Appends the current row of the statement, with its members, to reader->rows. Returns SQLite's result code.
static int append_row(struct store_reader *reader, enum stream stream, sqlite3_stmt *statement)
{
    const struct stream_table *table = &stream_tables[stream];
    struct recorded_row row = {.id = sqlite3_column_int64(statement, 0)};
    int code = SQLITE_OK;

    for (size_t i = 0; i < table->column_count && code == SQLITE_OK; i++)
        code = read_value(reader, statement, (int)i + 1, &table->columns[i], &row.event);
    if (code == SQLITE_OK && stream == STREAM_GROUPS)
        code = read_members(reader, row.id, &row.event.group);
    if (code != SQLITE_OK)
        return code;
    row.received_at_ms = stream == STREAM_GROUPS ? row.event.group.received_at_ms : row.event.rejection.received_at_ms;
    return buffer_append(&reader->rows, &row, sizeof row) < 0 ? SQLITE_NOMEM : SQLITE_OK;
}

// Reading

static int failed(struct store_reader *reader, int code, struct error *error)
{
    return code == SQLITE_NOMEM ? error_set(error, ENOMEM, "%s: out of memory", reader->connection.path)
                                : read_connection_failed(&reader->connection, error);
}

static int read_newest(struct store_reader *reader, enum stream stream, int64_t *ret_id, struct error *error)
{
    struct binding binding = bind_begin(reader->statements[READER_NEWEST_ID]);
    int code;

    assert(!sqlite3_get_autocommit(reader->connection.sqlite));
    bind_text(&binding, stream_tables[stream].name);
    *ret_id = bind_step(&binding) == SQLITE_ROW ? sqlite3_column_int64(binding.statement, 0) : 0;
    code = bind_end(&binding);
    return code == SQLITE_OK ? 0 : failed(reader, code, error);
}

// Fails with -ESTALE if after_id is larger than every id that the stream's table has assigned.
static int check_after_id(struct store_reader *reader, enum stream stream, int64_t after_id, struct error *error)
{
    int64_t newest;
    int r = read_newest(reader, stream, &newest, error);

    if (r == 0 && after_id > newest)
        r = error_set(
            error, ESTALE,
            "%s: the newest id is %lld, so id %lld is from another database, or this database was restored from a "
            "backup; continue after the id of an event that is in this database",
            reader->connection.path, (long long)newest, (long long)after_id);
    return r;
}

static int read_rows(struct store_reader *reader, enum stream stream, int64_t after_id, size_t max_rows,
                     struct error *error)
{
    struct binding binding = bind_begin(reader->statements[stream]);
    int64_t last_id = after_id;
    int code, r = 0;

    assert(!sqlite3_get_autocommit(reader->connection.sqlite));
    bind_int(&binding, after_id);
    bind_int(&binding, (int64_t)max_rows);
    while (r == 0 && reader->arena.used_bytes < BATCH_MAX_BYTES && bind_step(&binding) == SQLITE_ROW) {
        r = check_order(reader, stream, last_id, sqlite3_column_int64(binding.statement, 0), error);
        if (r < 0)
            break;
        last_id = sqlite3_column_int64(binding.statement, 0);
        code = append_row(reader, stream, binding.statement);
        if (code != SQLITE_OK)
            r = failed(reader, code, error); // before bind_end, which makes SQLite forget the message
    }
    code = bind_end(&binding);
    return r < 0 || code == SQLITE_OK ? r : failed(reader, code, error);
}

static int read_once(struct store_reader *reader, enum stream stream, int64_t after_id, size_t max_rows,
                     struct error *error)
{
    int r;

    assert(reader->connection.sqlite); // the caller does not use a reader after an error
    r = read_connection_begin(&reader->connection, error);
    if (r < 0)
        return r;
    r = check_after_id(reader, stream, after_id, error);
    if (r == 0)
        r = read_rows(reader, stream, after_id, max_rows, error);
    read_connection_end(&reader->connection);
    return r;
}

static enum database_files_state check_files(const struct store_reader *reader)
{
    return database_files_check(&reader->connection.files, reader->connection.path);
}

static int reconnect(struct store_reader *reader, struct error *error)
{
    char *path = strdup(reader->connection.path);
    int r;

    if (!path)
        return error_set(error, ENOMEM, "%s: out of memory", reader->connection.path);
    disconnect(reader);
    r = connect_to(reader, path, error);
    free(path);
    return r;
}

// The check of the files must precede the read. If the files were moved away before the check and the read finds no
// more rows, the reader has seen all acknowledged events: the daemon acknowledges nothing that it commits to files that
// are out of place.
int store_reader_read_some(struct store_reader *reader, enum stream stream, int64_t after_id, size_t max_rows,
                           const struct recorded_row **ret_rows, size_t *ret_count, struct error *error)
{
    enum database_files_state state = check_files(reader);
    int r = state == DATABASE_FILES_OUTDATED ? reconnect(reader, error) : 0;

    assert(stream < STREAM_COUNT && max_rows > 0 && max_rows <= BATCH_MAX_ROWS);
    arena_finish(&reader->arena);
    reader->rows.length = 0;
    if (r == 0)
        r = read_once(reader, stream, after_id, max_rows, error);
    if (r < 0)
        return r;
    *ret_rows = (const struct recorded_row *)(const void *)reader->rows.data;
    *ret_count = reader->rows.length / sizeof(struct recorded_row);
    assert(*ret_count <= BATCH_MAX_ROWS);
    if (*ret_count > 0)
        reader->wait_ms = WAIT_MIN_MS;
    else if (state == DATABASE_FILES_REPLACED)
        return error_set(
            error, ESTALE,
            "%s: the database was moved away or replaced: all of its rows up to id %lld have been read; open "
            "the database that is there now and read it from id 0",
            reader->connection.path, (long long)after_id);
    return 0;
}

int store_reader_read(struct store_reader *reader, enum stream stream, int64_t after_id,
                      const struct recorded_row **ret_rows, size_t *ret_count, struct error *error)
{
    return store_reader_read_some(reader, stream, after_id, BATCH_MAX_ROWS, ret_rows, ret_count, error);
}

int store_reader_read_newest_ids(struct store_reader *reader, int64_t ret_ids[STREAM_COUNT], struct error *error)
{
    int r = read_connection_begin(&reader->connection, error);

    for (enum stream stream = 0; stream < STREAM_COUNT && r == 0; stream++)
        r = read_newest(reader, stream, &ret_ids[stream], error);
    read_connection_end(&reader->connection);
    return r;
}

static int read_time(struct store_reader *reader, enum stream stream, int64_t id, int64_t *ret_received_at_ms,
                     struct error *error)
{
    struct binding binding = bind_begin(reader->statements[READER_TIMES + stream]);
    int code;

    bind_int(&binding, id);
    *ret_received_at_ms = bind_step(&binding) == SQLITE_ROW ? sqlite3_column_int64(binding.statement, 0) : -1;
    code = bind_end(&binding);
    return code == SQLITE_OK ? 0 : failed(reader, code, error);
}

int store_reader_read_position(struct store_reader *reader, enum stream stream, int64_t id, int64_t *ret_newest_id,
                               int64_t *ret_received_at_ms, struct error *error)
{
    int r = read_connection_begin(&reader->connection, error);

    assert(stream < STREAM_COUNT);
    if (r < 0)
        return r;
    r = read_newest(reader, stream, ret_newest_id, error);
    if (r == 0)
        r = read_time(reader, stream, id, ret_received_at_ms, error);
    read_connection_end(&reader->connection);
    return r;
}

bool store_reader_is_in_place(const struct store_reader *reader)
{
    return reader->connection.path && check_files(reader) != DATABASE_FILES_REPLACED;
}

int store_reader_descriptor(const struct store_reader *reader)
{
    return reader->log_watch;
}

int store_reader_wait_ms(const struct store_reader *reader)
{
    assert(reader->wait_ms >= WAIT_MIN_MS && reader->wait_ms < 2 * WAIT_MAX_MS);
    return reader->wait_ms;
}

// inotify reports when the daemon writes to the log, but a commit becomes visible only after the sync that follows. The
// reader therefore looks again soon after each write, and then at growing intervals.
bool store_reader_waited(struct store_reader *reader, bool timed_out)
{
    char events[4096];
    bool written = reader->log_watch >= 0 && read(reader->log_watch, events, sizeof events) > 0;

    if (written)
        reader->wait_ms = WAIT_MIN_MS;
    else if (timed_out && reader->wait_ms < WAIT_MAX_MS)
        reader->wait_ms *= 2;
    return written || timed_out;
}

void store_reader_wait(struct store_reader *reader)
{
    struct pollfd log = {.fd = reader->log_watch, .events = POLLIN};
    bool timed_out = poll(&log, 1, store_reader_wait_ms(reader)) == 0;

    (void)store_reader_waited(reader, timed_out);
}
