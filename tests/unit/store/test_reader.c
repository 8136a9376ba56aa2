// Reading by id while the store records: the reader misses and repeats no row, and never keeps the store from writing.
#include <errno.h>
#include <fcntl.h>

#include "imcallbackd/store/reader.h"
#include "peer_process.h"

static struct store_reader *open_reader(const struct fixture *fixture)
{
    struct store_reader *reader = NULL;
    struct error error = {""};

    if (store_reader_open(fixture->database, &reader, &error) < 0)
        fail_msg("%s", error.text);
    return reader;
}

static size_t read_groups(struct store_reader *reader, int64_t after_id, const struct recorded_row **ret_groups)
{
    struct error error = {""};
    size_t count;

    if (store_reader_read(reader, STREAM_GROUPS, after_id, ret_groups, &count, &error) < 0)
        fail_msg("%s", error.text);
    return count;
}

// Asserts that exactly `count` events follow after_id, each with its id as the event time. Returns the last id.
static int64_t assert_next(struct store_reader *reader, int64_t after_id, size_t count)
{
    const struct recorded_row *groups;

    assert_int_equal(read_groups(reader, after_id, &groups), count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(groups[i].id, after_id + 1 + (int64_t)i);
        assert_int_equal(groups[i].event.group.event_time_ms, groups[i].id);
    }
    assert_int_equal(read_groups(reader, after_id + (int64_t)count, &groups), 0);
    return after_id + (int64_t)count;
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

STORE_TEST(newest_ids_of_both_streams_are_known)
{
    struct rejected_callback rejected = {.remote_address = "", .callback_command = "", .reason = "", .body = ""};
    struct destroyed_group group = example_group();
    int64_t ids[STREAM_COUNT] = {-1, -1};
    struct error error = {""};
    struct store_reader *reader = open_reader(fixture);

    assert_int_equal(store_reader_read_newest_ids(reader, ids, &error), 0);
    assert_true(ids[STREAM_GROUPS] == 0 && ids[STREAM_REJECTIONS] == 0);
    assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    assert_int_equal(store_reader_read_newest_ids(reader, ids, &error), 0);
    assert_true(ids[STREAM_GROUPS] == 1 && ids[STREAM_REJECTIONS] == 2);
    store_reader_close(reader);
}

STORE_TEST(group_is_read_as_it_was_recorded)
{
    struct destroyed_group full = example_group(), bare = example_group(), plain = example_group();
    const struct recorded_row *groups;
    struct store_reader *reader;

    full.keep_body = bare.keep_body = true;
    bare.has_event_time = bare.has_member_list = false;
    bare.group_id = "@TGS#_community";
    bare.name = "";
    bare.member_count = plain.member_count = 0;
    plain.event_time_ms++;
    fixture_record(fixture, &full);
    fixture_record(fixture, &bare);
    fixture_record(fixture, &plain);
    reader = open_reader(fixture);
    assert_int_equal(read_groups(reader, 0, &groups), 3);
    assert_int_equal(groups[0].id, 1);
    assert_int_equal(groups[0].received_at_ms, full.received_at_ms);
    assert_same_columns(STREAM_GROUPS, &groups[0].event, &full);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(groups[0].event.group.members[i], full.members[i]);
    assert_int_equal(groups[1].id, 2);
    assert_same_columns(STREAM_GROUPS, &groups[1].event, &bare);
    assert_same_columns(STREAM_GROUPS, &groups[2].event, &plain);
    assert_int_equal(read_groups(reader, 2, &groups), 1);
    store_reader_close(reader);
}

STORE_TEST(rejection_is_read_as_it_was_recorded)
{
    struct rejected_callback rejected = {RECEIVED_MS, "192.0.2.1", 1400000000, "Group.Command", "reason", "[\0]", 3};
    const struct recorded_row *found;
    struct store_reader *reader;
    struct error error;
    size_t count;

    fixture_reject(fixture, &rejected);
    fixture_reject(fixture, &rejected);
    reader = open_reader(fixture);
    assert_int_equal(store_reader_read(reader, STREAM_REJECTIONS, 1, &found, &count, &error), 0);
    assert_int_equal(count, 1);
    assert_int_equal(found->id, 2);
    assert_same_columns(STREAM_REJECTIONS, &found->event, &rejected);
    assert_int_equal(store_reader_read(reader, STREAM_REJECTIONS, 2, &found, &count, &error), 0);
    assert_int_equal(count, 0);
    assert_int_equal(store_reader_read(reader, STREAM_REJECTIONS, 3, &found, &count, &error), -ESTALE);
    store_reader_close(reader);
}

STORE_TEST(batch_is_limited_by_rows)
{
    const struct recorded_row *groups;
    struct store_reader *reader;

    free(fixture_query(fixture, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1001) "
                                "INSERT INTO destroyed_group SELECT i, 1, '@TGS#' || i, i, '', '', '', '', NULL, '', "
                                "'', '', 0, NULL FROM n RETURNING id"));
    reader = open_reader(fixture);
    assert_int_equal(read_groups(reader, 0, &groups), 1000);
    assert_int_equal(groups[999].id, 1000);
    assert_int_equal(read_groups(reader, 1000, &groups), 1);
    store_reader_close(reader);
}

