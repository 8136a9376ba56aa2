// Tests reading by id while the store records: the reader misses and repeats no row, and never blocks the store.
#include <errno.h>
#include <fcntl.h>

#include "imcallbackd/store/reader.h"
#include "peer_process.h"

// The reader of the test, and what its last read returned.
static struct store_reader *reader;
static const struct recorded_row *rows_read;
static size_t count;
static struct error error;

static int close_reader(void **state)
{
    store_reader_close(reader);
    reader = NULL;
    return fixture_teardown(state);
}

// Like STORE_TEST(), but the teardown also closes the reader.
#define READER_TEST(name) FIXTURE_TEST_WITH(name, fixture_setup_open, close_reader)

static void open_reader(const struct fixture *fixture)
{
    if (store_reader_open(fixture->database, &reader, &error) < 0)
        fail_msg("%s", error.text);
}

static int try_to_read(enum stream stream, int64_t after_id)
{
    return store_reader_read(reader, stream, after_id, &rows_read, &count, &error);
}

static size_t read_groups(int64_t after_id)
{
    if (try_to_read(STREAM_GROUPS, after_id) < 0)
        fail_msg("%s", error.text);
    return count;
}

// Asserts that exactly `wanted` events follow after_id, each with its id as the event time. Returns the last id.
static int64_t assert_next(int64_t after_id, size_t wanted)
{
    assert_int_equal(read_groups(after_id), wanted);
    for (size_t i = 0; i < wanted; i++) {
        assert_int_equal(rows_read[i].id, after_id + 1 + (int64_t)i);
        assert_int_equal(rows_read[i].event.group.event_time_ms, rows_read[i].id);
    }
    assert_int_equal(read_groups(after_id + (int64_t)wanted), 0);
    return after_id + (int64_t)wanted;
}

static void assert_same_columns(enum stream stream, const void *found, const void *expected)
{
    for (size_t i = 0; i < stream_tables[stream].column_count; i++) {
        const struct column *column = &stream_tables[stream].columns[i];
        struct column_value one = column_get(column, found), other = column_get(column, expected);

        if (one.is_null != other.is_null || one.integer != other.integer || one.length != other.length ||
            (one.length > 0 && memcmp(one.data, other.data, one.length) != 0))
            fail_msg("%s differs", column->name);
    }
}

READER_TEST(newest_ids_of_both_streams_are_known)
{
    struct rejected_callback rejected = example_rejected();
    struct destroyed_group group = example_group();
    int64_t ids[STREAM_COUNT] = {-1, -1};

    open_reader(fixture);
    assert_int_equal(store_reader_read_newest_ids(reader, ids, &error), 0);
    assert_true(ids[STREAM_GROUPS] == 0 && ids[STREAM_REJECTIONS] == 0);
    assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    assert_int_equal(store_reader_read_newest_ids(reader, ids, &error), 0);
    assert_true(ids[STREAM_GROUPS] == 1 && ids[STREAM_REJECTIONS] == 2);
}

READER_TEST(newest_ids_are_not_read_without_their_table)
{
    int64_t ids[STREAM_COUNT], received_at_ms;

    open_reader(fixture);
    // The new schema version makes the reader load the altered schema.
    fixture_execute(fixture, "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'sqlite_sequence';"
                             "PRAGMA schema_version = 1000000");
    error.text[0] = '\0';
    assert_true(store_reader_read_newest_ids(reader, ids, &error) < 0);
    assert_non_null(strstr(error.text, "no such table: sqlite_sequence"));
    error.text[0] = '\0';
    assert_true(store_reader_read_position(reader, STREAM_GROUPS, 1, &ids[0], &received_at_ms, &error) < 0);
    assert_non_null(strstr(error.text, "no such table: sqlite_sequence"));
}

READER_TEST(group_is_read_as_it_was_recorded)
{
    struct destroyed_group full = example_group(), bare = example_group(), plain = example_group();

    full.keep_body = bare.keep_body = true;
    bare.has_event_time = bare.has_member_list = false;
    bare.group_id = "@TGS#_community";
    bare.name = "";
    bare.member_count = plain.member_count = 0;
    plain.event_time_ms++;
    fixture_record(fixture, &full);
    fixture_record(fixture, &bare);
    fixture_record(fixture, &plain);
    open_reader(fixture);
    assert_int_equal(read_groups(0), 3);
    assert_int_equal(rows_read[0].id, 1);
    assert_int_equal(rows_read[0].received_at_ms, full.received_at_ms);
    assert_same_columns(STREAM_GROUPS, &rows_read[0].event, &full);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(rows_read[0].event.group.members[i], full.members[i]);
    assert_int_equal(rows_read[1].id, 2);
    assert_same_columns(STREAM_GROUPS, &rows_read[1].event, &bare);
    assert_same_columns(STREAM_GROUPS, &rows_read[2].event, &plain);
    assert_int_equal(read_groups(2), 1);
}

