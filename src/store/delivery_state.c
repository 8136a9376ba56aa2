// Uses one connection in WAL mode with synchronous = FULL, so that a commit needs only one sync, except when SQLite
// runs a checkpoint. A lock on the file keeps a second sender out, while operators can still read the tables with
// `sqlite3 -readonly`.
#include "imcallbackd/store/delivery_state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "binding.h"
#include "database_files.h"
#include "sqlite_error.h"

#include <sqlite3.h>

#define FILE_MODE       0640
#define BUSY_TIMEOUT_MS 5000
#define APPLICATION_ID  1229800516 // "IMDD" in ASCII
#define VERSION         1          // PRAGMA user_version

static const char configure_sql[] = "PRAGMA synchronous = FULL;"
                                    "PRAGMA wal_autocheckpoint = 1000;"
                                    "PRAGMA mmap_size = 0;"
                                    "PRAGMA temp_store = MEMORY;";

static const char create_sql[] =
    "CREATE TABLE position (\n"
    "    -- Every event up to this id was taken over from the database of the daemon.\n"
    "    one INTEGER PRIMARY KEY CHECK (one = 1),\n"
    "    id INTEGER NOT NULL, -- destroyed_group.id; 0: none was taken over\n"
    "    received_at_ms INTEGER NOT NULL -- of the event with this id\n"
    ") STRICT;\n"
    "CREATE TABLE waiting (\n"
    "    -- Events up to the position that are neither accepted nor set aside.\n"
    "    id INTEGER PRIMARY KEY, -- destroyed_group.id\n"
    "    group_key INTEGER NOT NULL, -- equal for all events of one group\n"
    "    received_at_ms INTEGER NOT NULL,\n"
    "    first_failure_ms INTEGER NOT NULL, -- 0: no attempt has failed\n"
    "    first_refusal_ms INTEGER NOT NULL, -- 0: the endpoint has not refused this event\n"
    "    tries INTEGER NOT NULL, -- failed attempts\n"
    "    last_status INTEGER NOT NULL -- HTTP status of the last failed attempt; 0: no answer\n"
    ") STRICT;\n"
    "CREATE TABLE set_aside (\n"
    "    -- Events that the endpoint did not accept; `imcallbackd deliver --replay ID` sends one again.\n"
    "    id INTEGER PRIMARY KEY, -- destroyed_group.id\n"
    "    set_aside_at_ms INTEGER NOT NULL,\n"
    "    first_failure_ms INTEGER NOT NULL,\n"
    "    tries INTEGER NOT NULL,\n"
    "    last_status INTEGER NOT NULL -- HTTP status of the last attempt; 0: no answer\n"
    ") STRICT;\n"
    "PRAGMA application_id = " SQL_NUMBER(APPLICATION_ID) ";\n"
                                                          "PRAGMA user_version = " SQL_NUMBER(VERSION) ";\n";

// Values out of these ranges could overflow in calculations.
static const char impossible_sql[] =
    "SELECT count(*) FROM waiting WHERE id < 1 OR received_at_ms < 0 OR first_failure_ms < 0 OR first_refusal_ms < 0"
    " OR tries NOT BETWEEN 0 AND 1000000000";

enum state_statement {
    STATE_SET_POSITION,
    STATE_PUT_WAITING,
    STATE_DELETE_WAITING,
    STATE_SET_ASIDE,
    STATE_READ_WAITING,
    STATE_COUNT_SET_ASIDE,
    STATE_BEGIN,
    STATE_COMMIT,
    STATE_STATEMENT_COUNT,
};

static const char *const state_sql[STATE_STATEMENT_COUNT] = {
    [STATE_SET_POSITION] = "INSERT OR REPLACE INTO position VALUES (1, ?1, ?2)",
    [STATE_PUT_WAITING] = "INSERT OR REPLACE INTO waiting VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [STATE_DELETE_WAITING] = "DELETE FROM waiting WHERE id = ?1",
    [STATE_SET_ASIDE] = "INSERT OR REPLACE INTO set_aside VALUES (?1, ?2, ?3, ?4, ?5)",
    [STATE_READ_WAITING] = ("SELECT id, group_key, received_at_ms, first_failure_ms, first_refusal_ms, tries,"
                            " last_status FROM waiting ORDER BY id"),
    [STATE_COUNT_SET_ASIDE] = "SELECT count(*) FROM set_aside",
    [STATE_BEGIN] = "BEGIN IMMEDIATE",
    [STATE_COMMIT] = "COMMIT",
};

struct delivery_state {
    sqlite3 *connection;
    sqlite3_stmt *statements[STATE_STATEMENT_COUNT];
    int lock_fd;
    struct database_files files;
    struct cursor position; // as on disk
    char path[];
};