STORE_TEST(batch_is_limited_by_bytes_but_has_a_row)
{
    struct destroyed_group group = example_group();
    const struct recorded_row *groups;
    char *body = calloc(1, 2000000);
    struct store_reader *reader;

    assert_non_null(body);
    memset(body, 'x', 2000000);
    group.body = body;
    group.keep_body = true;
    for (size_t i = 0; i < 4; i++) {
        group.event_time_ms = (int64_t)i;
        group.body_length = i < 2 ? 2000000 : 10;
        fixture_record(fixture, &group);
    }
    reader = open_reader(fixture);
    for (int64_t id = 0; id < 2; id++) {
        assert_int_equal(read_groups(reader, id, &groups), 1);
        assert_int_equal(groups->event.group.body_length, 2000000);
    }
    assert_int_equal(read_groups(reader, 2, &groups), 2);
    store_reader_close(reader);
    free(body);
}

// The caller's rows are copies: while the caller uses them, the store can write the whole log back and truncate it.
STORE_TEST(reader_blocks_no_checkpoint)
{
    const struct recorded_row *groups;
    struct store_reader *reader;

    fixture_record_times(fixture, 1, 3);
    reader = open_reader(fixture);
    assert_int_equal(read_groups(reader, 0, &groups), 3);
    assert_query(fixture, "PRAGMA wal_checkpoint(TRUNCATE)", "0");
    assert_int_equal(fixture_size(fixture, "-wal"), 0);
    assert_string_equal(groups[2].event.group.members[1], "tom");
    fixture_record_times(fixture, 4, 5);
    assert_int_equal(assert_next(reader, 3, 2), 5);
    fixture_close(fixture);
    assert_int_equal(assert_next(reader, 3, 2), 5);
    fixture_open(fixture);
    fixture_record_times(fixture, 6, 6);
    assert_int_equal(assert_next(reader, 5, 1), 6);
    store_reader_close(reader);
}

#define EVENTS 3000

static void *record_events(void *context)
{
    static struct destroyed_group groups[EVENTS];
    static struct commit commits[EVENTS];

    for (size_t i = 0; i < EVENTS; i++) {
        groups[i] = example_group();
        groups[i].event_time_ms = (int64_t)i;
        commits[i] = (struct commit){.group = &groups[i]};
    }
    for (size_t at = 0, piece; at < EVENTS; at += piece) {
        piece = at % 7 + 1 < EVENTS - at ? at % 7 + 1 : EVENTS - at;
        fixture_commit(context, &commits[at], piece);
    }
    return NULL;
}

STORE_TEST(misses_no_row_of_a_concurrent_writer)
{
    const struct recorded_row *groups;
    struct store_reader *reader = open_reader(fixture);
    size_t reads = 0;
    int64_t last = 0;
    pthread_t writer;

    assert_int_equal(pthread_create(&writer, NULL, record_events, fixture), 0);
    while (last < EVENTS) {
        size_t count = read_groups(reader, last, &groups);

        for (size_t i = 0; i < count; i++) {
            assert_int_equal(groups[i].id, ++last);
            assert_int_equal(groups[i].event.group.member_count, 3);
        }
        if (count == 0)
            store_reader_wait(reader);
        else
            reads++;
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_true(reads > 1);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "3000");
    store_reader_close(reader);
}

