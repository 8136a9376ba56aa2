// Tests when the buffer of the write-ahead log passes bytes on. The layer below counts the writes to the log and can
// make them fail.
#include "../../../src/store/recorder.h"
#include "../../../src/store/wal_buffer.h"
#include "store_fixture.h"

#include <sqlite3.h>

// SQLite's Unix layer writes at most 131,071 bytes at once, so 32 pages are one byte too many.
#define PAGE_BYTES   4096
#define PAGES_TO_FIT 31
#define BYTES_TO_FIT (PAGES_TO_FIT * PAGE_BYTES + PAGE_BYTES - 1)

static sqlite3_vfs counting_vfs;
static sqlite3_vfs *real_vfs;
static sqlite3_io_methods methods;
static const sqlite3_io_methods *real_methods;
static int writes;     // to logs
static int write_code; // what a write to a log returns

static int counting_write(sqlite3_file *file, const void *data, int length, sqlite3_int64 offset)
{
    writes++;
    return write_code != SQLITE_OK ? write_code : real_methods->xWrite(file, data, length, offset);
}

static int counting_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    int code = real_vfs->xOpen(vfs, name, file, flags, ret_flags);

    if (code != SQLITE_OK || !(flags & SQLITE_OPEN_WAL))
        return code;
    real_methods = file->pMethods;
    methods = *real_methods;
    methods.xWrite = counting_write;
    file->pMethods = &methods;
    return code;
}

static int install_vfs(void **state)
{
    (void)state;
    real_vfs = sqlite3_vfs_find(NULL);
    counting_vfs = *real_vfs;
    counting_vfs.zName = "counting";
    counting_vfs.xOpen = counting_open;
    return sqlite3_vfs_register(&counting_vfs, 1);
}

static int remove_vfs(void **state)
{
    (void)state;
    return sqlite3_vfs_unregister(&counting_vfs);
}

struct open_log {
    char directory[32];
    char path[48]; // of the log
    sqlite3_filename name;
    sqlite3_file *file;
};

static struct open_log open_log(void)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_WAL;
    struct open_log log;
    char database[48];
    sqlite3_vfs *vfs;

    make_directory(log.directory, sizeof log.directory);
    (void)snprintf(database, sizeof database, "%s/db", log.directory);
    (void)snprintf(log.path, sizeof log.path, "%s/db-wal", log.directory);
    write_file(database, "", 0); // SQLite gives the log the mode of the database
    assert_int_equal(wal_buffer_register(), SQLITE_OK);
    vfs = sqlite3_vfs_find(WAL_BUFFER_VFS);
    assert_non_null(vfs);
    log.name = sqlite3_create_filename(database, "", log.path, 0, NULL);
    log.file = calloc(1, (size_t)vfs->szOsFile);
    assert_non_null(log.file);
    assert_int_equal(vfs->xOpen(vfs, sqlite3_filename_wal(log.name), log.file, flags, NULL), SQLITE_OK);
    writes = 0;
    return log;
}

static void close_log(struct open_log *log)
{
    assert_int_equal(log->file->pMethods->xClose(log->file), SQLITE_OK);
    free(log->file);
    sqlite3_free_filename(log->name);
    remove_directory(log->directory);
}

static int put(const struct open_log *log, const char *text, sqlite3_int64 offset)
{
    return log->file->pMethods->xWrite(log->file, text, (int)strlen(text), offset);
}

