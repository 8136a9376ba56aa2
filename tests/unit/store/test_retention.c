// Tests that the store deletes what is older than the retention and nothing else, and that the file shrinks.
#include "imcallbackd/base/clock.h"
#include "imcallbackd/store/shipped.h"
#include "store_fixture.h"

#define DAY_MS INT64_C(86400000)

enum { MEMBERS = 400, PAUSE_MS = 1000 };

// Records `count` events with MEMBERS members each. The event with index i was received i seconds after the first.
static void record_run(struct fixture *fixture, int64_t first_received_ms, size_t count)
{
    struct destroyed_group *groups = calloc(count, sizeof *groups);
    struct commit *commits = calloc(count, sizeof *commits);
    static const char *members[MEMBERS];

    assert_non_null(groups);
    assert_non_null(commits);
    for (size_t i = 0; i < MEMBERS; i++)
        members[i] = "a member with a name of some length";
    example_commits(groups, commits, count, 0);
    for (size_t i = 0; i < count; i++) {
        groups[i].received_at_ms = groups[i].event_time_ms = first_received_ms + (int64_t)i * 1000;
        groups[i].members = members;
        groups[i].member_count = MEMBERS;
    }
    fixture_commit(fixture, commits, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(commits[i].result, COMMIT_RECORDED);
    free(commits);
    free(groups);
}

static void reject_at(struct fixture *fixture, int64_t received_at_ms)
{
    struct rejected_callback rejected = example_rejected();

    rejected.received_at_ms = received_at_ms;
    assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
}

STORE_TEST(deletes_old_rows_and_keeps_new_ones)
{
    int64_t now_ms = clock_realtime_ms();

    record_run(fixture, now_ms + 400 * DAY_MS, 1); // received while the clock was wrong
    record_run(fixture, now_ms - 20 * DAY_MS, 300);
    reject_at(fixture, now_ms - 20 * DAY_MS);
    reject_at(fixture, now_ms);
    record_run(fixture, now_ms - 5 * DAY_MS, 3);
    store_set_retention(fixture->store, 30 * DAY_MS);
    record_run(fixture, now_ms - 4 * DAY_MS, 1);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "305");

    store_set_retention(fixture->store, 10 * DAY_MS);
    record_run(fixture, now_ms - 3 * DAY_MS, 1); // under load
    await_query(fixture, "SELECT group_concat(id) FROM (SELECT id FROM destroyed_group ORDER BY id)",
                "1,302,303,304,305,306");
    assert_query(fixture,
                 "SELECT group_concat(id) FROM (SELECT DISTINCT destroyed_group_id AS id FROM destroyed_group_member "
                 "ORDER BY 1)",
                 "1,302,303,304,305,306");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group_member", "2400");
    await_query(fixture, "SELECT group_concat(id) FROM rejected_callback", "2");

    record_run(fixture, now_ms, 1);
    store_set_retention(fixture->store, DAY_MS);
    await_query(fixture, "SELECT group_concat(id) FROM (SELECT id FROM destroyed_group ORDER BY id)", "1,307");
    assert_query(fixture, "PRAGMA integrity_check", "ok");
}

// According to the clock, every event is old, so the clock may be wrong. The age then counts from one day after the
// newest event.
STORE_TEST(deletes_little_if_the_clock_is_ahead)
{
    int64_t now_ms = clock_realtime_ms();

    record_run(fixture, now_ms - 512 * DAY_MS, 2);
    record_run(fixture, now_ms - 500 * DAY_MS, 3);
    store_set_retention(fixture->store, 10 * DAY_MS);
    await_query(fixture, "SELECT group_concat(id) FROM (SELECT id FROM destroyed_group ORDER BY id)", "3,4,5");
    fixture_close(fixture);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "3");
}

// Waits until the number of events has not changed for PAUSE_MS.
static void await_pause(const struct fixture *fixture)
{
    int64_t deadline_ms = clock_monotonic_ms() + TIMEOUT_S * INT64_C(1000), same_since_ms = clock_monotonic_ms();
    char *last = fixture_query(fixture, "SELECT count(*) FROM destroyed_group");

    while (clock_monotonic_ms() - same_since_ms < PAUSE_MS) {
        char *next = fixture_query(fixture, "SELECT count(*) FROM destroyed_group");

        if (strcmp(last, next) != 0)
            same_since_ms = clock_monotonic_ms();
        free(last);
        last = next;
        assert_true(clock_monotonic_ms() < deadline_ms);
        (void)usleep(10000);
    }
    free(last);
}