static void move_files(const struct fixture *fixture, const char *to)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    const struct path target = path_with(fixture->directory, to);

    for (size_t i = 0; i < COUNT(suffixes); i++)
        assert_int_equal(
            rename(path_with(fixture->database, suffixes[i]).text, path_with(target.text, suffixes[i]).text), 0);
}

STORE_TEST(replaced_database_is_read_to_its_end_and_then_reported)
{
    const struct recorded_row *groups;
    struct store_reader *reader;
    struct error error;
    size_t count;

    fixture_record_times(fixture, 1, 2);
    reader = open_reader(fixture);
    fixture_record_times(fixture, 3, 3);
    fixture_close(fixture);
    move_files(fixture, "/old.db");
    fixture_open(fixture);
    fixture_record_times(fixture, 1, 5);
    assert_int_equal(read_groups(reader, 2, &groups), 1);
    assert_int_equal(store_reader_read(reader, STREAM_GROUPS, 3, &groups, &count, &error), -ESTALE);
    assert_non_null(strstr(error.text, "moved away or replaced"));
    store_reader_close(reader);
}

STORE_TEST(rejects_an_id_that_was_never_assigned)
{
    const struct recorded_row *groups;
    struct store_reader *reader = open_reader(fixture);
    struct error error;
    size_t count;

    assert_int_equal(store_reader_read(reader, STREAM_GROUPS, 1, &groups, &count, &error), -ESTALE);
    fixture_record_times(fixture, 1, 2);
    assert_int_equal(assert_next(reader, 2, 0), 2);
    assert_int_equal(store_reader_read(reader, STREAM_GROUPS, 3, &groups, &count, &error), -ESTALE);
    assert_non_null(strstr(error.text, "backup"));
    free(fixture_query(fixture, "DELETE FROM destroyed_group"));
    assert_int_equal(read_groups(reader, 2, &groups), 0); // the id was assigned
    store_reader_close(reader);
}

// Opens the store and records two more events, or closes the store.
static void continue_store(struct fixture *fixture, const char *message)
{
    if (strcmp(message, "end") == 0) {
        fixture_close(fixture);
        return;
    }
    fixture_open(fixture);
    fixture_record_times(fixture, 3, 4);
}

// The operator restored the database file alone while the daemon was stopped.
FIXTURE_TEST(reconnects_to_new_side_files)
{
    struct peer second = peer_start(fixture, continue_store);
    struct store_reader *reader;

    fixture_open(fixture);
    fixture_record_times(fixture, 1, 2);
    reader = open_reader(fixture);
    fixture_close(fixture);
    assert_int_equal(unlink(path_with(fixture->database, "-wal").text), 0);
    assert_int_equal(unlink(path_with(fixture->database, "-shm").text), 0);
    peer_call(&second, "begin");
    assert_int_equal(assert_next(reader, 2, 2), 4);
    peer_call(&second, "end");
    peer_stop(&second);
    store_reader_close(reader);
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
        struct store_reader *reader = NULL;
        struct error error = {""};

        if (rows[i].sql)
            fixture_execute(fixture, rows[i].sql);
        assert_int_equal(store_reader_open(fixture->database, &reader, &error), rows[i].code);
        assert_null(reader);
        if (!strstr(error.text, rows[i].word) || !strstr(error.text, fixture->database))
            fail_msg("row %zu: %s", i, error.text);
    }
    store_reader_close(NULL);
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
        struct store_reader *reader = NULL;
        struct error error = {""};

        assert_int_equal(store_reader_open(path.text, &reader, &error), rows[i].code);
        if (!strstr(error.text, rows[i].word) || !strstr(error.text, path.text))
            fail_msg("row %zu: %s", i, error.text);
    }
    assert_true(!is_root || seteuid(0) == 0);
}

TEST_MAIN(NULL, NULL)