READER_TEST(rejection_is_read_as_it_was_recorded)
{
    struct rejected_callback rejected = {RECEIVED_MS, "192.0.2.1", 1400000000, "Group.Command", "reason", "[\0]", 3};

    fixture_reject(fixture, &rejected);
    fixture_reject(fixture, &rejected);
    open_reader(fixture);
    assert_int_equal(try_to_read(STREAM_REJECTIONS, 1), 0);
    assert_int_equal(count, 1);
    assert_int_equal(rows_read->id, 2);
    assert_same_columns(STREAM_REJECTIONS, &rows_read->event, &rejected);
    assert_int_equal(try_to_read(STREAM_REJECTIONS, 2), 0);
    assert_int_equal(count, 0);
    assert_int_equal(try_to_read(STREAM_REJECTIONS, 3), -ESTALE);
}

READER_TEST(batch_is_limited_by_rows)
{
    free(fixture_query(fixture, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1001) "
                                "INSERT INTO destroyed_group SELECT i, 1, '@TGS#' || i, i, '', '', '', '', NULL, '', "
                                "'', '', 0, NULL FROM n RETURNING id"));
    open_reader(fixture);
    assert_int_equal(read_groups(0), 1000);
    assert_int_equal(rows_read[999].id, 1000);
    assert_int_equal(read_groups(1000), 1);
}

READER_TEST(batch_is_limited_by_bytes_but_has_a_row)
{
    struct destroyed_group group = example_group();
    char *body = calloc(1, 2000000);

    assert_non_null(body);
    memset(body, 'x', 2000000);
    group.body = body;
    group.keep_body = true;
    for (size_t i = 0; i < 4; i++) {
        group.event_time_ms = (int64_t)i;
        group.body_length = i < 2 ? 2000000 : 10;
        fixture_record(fixture, &group);
    }
    open_reader(fixture);
    for (int64_t id = 0; id < 2; id++) {
        assert_int_equal(read_groups(id), 1);
        assert_int_equal(rows_read->event.group.body_length, 2000000);
    }
    assert_int_equal(read_groups(2), 2);
    free(body);
}

// The caller's rows are copies: while the caller uses them, a checkpoint can copy the whole log into the database and
// truncate the log.
READER_TEST(reader_blocks_no_checkpoint)
{
    fixture_record_times(fixture, 1, 3);
    open_reader(fixture);
    assert_int_equal(read_groups(0), 3);
    assert_query(fixture, "PRAGMA wal_checkpoint(TRUNCATE)", "0");
    assert_int_equal(fixture_size(fixture, "-wal"), 0);
    assert_string_equal(rows_read[2].event.group.members[1], "tom");
    fixture_record_times(fixture, 4, 5);
    assert_int_equal(assert_next(3, 2), 5);
    fixture_close(fixture);
    assert_int_equal(assert_next(3, 2), 5);
    fixture_open(fixture);
    fixture_record_times(fixture, 6, 6);
    assert_int_equal(assert_next(5, 1), 6);
}

#define EVENTS 3000

static void *record_events(void *context)
{
    static struct destroyed_group groups[EVENTS];
    static struct commit commits[EVENTS];

    example_commits(groups, commits, EVENTS, 0);
    for (size_t at = 0, piece; at < EVENTS; at += piece) {
        piece = at % 7 + 1 < EVENTS - at ? at % 7 + 1 : EVENTS - at;
        fixture_commit(context, &commits[at], piece);
    }
    return NULL;
}

READER_TEST(misses_no_row_of_a_concurrent_writer)
{
    size_t reads = 0;
    int64_t last = 0;
    pthread_t writer;

    open_reader(fixture);
    assert_int_equal(pthread_create(&writer, NULL, record_events, fixture), 0);
    while (last < EVENTS) {
        (void)read_groups(last);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(rows_read[i].id, ++last);
            assert_int_equal(rows_read[i].event.group.member_count, 3);
        }
        if (count == 0)
            store_reader_wait(reader);
        else
            reads++;
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_true(reads > 1);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "3000");
}

static void move_files(const struct fixture *fixture, const char *to)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    const struct path target = path_with(fixture->directory, to);

    for (size_t i = 0; i < COUNT(suffixes); i++)
        assert_int_equal(
            rename(path_with(fixture->database, suffixes[i]).text, path_with(target.text, suffixes[i]).text), 0);
}