// Deletions go into the log, and a reader blocks the checkpoint that would let the log start over, so the deletions
// must pause.
STORE_TEST(pauses_while_a_reader_blocks_the_checkpoint)
{
    int64_t now_ms = clock_realtime_ms();
    sqlite3 *reader;

    record_run(fixture, now_ms - 20 * DAY_MS, 2000);
    fixture_close(fixture);
    fixture_open(fixture);
    record_run(fixture, now_ms, 1);
    assert_int_equal(sqlite3_open(fixture->database, &reader), SQLITE_OK);
    assert_int_equal(sqlite3_db_config(reader, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(reader, "BEGIN; SELECT id FROM destroyed_group", NULL, NULL, NULL), SQLITE_OK);
    store_set_retention(fixture->store, 10 * DAY_MS);
    await_query(fixture, "SELECT count(*) < 2001 FROM destroyed_group", "1");
    await_pause(fixture);
    assert_query(fixture, "SELECT count(*) > 100 FROM destroyed_group", "1");
    assert_true(fixture_size(fixture, "-wal") < (off_t)16 << 20);
    assert_int_equal(sqlite3_exec(reader, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(reader), SQLITE_OK);
    await_query(fixture, "SELECT count(*) FROM destroyed_group", "1");
}

STORE_TEST(returns_space_to_the_file_system)
{
    int64_t now_ms = clock_realtime_ms();
    off_t full;

    record_run(fixture, now_ms - 20 * DAY_MS, 2000);
    record_run(fixture, now_ms, 1);
    fixture_close(fixture);
    full = fixture_size(fixture, "");
    assert_true(full > (off_t)32 << 20);
    fixture_open(fixture);
    store_set_retention(fixture->store, 10 * DAY_MS);
    await_query(fixture, "SELECT count(*) FROM destroyed_group", "1");
    await_query(fixture, "SELECT freelist_count <= 1024 FROM pragma_freelist_count", "1");
    fixture_close(fixture);
    assert_true(fixture_size(fixture, "") < full / 4);
    assert_query(fixture, "PRAGMA integrity_check", "ok");
}

STORE_TEST(subtracts_deleted_rows_from_the_limit_of_rejected_callbacks)
{
    static char body[4 * 1024 * 1024];
    int64_t now_ms = clock_realtime_ms();
    struct rejected_callback rejected = example_rejected();

    rejected.received_at_ms = now_ms - 20 * DAY_MS;
    rejected.body = body;
    rejected.body_length = sizeof body;
    for (size_t i = 0; i < 15; i++)
        assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    store_set_retention(fixture->store, 10 * DAY_MS);
    await_query(fixture, "SELECT count(*) FROM rejected_callback", "0");
    rejected.received_at_ms = now_ms;
    for (size_t i = 0; i < 15; i++)
        assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    assert_query(fixture, "SELECT count(*) FROM rejected_callback", "15"); // the limit has dropped none
}

// The store deletes only rows up to the ids in the note. If the note does not exist, the store deletes no rows.
STORE_TEST(keeps_rows_that_are_not_shipped)
{
    int64_t now_ms = clock_realtime_ms();
    const struct shipped shipped = {200, 1};
    struct error error = {""};
    char note[160];

    (void)snprintf(note, sizeof note, "%s/shipped", fixture->directory);
    record_run(fixture, now_ms - 20 * DAY_MS, 300);
    reject_at(fixture, now_ms - 20 * DAY_MS);
    reject_at(fixture, now_ms - 20 * DAY_MS);
    record_run(fixture, now_ms, 1);
    assert_int_equal(store_set_shipped_files(fixture->store, (const char *const[]){NULL, note}), 0);
    store_set_retention(fixture->store, 10 * DAY_MS);
    record_run(fixture, now_ms + 1000, 1); // gives the writer thread time to apply the retention
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "302");

    assert_int_equal(shipped_write(note, fixture->database, &shipped, &error), 0);
    store_set_retention(fixture->store, 9 * DAY_MS);
    await_query(fixture, "SELECT min(id) FROM destroyed_group", "201");
    await_query(fixture, "SELECT min(id) FROM rejected_callback", "2");
    record_run(fixture, now_ms + 2000, 1);
    assert_query(fixture, "SELECT min(id) FROM destroyed_group", "201");

    assert_int_equal(store_set_shipped_files(fixture->store, (const char *const[]){NULL, NULL}), 0);
    store_set_retention(fixture->store, 8 * DAY_MS);
    await_query(fixture, "SELECT min(id) FROM destroyed_group", "301");
}

STORE_TEST(keeps_an_event_whose_members_cannot_be_deleted)
{
    int64_t now_ms = clock_realtime_ms();

    record_run(fixture, now_ms - 20 * DAY_MS, 1);
    record_run(fixture, now_ms, 1);
    free(fixture_query(fixture, "CREATE TRIGGER keep BEFORE DELETE ON destroyed_group_member"
                                " BEGIN SELECT RAISE(ABORT, 'kept'); END"));
    store_set_retention(fixture->store, 10 * DAY_MS);
    for (int64_t i = 1; i <= 2; i++)
        record_run(fixture, now_ms + i * 1000, 1); // gives the writer thread time to apply the retention
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "4");
}

// Neither service may lose a row because the other one has already shipped it.
STORE_TEST(keeps_rows_that_one_of_two_services_has_not_taken)
{
    int64_t now_ms = clock_realtime_ms();
    const struct shipped little = {100, INT64_MAX}, much = {200, 1};
    struct error error = {""};
    char notes[2][160];

    for (size_t i = 0; i < COUNT(notes); i++)
        (void)snprintf(notes[i], sizeof notes[i], "%s/shipped%zu", fixture->directory, i);
    record_run(fixture, now_ms - 20 * DAY_MS, 300);
    reject_at(fixture, now_ms - 20 * DAY_MS);
    reject_at(fixture, now_ms - 20 * DAY_MS);
    record_run(fixture, now_ms, 1);
    assert_int_equal(shipped_write(notes[0], fixture->database, &much, &error), 0);
    assert_int_equal(store_set_shipped_files(fixture->store, (const char *const[]){notes[0], notes[1]}), 0);
    store_set_retention(fixture->store, 10 * DAY_MS);
    record_run(fixture, now_ms + 1000, 1); // gives the writer thread time to apply the retention
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "302");

    assert_int_equal(shipped_write(notes[1], fixture->database, &little, &error), 0);
    store_set_retention(fixture->store, 9 * DAY_MS);
    await_query(fixture, "SELECT min(id) FROM destroyed_group", "101");
    await_query(fixture, "SELECT min(id) FROM rejected_callback", "2");
    record_run(fixture, now_ms + 2000, 1);
    assert_query(fixture, "SELECT min(id) FROM destroyed_group", "101");
}

TEST_MAIN(NULL, NULL)
