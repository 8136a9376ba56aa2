// Tests failing disks, and the length of the write-ahead log. The test wraps SQLite's own VFS: when SQLite opens a
// database or its log, the wrapper replaces the methods of the file with ones that fail on demand.
#include <errno.h>
#include <stdatomic.h>

#include "store_fixture.h"

enum fault { FAULT_NONE, FAULT_LOG_WRITE, FAULT_LOG_SYNC, FAULT_DATABASE_WRITE, FAULT_DATABASE_SYNC };

static atomic_int fault, fault_code, fault_errno;
static atomic_int database_faults, database_syncs; // in WAL mode, only checkpoints write to the database

static sqlite3_vfs failing_vfs;
static sqlite3_vfs *real_vfs;

// The methods of all logs or of all databases: those that fail on demand, and SQLite's own. failing_open() sets both
// when the first file of the kind is opened, which is before a writer thread runs. All files of a kind share their
// methods.
static struct kind {
    sqlite3_io_methods methods;
    const sqlite3_io_methods *real;
} log_kind, database_kind;

static const sqlite3_io_methods *real_methods(const sqlite3_file *file)
{
    return file->pMethods == &log_kind.methods ? log_kind.real : database_kind.real;
}

static bool fails(const sqlite3_file *file, enum fault of_log, enum fault of_database)
{
    if (file->pMethods == &log_kind.methods)
        return fault == (int)of_log;
    database_faults += fault == (int)of_database;
    return fault == (int)of_database;
}

static int failing_write(sqlite3_file *file, const void *data, int length, sqlite3_int64 offset)
{
    return fails(file, FAULT_LOG_WRITE, FAULT_DATABASE_WRITE) ? fault_code
                                                              : real_methods(file)->xWrite(file, data, length, offset);
}

static int failing_sync(sqlite3_file *file, int flags)
{
    int code = real_methods(file)->xSync(file, flags);

    if (fails(file, FAULT_LOG_SYNC, FAULT_DATABASE_SYNC))
        return fault_code;
    database_syncs += file->pMethods == &database_kind.methods;
    return code;
}

static int log_control(sqlite3_file *file, int operation, void *argument)
{
    if (operation != SQLITE_FCNTL_LAST_ERRNO)
        return real_methods(file)->xFileControl(file, operation, argument);
    *(int *)argument = fault_errno; // SQLite may ask after the fault is over
    return SQLITE_OK;
}

static int failing_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    int code = real_vfs->xOpen(vfs, name, file, flags, ret_flags);
    struct kind *kind = flags & SQLITE_OPEN_WAL ? &log_kind : &database_kind;

    if (code != SQLITE_OK || !(flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_DB)))
        return code;
    if (!kind->real) {
        kind->methods = *file->pMethods;
        kind->methods.xWrite = failing_write;
        kind->methods.xSync = failing_sync;
        if (kind == &log_kind)
            kind->methods.xFileControl = log_control;
        kind->real = file->pMethods;
    }
    file->pMethods = &kind->methods;
    return code;
}

static int install_vfs(void **state)
{
    (void)state;
    real_vfs = sqlite3_vfs_find(NULL);
    failing_vfs = *real_vfs;
    failing_vfs.zName = "failing";
    failing_vfs.xOpen = failing_open;
    return sqlite3_vfs_register(&failing_vfs, 1);
}

static int remove_vfs(void **state)
{
    (void)state;
    return sqlite3_vfs_unregister(&failing_vfs);
}

static enum commit_result record_at(struct fixture *fixture, int64_t event_time_ms, char *body, size_t body_length)
{
    struct destroyed_group group = example_group();

    group.event_time_ms = event_time_ms;
    group.keep_body = true;
    group.body = body;
    group.body_length = body_length;
    return fixture_record(fixture, &group);
}