static int fail_damaged(const struct delivery_state *state, const char *why, struct error *error)
{
    return error_set(error, EIO, "%s: the state of the delivery is damaged: %s; " DELIVERY_STATE_REMEDY, state->path,
                     why);
}

// Fills in the error for the last failure of SQLite.
static int fail(const struct delivery_state *state, struct error *error)
{
    int code = sqlite3_errcode(state->connection) & 0xff, r = sqlite_error(state->connection, error);

    if (code == SQLITE_NOTADB)
        return error_set(
            error, EINVAL,
            "%s: the file is not a state of `imcallbackd deliver`, or it is damaged; set another [deliver] "
            "state_file, or move the file away",
            state->path);
    if (code == SQLITE_CORRUPT)
        return fail_damaged(state, sqlite3_errmsg(state->connection), error);
    error_wrap(error, "%s", state->path);
    return r;
}

// Opening

static int lock_file(struct delivery_state *state, struct error *error)
{
    const char *path = state->path;
    struct stat status;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, FILE_MODE);

    if (fd < 0)
        return error_set(error, errno, "%s: %s; %s", path, strerror(errno),
                         errno == ENOENT
                             ? "create the directory of [deliver] state_file for the user of the service"
                             : "check the owner and the mode of [deliver] state_file and of its directory, which the "
                               "user of the service must be able to write");
    state->lock_fd = fd;
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
        return error_set(error, EINVAL, "%s: not a regular file; set another [deliver] state_file", path);
    if (status.st_size == 0)
        (void)fchmod(fd, FILE_MODE);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    return error_set(error, EBUSY,
                     "%s: another `imcallbackd deliver` uses this state, or another program holds a lock on it; end "
                     "that process first (fuser lists it)",
                     path);
}

static int query_number(sqlite3 *connection, const char *sql, int64_t *ret_number)
{
    char text[32];
    int code = query_text(connection, sql, text, sizeof text);

    *ret_number = strtoll(text, NULL, 10);
    return code;
}

// Sets *ret_is_new to whether the database is empty. Refuses a database that belongs to another program, has another
// version or is damaged.
static int inspect(struct delivery_state *state, bool *ret_is_new, struct error *error)
{
    int64_t application = 0, version = 0, objects = 0;
    char verdict[64] = "";
    sqlite3 *connection = state->connection;
    const char *path = state->path;

    if (query_number(connection, "PRAGMA application_id", &application) != SQLITE_OK ||
        query_number(connection, "PRAGMA user_version", &version) != SQLITE_OK ||
        query_number(connection, "SELECT count(*) FROM sqlite_schema", &objects) != SQLITE_OK ||
        query_text(connection, "PRAGMA quick_check(1)", verdict, sizeof verdict) != SQLITE_OK)
        return fail(state, error);
    *ret_is_new = application == 0 && version == 0 && objects == 0;
    if (!*ret_is_new && application != APPLICATION_ID)
        return error_set(error, EINVAL,
                         "%s: the file is not a state of `imcallbackd deliver`; set another [deliver] state_file "
                         "(nothing was changed)",
                         path);
    if (!*ret_is_new && version != VERSION)
        return error_set(error, EINVAL,
                         "%s: the state has version %" PRId64
                         ", but this imcallbackd supports only version %d; install "
                         "the newer imcallbackd again, or set another [deliver] state_file (nothing was changed)",
                         path, version, VERSION);
    if (strcmp(verdict, "ok") != 0)
        return fail_damaged(state, verdict, error);
    return 0;
}