READER_TEST(replaced_database_is_read_to_its_end_and_then_reported)
{
    fixture_record_times(fixture, 1, 2);
    open_reader(fixture);
    fixture_record_times(fixture, 3, 3);
    fixture_close(fixture);
    assert_true(store_reader_is_in_place(reader));
    move_files(fixture, "/old.db");
    fixture_open(fixture);
    fixture_record_times(fixture, 1, 5);
    assert_int_equal(read_groups(2), 1);
    assert_int_equal(try_to_read(STREAM_GROUPS, 3), -ESTALE);
    assert_non_null(strstr(error.text, "moved away or replaced"));
    assert_false(store_reader_is_in_place(reader));
}

READER_TEST(rejects_an_id_that_was_never_assigned)
{
    open_reader(fixture);
    assert_int_equal(try_to_read(STREAM_GROUPS, 1), -ESTALE);
    fixture_record_times(fixture, 1, 2);
    assert_int_equal(assert_next(2, 0), 2);
    assert_int_equal(try_to_read(STREAM_GROUPS, 3), -ESTALE);
    assert_non_null(strstr(error.text, "backup"));
    free(fixture_query(fixture, "DELETE FROM destroyed_group"));
    assert_int_equal(read_groups(2), 0); // the id was assigned before its row was deleted
}

// This peer_handler opens the store and records two more events. At the message "end", it closes the store.
static void continue_store(struct fixture *fixture, const char *message)
{
    if (strcmp(message, "end") == 0) {
        fixture_close(fixture);
        return;
    }
    fixture_open(fixture);
    fixture_record_times(fixture, 3, 4);
}

// Opens the reader, and lets the peer create new side files. An operator may delete the old ones while the daemon is
// stopped, for example to restore the database file from a backup.
static void replace_side_files(struct fixture *fixture, struct peer *peer)
{
    fixture_open(fixture);
    fixture_record_times(fixture, 1, 2);
    open_reader(fixture);
    fixture_close(fixture);
    assert_int_equal(unlink(path_with(fixture->database, "-wal").text), 0);
    assert_int_equal(unlink(path_with(fixture->database, "-shm").text), 0);
    peer_call(peer, "begin");
}

FIXTURE_TEST_WITH(reconnects_to_new_side_files, fixture_setup, close_reader)
{
    struct peer second = peer_start(fixture, continue_store);

    replace_side_files(fixture, &second);
    assert_int_equal(assert_next(2, 2), 4);
    peer_call(&second, "end");
    peer_stop(&second);
}

// This peer_handler makes the database one of a newer version, which creates new side files.
static void make_newer(struct fixture *fixture, const char *message)
{
    (void)message;
    fixture_execute(fixture, "PRAGMA user_version = 2");
}

FIXTURE_TEST_WITH(reports_why_it_cannot_reconnect, fixture_setup, close_reader)
{
    struct peer second = peer_start(fixture, make_newer);

    replace_side_files(fixture, &second);
    assert_int_equal(try_to_read(STREAM_GROUPS, 2), -EINVAL);
    assert_non_null(strstr(error.text, "newer"));
    peer_stop(&second);
}

FIXTURE_TEST_WITH(is_not_in_place_after_it_lost_its_connection, fixture_setup, close_reader)
{
    struct peer second = peer_start(fixture, continue_store);
    struct path journal = path_with(fixture->database, "-journal");

    replace_side_files(fixture, &second);
    assert_int_equal(mkdir(journal.text, 0700), 0);
    assert_int_equal(try_to_read(STREAM_GROUPS, 2), -EINVAL);
    assert_non_null(strstr(error.text, "not a regular file"));
    assert_false(store_reader_is_in_place(reader));
    assert_int_equal(rmdir(journal.text), 0);
    peer_call(&second, "end");
    peer_stop(&second);
}