// Each row has a fault, the results of two events during the fault and of one event after it, and the number of calls
// of broken(). The events are large, so that each makes a checkpoint due.
FIXTURE_TEST(stops_after_an_io_error_and_survives_a_shortage)
{
    static const struct {
        enum fault fault;
        int code, errno_value;
        enum commit_result during[2], after;
        size_t broken;
    } rows[] = {
        {FAULT_LOG_WRITE, SQLITE_IOERR_WRITE, 0, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_FAILED, 1},
        {FAULT_LOG_SYNC, SQLITE_IOERR_FSYNC, 0, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_FAILED, 1},
        {FAULT_LOG_WRITE, SQLITE_CORRUPT, 0, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_FAILED, 1},
        {FAULT_LOG_WRITE, SQLITE_FULL, 0, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_RECORDED, 0},
        {FAULT_LOG_WRITE, SQLITE_NOMEM, 0, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_RECORDED, 0},
        {FAULT_LOG_WRITE, SQLITE_IOERR_SHMSIZE, 0, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_RECORDED, 0},
        {FAULT_LOG_WRITE, SQLITE_IOERR_WRITE, EDQUOT, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_RECORDED, 0},
        {FAULT_LOG_WRITE, SQLITE_IOERR_WRITE, EROFS, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_RECORDED, 0},
        {FAULT_LOG_SYNC, SQLITE_IOERR_FSYNC, EDQUOT, {COMMIT_FAILED, COMMIT_FAILED}, COMMIT_FAILED, 1},
        // In the rows below, the fault occurs in the checkpoint after the first event, which is on disk by then. An I/O
        // error makes the second event fail; a full disk does not.
        {FAULT_DATABASE_WRITE, SQLITE_IOERR_WRITE, 0, {COMMIT_RECORDED, COMMIT_FAILED}, COMMIT_FAILED, 1},
        {FAULT_DATABASE_SYNC, SQLITE_IOERR_FSYNC, 0, {COMMIT_RECORDED, COMMIT_FAILED}, COMMIT_FAILED, 1},
        {FAULT_DATABASE_WRITE, SQLITE_FULL, 0, {COMMIT_RECORDED, COMMIT_RECORDED}, COMMIT_RECORDED, 0},
    };
    const size_t length = (size_t)5 * 1024 * 1024;
    char *body = calloc(1, length);

    assert_non_null(body);
    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t first = (int64_t)i * 10;
        int syncs, faults = database_faults;

        fixture->broken = 0;
        fixture_open(fixture);
        syncs = database_syncs;
        assert_int_equal(record_at(fixture, first, body, length), COMMIT_RECORDED);
        AWAIT(database_syncs > syncs);
        fault_code = rows[i].code;
        fault_errno = rows[i].errno_value;
        fault = (int)rows[i].fault;
        for (size_t event = 0; event < 2; event++) {
            if (record_at(fixture, first + 1 + (int64_t)event, body, length) != rows[i].during[event])
                fail_msg("row %zu, event %zu", i, event);
            if (event == 0 && rows[i].during[0] == COMMIT_RECORDED)
                AWAIT(database_faults > faults);
        }
        fault = FAULT_NONE;
        if (record_at(fixture, first + 3, body, length) != rows[i].after)
            fail_msg("row %zu, after", i);
        assert_int_equal(fixture->broken, rows[i].broken);
        assert_true(!fixture->broken || strstr(fixture->error.text, fixture->database));
        fixture_close(fixture);
        fixture_open(fixture);
        assert_int_equal(record_at(fixture, first, body, length), COMMIT_REPEATED);
        assert_int_equal(record_at(fixture, first + 4, body, length), COMMIT_RECORDED);
        fixture_close(fixture);
    }
    assert_query(fixture, "PRAGMA integrity_check", "ok");
    free(body);
}

STORE_TEST(records_retried_commits_after_a_shortage)
{
    enum { COUNT = 20 };
    struct destroyed_group groups[COUNT];
    struct commit commits[COUNT];
    struct error error = {""};

    fault_code = SQLITE_FULL;
    fault = FAULT_LOG_WRITE;
    example_commits(groups, commits, COUNT, 0);
    for (size_t i = 0; i < COUNT; i++) {
        commits[i].give_up_at_ms = i % 2 ? INT64_MAX : 0; // half of the commits are not retried
        store_submit(fixture->store, &commits[i]);
    }
    fixture_await(fixture, COUNT / 2);
    AWAIT(!store_ready(fixture->store, &error));
    assert_non_null(strstr(error.text, "make room"));
    assert_int_equal(fixture_done_count(fixture), COUNT / 2);
    fault = FAULT_NONE;
    fixture_await(fixture, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        assert_int_equal(commits[i].result, i % 2 ? COMMIT_RECORDED : COMMIT_FAILED);
    assert_true(store_ready(fixture->store, &error));
    assert_query(fixture, "SELECT count(*) FROM destroyed_group WHERE event_time_ms % 2 = 1", "10");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "10");
}

FIXTURE_TEST(refuses_to_start_if_a_sync_fails)
{
    struct error error = {""};

    fault_code = SQLITE_IOERR_FSYNC;
    fault = FAULT_DATABASE_SYNC;
    assert_true(fixture_try_open(fixture, &error) < 0);
    assert_non_null(strstr(error.text, fixture->database));
    fault = FAULT_NONE;
    fixture_open(fixture);
}

// A frame is a page of 4 KiB with a header of 24 bytes. The log has a header of 32 bytes. A body of 1 MiB takes about
// 260 frames.
STORE_TEST(keeps_the_log_short)
{
    enum { EVENTS = 24, BODY_BYTES = 1024 * 1024, FRAME_BYTES = 4096 + 24, EVENT_FRAMES = 270 };
    struct destroyed_group groups[EVENTS];
    struct commit commits[EVENTS];
    char *body = calloc(1, BODY_BYTES);

    assert_non_null(body);
    // Each event is recorded before the next one is submitted, so the writer thread becomes idle in between, and a
    // checkpoint is due after 1000 frames (four events).
    for (int64_t i = 0; i < EVENTS; i++) {
        int syncs = database_syncs;

        assert_int_equal(record_at(fixture, i, body, BODY_BYTES), COMMIT_RECORDED);
        if (i % 4 == 3)
            AWAIT(database_syncs > syncs);
    }
    assert_in_range(fixture_size(fixture, "-wal"), 1, 32 + FRAME_BYTES * (1000 + EVENT_FRAMES));
    // If all events are submitted at once, the writer thread records them in batches of at most eight. While further
    // commits wait, a checkpoint is due only after 4000 frames.
    example_commits(groups, commits, EVENTS, 1000);
    for (size_t i = 0; i < EVENTS; i++) {
        groups[i].keep_body = true;
        groups[i].body = body;
        groups[i].body_length = BODY_BYTES;
    }
    fixture_commit(fixture, commits, EVENTS);
    assert_in_range(fixture_size(fixture, "-wal"), 1, 32 + FRAME_BYTES * (4000 + 8 * EVENT_FRAMES));
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "48");
    free(body);
}

TEST_MAIN(install_vfs, remove_vfs)