static int create_tables(struct delivery_state *state, const struct cursor *position, struct error *error)
{
    char *sql = sqlite3_mprintf("BEGIN IMMEDIATE; %s INSERT INTO position VALUES (1, %lld, %lld); COMMIT;", create_sql,
                                (long long)position->id, (long long)position->received_at_ms);
    int r;

    if (!sql)
        return error_set(error, ENOMEM, "%s: out of memory", state->path);
    r = sqlite3_exec(state->connection, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(state, error);
    sqlite3_free(sql);
    return r;
}

static int read_position(struct delivery_state *state, struct error *error)
{
    struct cursor *position = &state->position;
    int64_t highest = 0, positions = 0, impossible = 0;

    if (query_number(state->connection, "SELECT count(*) FROM position", &positions) != SQLITE_OK ||
        query_number(state->connection, impossible_sql, &impossible) != SQLITE_OK ||
        query_number(state->connection, "SELECT id FROM position", &position->id) != SQLITE_OK ||
        query_number(state->connection, "SELECT received_at_ms FROM position", &position->received_at_ms) !=
            SQLITE_OK ||
        query_number(state->connection, "SELECT max(id) FROM waiting", &highest) != SQLITE_OK)
        return fail(state, error);
    if (positions != 1)
        return fail_damaged(state, "there is no position", error);
    if (impossible > 0)
        return fail_damaged(state, "a waiting event has an impossible value", error);
    return position->id < 0 || highest > position->id ? fail_damaged(state, "an event after the position waits", error)
                                                      : 0;
}

static int open_connection(struct delivery_state *state, struct error *error)
{
    if (sqlite3_open_v2(state->path, &state->connection,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL) != SQLITE_OK)
        return fail(state, error);
    (void)sqlite3_db_config(state->connection, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(state->connection, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_busy_timeout(state->connection, BUSY_TIMEOUT_MS);
    return sqlite3_exec(state->connection, configure_sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail(state, error);
}

// Switches to WAL mode and runs a checkpoint: the frames that a crash left in the write-ahead log may not be synced
// yet. The checkpoint copies them into the database and syncs both files.
static int complete_log(struct delivery_state *state, struct error *error)
{
    char mode[16];

    if (query_text(state->connection, "PRAGMA journal_mode = WAL", mode, sizeof mode) != SQLITE_OK)
        return fail(state, error);
    if (strcmp(mode, "wal") != 0)
        return error_set(error, ENOTSUP,
                         "%s: SQLite's WAL mode does not work on this file system; move the state to a local disk",
                         state->path);
    if (sqlite3_wal_checkpoint_v2(state->connection, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
        return fail(state, error);
    return 0;
}

static int open_state(struct delivery_state *state, const struct cursor *initial, struct error *error)
{
    static const struct cursor before_first = {0};
    bool is_new = false;
    int r = lock_file(state, error);

    if (r == 0)
        r = side_file_check(state->path, SIDE_FILE_JOURNAL, error);
    if (r == 0)
        r = open_connection(state, error);
    if (r == 0)
        r = inspect(state, &is_new, error);
    if (r == 0 && !is_new && initial)
        r = error_set(error, EEXIST,
                      "%s: there is a state already, so the start cannot be chosen any more; start without --start-at, "
                      "or " DELIVERY_STATE_REMEDY,
                      state->path);
    if (r == 0)
        r = complete_log(state, error);
    if (r == 0 && is_new)
        r = create_tables(state, initial ? initial : &before_first, error);
    if (r == 0)
        r = read_position(state, error);
    if (r == 0 &&
        statements_prepare(state->connection, state_sql, state->statements, STATE_STATEMENT_COUNT) != SQLITE_OK)
        r = fail(state, error);
    return r;
}

// SQLite does not detect that its files were deleted, so it would commit to files that the next start does not find.
static int check_files(const struct delivery_state *state, struct error *error)
{
    const struct database_files *files = &state->files;
    struct stat locked;

    if (fstat(state->lock_fd, &locked) == 0 && locked.st_dev == files->device && locked.st_ino == files->inodes[0] &&
        database_files_check(files, sqlite3_db_filename(state->connection, "main")) == DATABASE_FILES_CURRENT)
        return 0;
    return error_set(
        error, EAGAIN,
        "%s: the state or a side file (-wal, -shm) was deleted, moved or replaced while it was in use; put the "
        "file back, or restart this service, which sends every event again if there is no state",
        state->path);
}

int delivery_state_open(const char *path, const struct cursor *initial, struct delivery_state **ret_state,
                        struct error *error)
{
    struct delivery_state *state = calloc(1, sizeof *state + strlen(path) + 1);
    int r;

    if (!state)
        return error_set(error, ENOMEM, "%s: out of memory", path);
    state->lock_fd = -1;
    memcpy(state->path, path, strlen(path));
    r = open_state(state, initial, error);
    if (r < 0) {
        delivery_state_close(state);
        return r;
    }
    database_files_record(&state->files, sqlite3_db_filename(state->connection, "main"));
    *ret_state = state;
    return 0;
}

void delivery_state_close(struct delivery_state *state)
{
    if (!state)
        return;
    statements_finalize(state->statements, STATE_STATEMENT_COUNT);
    sqlite3_close(state->connection);
    if (state->lock_fd >= 0)
        close(state->lock_fd); // last: closing any descriptor of the file drops SQLite's locks on it
    free(state);
}

// Reading

struct cursor delivery_state_position(const struct delivery_state *state)
{
    return state->position;
}

int delivery_state_read_waiting(struct delivery_state *state, struct buffer *events, struct error *error)
{
    struct binding binding = bind_begin(state->statements[STATE_READ_WAITING]);
    sqlite3_stmt *row = binding.statement;
    int r = 0, code;

    while (r == 0 && bind_step(&binding) == SQLITE_ROW) {
        const struct waiting_event event = {
            .id = sqlite3_column_int64(row, 0),
            .group_key = sqlite3_column_int64(row, 1),
            .received_at_ms = sqlite3_column_int64(row, 2),
            .first_failure_ms = sqlite3_column_int64(row, 3),
            .first_refusal_ms = sqlite3_column_int64(row, 4),
            .tries = sqlite3_column_int(row, 5),
            .last_status = sqlite3_column_int(row, 6),
        };

        r = buffer_append(events, &event, sizeof event);
    }
    code = bind_end(&binding);
    if (r < 0)
        return error_set(error, ENOMEM, "%s: out of memory", state->path);
    if (code != SQLITE_OK)
        return fail(state, error);
    return events->length / sizeof(struct waiting_event) > DELIVERY_STATE_MAX_WAITING
               ? fail_damaged(state, "too many events wait", error)
               : 0;
}

int delivery_state_count_set_aside(struct delivery_state *state, int64_t *ret_count, struct error *error)
{
    struct binding binding = bind_begin(state->statements[STATE_COUNT_SET_ASIDE]);

    *ret_count = bind_step(&binding) == SQLITE_ROW ? sqlite3_column_int64(binding.statement, 0) : 0;
    return bind_end(&binding) == SQLITE_OK ? 0 : fail(state, error);
}

// Changing

static int put_waiting(struct delivery_state *state, const struct waiting_event *event)
{
    struct binding binding = bind_begin(state->statements[STATE_PUT_WAITING]);

    bind_int(&binding, event->id);
    bind_int(&binding, event->group_key);
    bind_int(&binding, event->received_at_ms);
    bind_int(&binding, event->first_failure_ms);
    bind_int(&binding, event->first_refusal_ms);
    bind_int(&binding, event->tries);
    bind_int(&binding, event->last_status);
    return bind_run(&binding);
}

static int delete_waiting(struct delivery_state *state, int64_t id)
{
    struct binding binding = bind_begin(state->statements[STATE_DELETE_WAITING]);

    bind_int(&binding, id);
    return bind_run(&binding);
}

static int set_aside(struct delivery_state *state, const struct waiting_event *event, int64_t now_ms)
{
    struct binding binding = bind_begin(state->statements[STATE_SET_ASIDE]);

    bind_int(&binding, event->id);
    bind_int(&binding, now_ms);
    bind_int(&binding, event->first_failure_ms);
    bind_int(&binding, event->tries);
    bind_int(&binding, event->last_status);
    return bind_run(&binding);
}

static int apply(struct delivery_state *state, const struct delivery_change *change, int64_t now_ms)
{
    int code;

    if (change->kind == DELIVERY_WAITS)
        return put_waiting(state, &change->event);
    code = delete_waiting(state, change->event.id);
    if (code == SQLITE_OK && change->kind == DELIVERY_SET_ASIDE)
        code = set_aside(state, &change->event, now_ms);
    return code;
}

static int run(struct delivery_state *state, enum state_statement statement)
{
    struct binding binding = bind_begin(state->statements[statement]);

    return bind_run(&binding);
}

static int set_position(struct delivery_state *state, const struct cursor *position)
{
    struct binding binding;

    if (position->id == state->position.id)
        return SQLITE_OK;
    binding = bind_begin(state->statements[STATE_SET_POSITION]);
    bind_int(&binding, position->id);
    bind_int(&binding, position->received_at_ms);
    return bind_run(&binding);
}

int delivery_state_apply(struct delivery_state *state, const struct delivery_change *changes, size_t count,
                         const struct cursor *position, int64_t now_ms, struct error *error)
{
    int code = run(state, STATE_BEGIN);
    enum store_failure failure;

    assert(position->id >= state->position.id);
    for (size_t i = 0; i < count && code == SQLITE_OK; i++) {
        assert(changes[i].event.id <= position->id);
        code = apply(state, &changes[i], now_ms);
    }
    if (code == SQLITE_OK)
        code = set_position(state, position);
    if (code == SQLITE_OK)
        code = run(state, STATE_COMMIT);
    failure = sqlite_failure(state->connection, code, error);
    if (failure == STORE_FAILURE_NONE) {
        if (check_files(state, error) < 0)
            return -EAGAIN;
        state->position = *position;
        return 0;
    }
    (void)fail(state, error);
    if (!sqlite3_get_autocommit(state->connection))
        (void)sqlite3_exec(state->connection, "ROLLBACK", NULL, NULL, NULL);
    return failure == STORE_FAILURE_RETRY ? -EAGAIN : -EIO;
}