static void assert_content(const struct open_log *log, const char *expected)
{
    char content[64] = "";
    int fd = open(log->path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_true(read(fd, content, sizeof content - 1) >= 0);
    close(fd);
    assert_string_equal(content, expected);
}

TEST(passes_consecutive_writes_on_together)
{
    struct open_log log = open_log();

    assert_int_equal(put(&log, "ab", 0), SQLITE_OK);
    assert_int_equal(put(&log, "cde", 2), SQLITE_OK);
    assert_content(&log, "");
    assert_int_equal(log.file->pMethods->xSync(log.file, SQLITE_SYNC_NORMAL), SQLITE_OK);
    assert_content(&log, "abcde");
    assert_int_equal(writes, 1);
    close_log(&log);
    assert_int_equal(writes, 1);
}

TEST(passes_writes_on_before_another_call_could_miss_them)
{
    struct open_log log = open_log();
    sqlite3_int64 size;
    char byte;

    assert_int_equal(put(&log, "abc", 0), SQLITE_OK);
    assert_int_equal(log.file->pMethods->xRead(log.file, &byte, 1, 2), SQLITE_OK);
    assert_int_equal(byte, 'c');
    assert_int_equal(put(&log, "de", 3), SQLITE_OK);
    assert_int_equal(log.file->pMethods->xFileSize(log.file, &size), SQLITE_OK);
    assert_int_equal(size, 5);
    assert_int_equal(put(&log, "f", 5), SQLITE_OK);
    assert_int_equal(log.file->pMethods->xTruncate(log.file, 1), SQLITE_OK);
    assert_content(&log, "a");
    assert_int_equal(writes, 3);
    close_log(&log);
}

TEST(keeps_the_order_of_writes_to_one_place)
{
    struct open_log log = open_log();

    assert_int_equal(put(&log, "abcd", 0), SQLITE_OK);
    assert_int_equal(put(&log, "X", 1), SQLITE_OK);
    assert_int_equal(put(&log, "Y", 1), SQLITE_OK);
    assert_int_equal(log.file->pMethods->xSync(log.file, SQLITE_SYNC_NORMAL), SQLITE_OK);
    assert_content(&log, "aYcd");
    close_log(&log);
}

TEST(passes_writes_on_when_the_buffer_is_full)
{
    static const char bytes[PAGE_BYTES];
    struct open_log log = open_log();
    int (*write_log)(sqlite3_file *, const void *, int, sqlite3_int64) = log.file->pMethods->xWrite;
    struct stat status;

    for (int i = 0; i < PAGES_TO_FIT; i++)
        assert_int_equal(write_log(log.file, bytes, PAGE_BYTES, (sqlite3_int64)i * PAGE_BYTES), SQLITE_OK);
    assert_int_equal(write_log(log.file, bytes, PAGE_BYTES - 1, (sqlite3_int64)PAGES_TO_FIT * PAGE_BYTES), SQLITE_OK);
    assert_int_equal(writes, 0);
    assert_int_equal(put(&log, "a", BYTES_TO_FIT), SQLITE_OK);
    assert_int_equal(writes, 1);
    assert_int_equal(stat(log.path, &status), 0);
    assert_int_equal(status.st_size, BYTES_TO_FIT);
    close_log(&log);
}

TEST(passes_writes_on_at_close)
{
    struct open_log log = open_log();

    assert_int_equal(put(&log, "abc", 0), SQLITE_OK);
    close_log(&log);
    assert_int_equal(writes, 1);
}

TEST(reports_a_failed_write_at_the_sync_and_forgets_its_bytes)
{
    struct open_log log = open_log();

    write_code = SQLITE_FULL;
    assert_int_equal(put(&log, "abc", 0), SQLITE_OK);
    assert_int_equal(log.file->pMethods->xSync(log.file, SQLITE_SYNC_NORMAL), SQLITE_FULL);
    write_code = SQLITE_OK;
    assert_int_equal(put(&log, "X", 0), SQLITE_OK);
    assert_int_equal(log.file->pMethods->xSync(log.file, SQLITE_SYNC_NORMAL), SQLITE_OK);
    assert_content(&log, "X");
    close_log(&log);
}

TEST_WITH(store_writes_a_commit_with_one_call, fixture_setup, fixture_teardown)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    fixture_record_times(fixture, 1, 1);
    writes = 0;
    fixture_record_times(fixture, 2, 2);
    assert_int_equal(writes, 1);
    fixture_close(fixture);
}

static void execute(sqlite3 *connection, const char *sql)
{
    if (sqlite3_exec(connection, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(connection));
}

// The small cache makes pages spill into the log before the end of the transaction. After the checkpoint, SQLite rolls
// back without reading the log.
TEST(rollback_leaves_nothing_to_write_over_the_commit_of_another_process)
{
    struct recorder recorder = {0};
    char directory[32], path[48];
    sqlite3 *writer, *other;

    make_directory(directory, sizeof directory);
    (void)snprintf(path, sizeof path, "%s/db", directory);
    assert_int_equal(wal_buffer_register(), SQLITE_OK);
    assert_int_equal(sqlite3_open_v2(path, &writer, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, WAL_BUFFER_VFS),
                     SQLITE_OK);
    execute(writer, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
                    "PRAGMA cache_size = 10; CREATE TABLE t (x); PRAGMA wal_checkpoint;"
                    "BEGIN; WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25)"
                    "INSERT INTO t SELECT zeroblob(3000) FROM n; ROLLBACK;");
    recorder.connection = writer;
    recorder_rollback(&recorder);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    execute(other, "INSERT INTO t VALUES (x'01')");
    execute(writer, "INSERT INTO t VALUES (x'02')");
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK); // with an empty cache
    execute(other, "CREATE TEMP TABLE ok (x CHECK (x)); INSERT INTO ok SELECT group_concat(hex(x)) = '01,02' FROM t;"
                   "INSERT INTO ok SELECT integrity_check = 'ok' FROM pragma_integrity_check");
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    assert_int_equal(sqlite3_close(writer), SQLITE_OK);
    remove_directory(directory);
}

TEST_MAIN(install_vfs, remove_vfs)