FIXTURE_TEST(rejects_databases_of_other_programs)
{
    static const struct {
        const char *sql;
        int code;
        const char *word;
    } rows[] = {
        {NULL, -ENOENT, "first start"},
        {"VACUUM", -ENODATA, "empty"},
        {"CREATE TABLE note (text)", -EINVAL, "another program"},
        {"PRAGMA user_version = 2", -EINVAL, "newer"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {

        if (rows[i].sql)
            fixture_execute(fixture, rows[i].sql);
        assert_int_equal(store_reader_open(fixture->database, &reader, &error), rows[i].code);
        assert_null(reader);
        if (!strstr(error.text, rows[i].word) || !strstr(error.text, fixture->database))
            fail_msg("row %zu: %s", i, error.text);
    }
    store_reader_close(NULL);
}

FIXTURE_TEST_WITH(notices_a_newer_database_while_it_is_open, fixture_setup, close_reader)
{
    const struct recorded_row *rows;
    int64_t ids[STREAM_COUNT];
    size_t read;

    fixture_open(fixture);
    fixture_record_times(fixture, 1, 1);
    open_reader(fixture);
    fixture_execute(fixture, "PRAGMA user_version = 2");
    assert_int_equal(store_reader_read_newest_ids(reader, ids, &error), -EINVAL);
    assert_non_null(strstr(error.text, "newer"));
    assert_int_equal(store_reader_read(reader, STREAM_GROUPS, 0, &rows, &read, &error), -EINVAL);
    assert_non_null(strstr(error.text, "newer"));
}

FIXTURE_TEST(reports_why_a_path_cannot_be_read)
{
    static const struct {
        const char *path; // in the directory
        int code;
        const char *word;
    } rows[] = {
        {"/below", -EINVAL, "not a regular file"},
        {"/loop.db", -ELOOP, "symbolic links"},
        {"/sealed.db", -EACCES, "cannot be read: Permission denied; become a member of the group"},
        {"/below/callbacks.db", -EACCES, "Permission denied; become a member of the group"},
    };
    const bool is_root = geteuid() == 0; // root may read everything
    const struct path loop = path_with(fixture->directory, "/loop.db");
    const struct path sealed = path_with(fixture->directory, "/sealed.db");

    assert_int_equal(mkdir(path_with(fixture->directory, "/below").text, 0), 0);
    assert_int_equal(symlink(loop.text, loop.text), 0);
    assert_int_equal(close(open(sealed.text, O_CREAT | O_WRONLY, 0)), 0);
    assert_int_equal(chmod(fixture->directory, 0755), 0);
    assert_true(!is_root || seteuid(65534) == 0);
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct path path = path_with(fixture->directory, rows[i].path);

        assert_int_equal(store_reader_open(path.text, &reader, &error), rows[i].code);
        if (!strstr(error.text, rows[i].word) || !strstr(error.text, path.text))
            fail_msg("row %zu: %s", i, error.text);
    }
    assert_true(!is_root || seteuid(0) == 0);
}

// Replaces the byte at the offset in the database file with `to`. The byte must be `from` before.
static void patch(const struct fixture *fixture, long offset, unsigned char from, unsigned char to)
{
    FILE *file = fopen(fixture->database, "r+b");

    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fgetc(file), from);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fputc(to, file), to);
    assert_int_equal(fclose(file), 0);
}

// Returns the offset of the first page of a table in the database file. The query returns the number of the page.
static long offset_of_page(const struct fixture *fixture, const char *query)
{
    char *root = fixture_query(fixture, query);
    long offset = (strtol(root, NULL, 10) - 1) * 4096;

    free(root);
    return offset;
}

// Returns the offset of the id of the first row of destroyed_group in the database file. The array of cell pointers
// follows the 8 bytes of the page's header, and a cell starts with the length of the row in one or two bytes.
static long offset_of_first_id(const struct fixture *fixture)
{
    long page = offset_of_page(fixture, "SELECT rootpage FROM sqlite_schema WHERE name = 'destroyed_group'"), cell;
    FILE *file = fopen(fixture->database, "rb");

    assert_non_null(file);
    assert_int_equal(fseek(file, page + 8, SEEK_SET), 0);
    cell = fgetc(file) << 8;
    cell = page + (cell | fgetc(file));
    assert_int_equal(fseek(file, cell, SEEK_SET), 0);
    cell += fgetc(file) < 0x80 ? 1 : 2;
    assert_int_equal(fclose(file), 0);
    return cell;
}

READER_TEST(ids_that_do_not_grow_are_an_error)
{
    fixture_record_times(fixture, 1, 3);
    fixture_close(fixture);
    patch(fixture, offset_of_first_id(fixture), 1, 3);
    open_reader(fixture);
    assert_int_equal(try_to_read(STREAM_GROUPS, 0), -EIO);
    assert_non_null(strstr(error.text, "id 2 follows id 3"));
}

READER_TEST(damaged_members_are_an_error)
{
    const unsigned char index_leaf = 10; // the type of the page, its first byte

    fixture_record_times(fixture, 1, 1);
    fixture_close(fixture);
    patch(fixture, offset_of_page(fixture, "SELECT rootpage FROM sqlite_schema WHERE name = 'destroyed_group_member'"),
          index_leaf, 0xff);
    open_reader(fixture);
    assert_int_equal(try_to_read(STREAM_GROUPS, 0), -EIO);
}

TEST_MAIN(NULL, NULL)
