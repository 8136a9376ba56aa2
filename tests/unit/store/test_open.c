// Tests opening and refusing databases, recovery after a kill, and what other processes may read.
#include <errno.h>
#include <grp.h>

#include "store_fixture.h"

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
    mode_t before = umask(077);
    struct error error;

    assert_int_equal(store_check(fixture->database, &error), 0);
    assert_int_equal(fixture_size(fixture, ""), -1); // a check creates nothing
    fixture_open(fixture);
    umask(before);
    assert_int_equal(store_check(fixture->database, &error), 0);
    for (size_t i = 0; i < COUNT(rows); i++)
        assert_query(fixture, rows[i].sql, rows[i].expected);
    for (size_t i = 0; i < COUNT(files); i++) {
        struct stat status;

        assert_int_equal(stat(path_with(fixture->database, files[i]).text, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0640);
    }
}

FIXTURE_TEST(creates_a_database_in_an_empty_file)
{
    struct error error;

    write_file(fixture->database, "", 0);
    assert_int_equal(store_check(fixture->database, &error), 0);
    assert_int_equal(fixture_size(fixture, ""), 0);
    fixture_open(fixture);
    assert_query(fixture, "PRAGMA user_version", "1");
}

// A database of the first release has no incremental vacuum, so it cannot shrink, but is otherwise like a new one.
FIXTURE_TEST(opens_a_database_of_the_first_release)
{
    size_t length;
    char *sql = read_file(UNIT_DATA "/first_release.sql", &length);

    sql[length] = '\0';
    fixture_execute(fixture, sql);
    free(sql);
    fixture_open(fixture);
    fixture_record_times(fixture, 1, 1);
    assert_query(fixture, "SELECT count(*) || ' ' || max(id) FROM destroyed_group", "2 8");
    assert_query(fixture,
                 "SELECT group_concat(member_account) FROM destroyed_group_member WHERE destroyed_group_id = 7",
                 "jared,tom");
    assert_query(fixture, "SELECT reason FROM rejected_callback", "GroupId is missing");
    assert_query(fixture, "PRAGMA user_version", "1");
    store_set_retention(fixture->store, 86400000);
    await_query(fixture, "SELECT group_concat(id) FROM destroyed_group", "8");
}

STORE_TEST(keeps_rows_and_never_reuses_ids)
{
    fixture_record_times(fixture, 1, 3);
    fixture_close(fixture);
    assert_int_equal(fixture_size(fixture, "-wal"), 0);
    fixture_execute(fixture, "DELETE FROM destroyed_group WHERE id = 3");
    fixture_open(fixture);
    fixture_record_times(fixture, 3, 3);
    assert_query(fixture, "SELECT group_concat(id) FROM destroyed_group", "1,2,4");
    fixture_close(fixture);
    store_close(NULL);
}

// Each row has a foreign file, as data or as SQL, and a word that the error must contain.
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

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error opened = {""}, checked = {""};
        size_t length, length_after;
        char *data, *data_after;

        if (rows[i].data)
            write_file(fixture->database, rows[i].data, strlen(rows[i].data));
        else
            fixture_execute(fixture, rows[i].sql);
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

STORE_TEST(refuses_a_damaged_database)
{
    struct error error = {""};
    char *data;
    size_t length;

    fixture_close(fixture);
    data = read_file(fixture->database, &length);
    write_file(fixture->database, data, length / 2 + 1); // shorter than the size in its first page
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
    const bool is_root = geteuid() == 0; // root may read and write everything
    const struct path loop = path_with(fixture->directory, "/loop.db");
    const struct path read_only = path_with(fixture->directory, "/read-only.db");

    write_text(path_with(fixture->directory, "/file").text, "x");
    assert_int_equal(mkdir(path_with(fixture->directory, "/directory").text, 0755), 0);
    assert_int_equal(symlink(loop.text, loop.text), 0);
    assert_int_equal(mkdir(path_with(fixture->directory, "/sealed").text, 0555), 0);
    write_text(read_only.text, "");
    assert_int_equal(chmod(read_only.text, 0440), 0);
    assert_int_equal(chmod(fixture->directory, 0777), 0);
    assert_true(!is_root || seteuid(65534) == 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
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

STORE_TEST(refuses_a_second_daemon)
{
    struct error error = {""};
    pid_t child;

    fixture_record_times(fixture, 1, 1);
    child = start_child();
    if (child == 0)
        _exit(store_check(fixture->database, &error) == 0 && fixture_try_open(fixture, &error) == -EBUSY &&
                      strstr(error.text, "another imcallbackd")
                  ? 0
                  : 1);
    assert_int_equal(child_status(child), 0);
    fixture_record_times(fixture, 2, 2);
}

// store_open must checkpoint the log before it returns.
FIXTURE_TEST(recovers_the_log_of_a_killed_process)
{
    struct error error;

    leave_log_of_killed_daemon(fixture);
    assert_int_equal(store_check(fixture->database, &error), 0);
    assert_true(fixture_size(fixture, "-wal") > 0);
    fixture_open(fixture);
    assert_int_equal(fixture_size(fixture, "-wal"), 0);
    assert_query(fixture, "SELECT count(*) || ' ' || max(id) FROM destroyed_group", "3 3");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group_member", "9");
    fixture_record_times(fixture, 4, 4);
    assert_query(fixture, "PRAGMA integrity_check", "ok");
}

// Reads as a user that may read the files but not create any in the directory. Ends the process, with status 0 if both
// events were found.
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

    for (size_t i = 0; i < COUNT(files); i++)
        assert_int_equal(chmod(path_with(fixture->database, files[i]).text, file), 0);
    assert_int_equal(chmod(fixture->directory, directory), 0);
}

FIXTURE_TEST(allows_group_members_to_read_at_any_time)
{
    for (int running = 1; running >= 0; running--) {
        pid_t child;

        if (running) {
            fixture_open(fixture);
            fixture_record_times(fixture, 1, 2);
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

// The names have characters that are special in SQLite's URIs or that are not ASCII.
FIXTURE_TEST(accepts_any_file_name)
{
    static const char *const names[] = {"a?b#c%41.db", "\xe5\xba\x93 1.db", "file:x.db"};
    struct error error;

    for (size_t i = 0; i < COUNT(names); i++) {
        (void)snprintf(fixture->database, sizeof fixture->database, "%s/%s", fixture->directory, names[i]);
        fixture_open(fixture);
        fixture_close(fixture);
        assert_true(fixture_size(fixture, "") > 0);
        assert_int_equal(store_check(fixture->database, &error), 0);
    }
}

FIXTURE_TEST(refuses_side_files_that_are_not_regular)
{
    static const char *const suffixes[] = {"-journal", "-wal", "-shm"};
    char path[192];

    fixture_open(fixture);
    fixture_record_times(fixture, 1, 1);
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
