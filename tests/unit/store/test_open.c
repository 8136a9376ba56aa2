// Opening and refusing databases, recovering after a kill, and what other processes may read.
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <sys/wait.h>

#include "store_fixture.h"

static void execute(const struct fixture *fixture, const char *sql)
{
    sqlite3 *connection;

    assert_int_equal(sqlite3_open(fixture->database, &connection), SQLITE_OK);
    assert_int_equal(sqlite3_exec(connection, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(connection), SQLITE_OK);
}

static pid_t start_child(void)
{
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    return child;
}

static int child_status(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void record_at(struct fixture *fixture, int64_t event_time_ms)
{
    struct destroyed_group group = example_group();

    group.event_time_ms = event_time_ms;
    assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
}

FIXTURE_TEST(creates_the_promised_schema)
{
    static const struct {
        const char *sql, *expected;
    } rows[] = {
        {"PRAGMA user_version", "1"},
        {"PRAGMA journal_mode", "wal"},
        {"PRAGMA integrity_check", "ok"},
        {"SELECT group_concat(name) FROM (SELECT name FROM pragma_table_list WHERE type = 'table' AND strict"
         " ORDER BY name)",
         "destroyed_group,destroyed_group_member,rejected_callback"},
        {"SELECT wr FROM pragma_table_list WHERE name = 'destroyed_group_member'", "1"},
        {"SELECT group_concat(name) FROM pragma_table_info('destroyed_group')",
         "id,sdk_appid,group_id,event_time_ms,type,owner_account,operator_account,name,member_count,opt_platform,"
         "client_ip,remote_address,received_at_ms,body"},
        {"SELECT group_concat(name) FROM pragma_table_info('destroyed_group_log')",
         "id,sdk_appid,group_id,event_time,type,owner_account,operator_account,name,member_count,opt_platform,"
         "client_ip,remote_address,received_at,body"},
        {"SELECT group_concat(name) FROM pragma_table_info('destroyed_group_member')",
         "destroyed_group_id,position,member_account"},
        {"SELECT group_concat(name) FROM pragma_table_info('rejected_callback')",
         "id,received_at_ms,remote_address,sdk_appid,callback_command,reason,body"},
        {"SELECT group_concat(name) FROM pragma_index_info('destroyed_group_identity')",
         "sdk_appid,event_time_ms,group_id"},
    };
    static const char *const files[] = {"", "-wal", "-shm"};
    struct fixture *fixture = *state;
    mode_t before = umask(077);
    struct error error;

    assert_int_equal(store_check(fixture->database, &error), 0);
    assert_int_equal(fixture_size(fixture, ""), -1); // a check creates nothing
    fixture_open(fixture);
    umask(before);
    assert_int_equal(store_check(fixture->database, &error), 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_query(fixture, rows[i].sql, rows[i].expected);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[192];
        struct stat status;

        (void)snprintf(path, sizeof path, "%s%s", fixture->database, files[i]);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0640);
    }
}

FIXTURE_TEST(creates_a_database_in_an_empty_file)
{
    struct fixture *fixture = *state;
    struct error error;

    write_file(fixture->database, "", 0);
    assert_int_equal(store_check(fixture->database, &error), 0);
    assert_int_equal(fixture_size(fixture, ""), 0);
    fixture_open(fixture);
    assert_query(fixture, "PRAGMA user_version", "1");
}

// Such a database cannot shrink, but is like a new one otherwise.
FIXTURE_TEST(opens_a_database_of_the_first_release)
{
    struct fixture *fixture = *state;
    size_t length;
    char *sql = read_file(UNIT_DATA "/first_release.sql", &length);

    sql[length] = '\0';
    execute(fixture, sql);
    free(sql);
    fixture_open(fixture);
    record_at(fixture, 1);
    assert_query(fixture, "SELECT count(*) || ' ' || max(id) FROM destroyed_group", "2 8");
    assert_query(fixture,
                 "SELECT group_concat(member_account) FROM destroyed_group_member WHERE destroyed_group_id = 7",
                 "jared,tom");
    assert_query(fixture, "SELECT reason FROM rejected_callback", "GroupId is missing");
    assert_query(fixture, "PRAGMA user_version", "1");
    store_set_retention(fixture->store, 86400000);
    await_query(fixture, "SELECT group_concat(id) FROM destroyed_group", "8");
}

FIXTURE_TEST(keeps_rows_and_never_reuses_ids)
{
    struct fixture *fixture = *state;

    fixture_open(fixture);
    for (int64_t i = 1; i <= 3; i++)
        record_at(fixture, i);
    fixture_close(fixture);
    assert_int_equal(fixture_size(fixture, "-wal"), 0);
    execute(fixture, "DELETE FROM destroyed_group WHERE id = 3");
    fixture_open(fixture);
    record_at(fixture, 3);
    assert_query(fixture, "SELECT group_concat(id) FROM destroyed_group", "1,2,4");
    fixture_close(fixture);
    store_close(NULL);
}

// Rows: a foreign file, as data or as SQL, and a word that the error must have.
FIXTURE_TEST(refuses_foreign_files_and_leaves_them_alone)
{
    static const struct {
        const char *data, *sql, *word;
    } rows[] = {
        {"[store]\ndatabase = /var/lib/imcallbackd/callbacks.db\n", NULL, "not a database"},
        {NULL, "CREATE TABLE note (text)", "another program"},
        {NULL, "PRAGMA journal_mode = WAL; CREATE TABLE note (text)", "another program"},
        {NULL, "PRAGMA user_version = -1", "another program"},
        {NULL, "PRAGMA user_version = 1", "another program"},
        {NULL, "CREATE TABLE destroyed_group (id); PRAGMA user_version = 1", "another program"},
        {NULL, "PRAGMA user_version = 2", "newer"},
        {NULL, "PRAGMA journal_mode = WAL; CREATE TABLE destroyed_group (id); PRAGMA user_version = 2", "newer"},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error opened = {""}, checked = {""};
        size_t length, length_after;
        char *data, *data_after;

        if (rows[i].data)
            write_file(fixture->database, rows[i].data, strlen(rows[i].data));
        else
            execute(fixture, rows[i].sql);
        data = read_file(fixture->database, &length);
        assert_int_equal(store_check(fixture->database, &checked), -EINVAL);
        assert_int_equal(fixture_try_open(fixture, &opened), -EINVAL);
        assert_string_equal(opened.text, checked.text);
        if (!strstr(opened.text, rows[i].word) || !strstr(opened.text, fixture->database))
            fail_msg("row %zu: %s", i, opened.text);
        data_after = read_file(fixture->database, &length_after);
        assert_int_equal(length_after, length);
        assert_memory_equal(data_after, data, length);
        assert_int_equal(fixture_size(fixture, "-wal"), -1);
        assert_int_equal(fixture_size(fixture, "-shm"), -1);
        free(data);
        free(data_after);
        assert_int_equal(unlink(fixture->database), 0);
    }
}

FIXTURE_TEST(refuses_a_damaged_database)
{
    struct fixture *fixture = *state;
    struct error error = {""};
    char *data;
    size_t length;

    fixture_open(fixture);
    fixture_close(fixture);
    data = read_file(fixture->database, &length);
    write_file(fixture->database, data, length / 2 + 1); // shorter than its first page says
    free(data);
    assert_int_equal(store_check(fixture->database, &error), -EIO);
    assert_int_equal(fixture_try_open(fixture, &error), -EIO);
    assert_non_null(strstr(error.text, "backup"));
}

FIXTURE_TEST(refuses_unusable_paths)
{
    static const struct {
        const char *path; // in the directory
        int code;
        const char *word;
    } rows[] = {
        {"missing/callbacks.db", -ENOENT, "does not exist"},
        {"file/callbacks.db", -ENOTDIR, "Not a directory"},
        {"file/below/callbacks.db", -ENOTDIR, "Not a directory"},
        {"directory", -EINVAL, "not a regular file"},
        {"loop.db", -ELOOP, "symbolic links"},
        {"sealed/callbacks.db", -EACCES, "Permission denied"},
        {"read-only.db", -EACCES, "not readable and writable: Permission denied"},
    };
    struct fixture *fixture = *state;
    const bool is_root = geteuid() == 0; // root may read and write everything
    char path[192];

    (void)snprintf(path, sizeof path, "%s/file", fixture->directory);
    write_file(path, "x", 1);
    (void)snprintf(path, sizeof path, "%s/directory", fixture->directory);
    assert_int_equal(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof path, "%s/loop.db", fixture->directory);
    assert_int_equal(symlink(path, path), 0);
    (void)snprintf(path, sizeof path, "%s/sealed", fixture->directory);
    assert_int_equal(mkdir(path, 0555), 0);
    (void)snprintf(path, sizeof path, "%s/read-only.db", fixture->directory);
    write_file(path, "", 0);
    assert_int_equal(chmod(path, 0440), 0);
    assert_int_equal(chmod(fixture->directory, 0777), 0);
    assert_true(!is_root || seteuid(65534) == 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error opened = {""}, checked = {""};

        (void)snprintf(fixture->database, sizeof fixture->database, "%s/%s", fixture->directory, rows[i].path);
        assert_int_equal(store_check(fixture->database, &checked), rows[i].code);
        assert_int_equal(fixture_try_open(fixture, &opened), rows[i].code);
        assert_string_equal(opened.text, checked.text);
        if (!strstr(opened.text, rows[i].word) || !strstr(opened.text, fixture->database))
            fail_msg("row %zu: %s", i, opened.text);
    }
    assert_true(!is_root || seteuid(0) == 0);
}

FIXTURE_TEST(refuses_a_second_daemon)
{
    struct fixture *fixture = *state;
    struct error error = {""};
    pid_t child;

    fixture_open(fixture);
    record_at(fixture, 1);
    child = start_child();
    if (child == 0) {
        _exit(store_check(fixture->database, &error) == 0 && fixture_try_open(fixture, &error) == -EBUSY &&
                      strstr(error.text, "another imcallbackd")
                  ? 0
                  : 1);
    }
    assert_int_equal(child_status(child), 0);
    record_at(fixture, 2);
}

// The child is killed with all events in the log alone. store_open must checkpoint the log before it returns.
FIXTURE_TEST(recovers_the_log_of_a_killed_process)
{
    struct fixture *fixture = *state;
    struct error error;
    pid_t child = start_child();

    if (child == 0) {
        fixture_open(fixture);
        for (int64_t i = 1; i <= 3; i++)
            record_at(fixture, i);
        (void)raise(SIGKILL);
    }
    assert_true(WIFSIGNALED(child_status(child)));
    assert_true(fixture_size(fixture, "-wal") > 0);
    assert_int_equal(store_check(fixture->database, &error), 0);
    assert_true(fixture_size(fixture, "-wal") > 0);
    fixture_open(fixture);
    assert_int_equal(fixture_size(fixture, "-wal"), 0);
    assert_query(fixture, "SELECT count(*) || ' ' || max(id) FROM destroyed_group", "3 3");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group_member", "9");
    record_at(fixture, 4);
    assert_query(fixture, "PRAGMA integrity_check", "ok");
}

// Reads as a user that may read the files and create none. Does not return.
static void read_as_group_member(const struct fixture *fixture)
{
    sqlite3 *connection;
    sqlite3_stmt *statement;

    if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
        _exit(2);
    if (sqlite3_open_v2(fixture->database, &connection, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(connection, "SELECT count(*) FROM destroyed_group_log", -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW)
        _exit(3);
    _exit(sqlite3_column_int(statement, 0) == 2 ? 0 : 4);
}

static void permit_all(const struct fixture *fixture, mode_t directory, mode_t file)
{
    static const char *const files[] = {"", "-wal", "-shm"};

    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[192];

        (void)snprintf(path, sizeof path, "%s%s", fixture->database, files[i]);
        assert_int_equal(chmod(path, file), 0);
    }
    assert_int_equal(chmod(fixture->directory, directory), 0);
}

FIXTURE_TEST(allows_group_members_to_read_at_any_time)
{
    struct fixture *fixture = *state;

    for (int running = 1; running >= 0; running--) {
        pid_t child;

        if (running) {
            fixture_open(fixture);
            record_at(fixture, 1);
            record_at(fixture, 2);
        } else {
            fixture_close(fixture);
        }
        permit_all(fixture, 0555, 0444);
        child = start_child();
        if (child == 0)
            read_as_group_member(fixture);
        assert_int_equal(child_status(child), 0);
        permit_all(fixture, 0700, 0640);
    }
}

// The names have characters that are special in SQLite's URIs.
FIXTURE_TEST(accepts_any_file_name)
{
    static const char *const names[] = {"a?b#c%41.db", "\xe5\xba\x93 1.db", "file:x.db"};
    struct fixture *fixture = *state;
    struct error error;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(fixture->database, sizeof fixture->database, "%s/%s", fixture->directory, names[i]);
        fixture_open(fixture);
        fixture_close(fixture);
        assert_true(fixture_size(fixture, "") > 0);
        assert_int_equal(store_check(fixture->database, &error), 0);
    }
}

FIXTURE_TEST(refuses_side_files_that_are_not_regular)
{
    static const char *const suffixes[] = {"-journal", "-wal"};
    struct fixture *fixture = *state;
    char path[192];

    fixture_open(fixture);
    record_at(fixture, 1);
    fixture_close(fixture);
    for (size_t i = 0; i < COUNT(suffixes); i++) {
        struct error opened = {""}, checked = {""};

        (void)snprintf(path, sizeof path, "%s%s", fixture->database, suffixes[i]);
        (void)remove(path);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_int_equal(store_check(fixture->database, &checked), -EINVAL);
        assert_int_equal(fixture_try_open(fixture, &opened), -EINVAL);
        assert_non_null(strstr(opened.text, suffixes[i]));
        assert_string_equal(opened.text, checked.text);
        assert_int_equal(remove(path), 0);
    }
}

TEST_MAIN(NULL, NULL)
