// Tests the store when memory runs out. The store fails to open with an error, or fails the commits that it cannot
// record. Every commit that the store reports as recorded is in the database with all its rows, and a failed commit
// leaves nothing that breaks a later start.
#include "../unit/store/store_fixture.h"
#include "heap_fault.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/store/backup.h"
#include "imcallbackd/store/reader.h"

// Thousands of syncs would take minutes, and other tests cover the disk.
int fsync(int fd)
{
    (void)fd;
    return 0;
}

int fdatasync(int fd)
{
    return fsync(fd);
}

// The commits that the writer thread gets. Each result must be the expected one or COMMIT_FAILED; judge_recording() has
// the only exception.
enum { FRESH, REPEATED, CONFLICT, UNTIMED, UNTIMED_AGAIN, REJECTED, COMMITS };

enum { MEMBERS = 12, BODY_BYTES = 20000 }; // sizes of FRESH: more members than one INSERT takes, more bytes than a page

static const enum commit_result expected[COMMITS] = {
    [FRESH] = COMMIT_RECORDED,   [REPEATED] = COMMIT_REPEATED,      [CONFLICT] = COMMIT_CONFLICT,
    [UNTIMED] = COMMIT_RECORDED, [UNTIMED_AGAIN] = COMMIT_REPEATED, [REJECTED] = COMMIT_RECORDED,
};

static struct destroyed_group groups[REJECTED];
static struct commit commits[COMMITS];
static char long_body[BODY_BYTES], long_member[BODY_BYTES];

static const struct rejected_callback rejected = {
    .received_at_ms = RECEIVED_MS,
    .remote_address = long_member,
    .sdk_appid = 1400000000,
    .callback_command = CALLBACK_COMMAND,
    .reason = "not understood",
    .body = "{",
    .body_length = 1,
};

static void fill_commits(void)
{
    static const char *members[MEMBERS];

    memset(long_body, 'x', sizeof long_body);
    memset(long_member, 'x', sizeof long_member - 1);
    for (size_t i = 0; i < MEMBERS; i++)
        members[i] = "a member of some length, so that it does not fit into what SQLite has at hand";
    members[MEMBERS - 1] = long_member; // reading this member takes a separate allocation
    for (size_t i = 0; i < REJECTED; i++) {
        groups[i] = example_group();
        commits[i] = (struct commit){.group = &groups[i]};
    }
    commits[REJECTED] = (struct commit){.rejected = &rejected};
    groups[FRESH].group_id = "fresh";
    groups[FRESH].members = members;
    groups[FRESH].member_count = MEMBERS;
    groups[FRESH].body = long_body;
    groups[FRESH].body_length = sizeof long_body;
    groups[FRESH].keep_body = true;
    groups[CONFLICT].name = "another";
    for (size_t i = UNTIMED; i <= UNTIMED_AGAIN; i++) {
        groups[i].group_id = "untimed";
        groups[i].has_event_time = false;
        groups[i].keep_body = true;
    }
}

static void remove_files(void *context)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    struct fixture *fixture = context;

    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        char path[192];

        (void)snprintf(path, sizeof path, "%s%s", fixture->database, suffixes[i]);
        (void)remove(path);
    }
    fixture->error.text[0] = '\0';
}

// Creates a store with the event that REPEATED and CONFLICT refer to.
static void make_store(void *context)
{
    struct fixture *fixture = context;
    struct destroyed_group group = example_group();

    remove_files(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    fill_commits();
}

static void make_closed_store(void *context)
{
    make_store(context);
    fixture_close(context);
}

static void try_to_open(void *context)
{
    struct fixture *fixture = context;

    if (fixture_try_open(fixture, &fixture->error) < 0)
        fixture->store = NULL;
}

static void judge_opening(void *context, bool met)
{
    struct fixture *fixture = context;
    struct destroyed_group group = example_group();

    if (fixture->error.text[0])
        assert_true(met);
    else
        assert_int_not_equal(fixture_record(fixture, &group), COMMIT_FAILED);
    fixture_close(fixture);
    assert_int_equal(fixture->broken, 0);
    fixture_open(fixture);
    assert_int_not_equal(fixture_record(fixture, &group), COMMIT_FAILED);
    fixture_close(fixture);
    assert_query(fixture, "SELECT group_concat(group_id) FROM destroyed_group", group.group_id);
}

static void record_all(void *context)
{
    fixture_commit(context, commits, COMMITS);
    fixture_close(context);
}

// Checks that the query `whole`, which counts complete rows, and the query `any`, which counts all rows, both return 1.
// If the commit failed, both may also return 0.
static void check_recorded(const struct fixture *fixture, enum commit_result result, const char *whole, const char *any)
{
    char *wholes = fixture_query(fixture, whole), *all = fixture_query(fixture, any);

    if (strcmp(wholes, all) != 0 || (strcmp(wholes, "1") != 0 && (result != COMMIT_FAILED || strcmp(wholes, "0") != 0)))
        fail_msg("result %d, %s: %s, %s: %s", (int)result, whole, wholes, any, all);
    free(wholes);
    free(all);
}

static void judge_recording(void *context, bool met)
{
    struct fixture *fixture = context;
    struct destroyed_group group = example_group();

    for (size_t i = 0; i < COMMITS; i++) {
        // If UNTIMED has failed, UNTIMED_AGAIN is recorded as a new event.
        if (i == UNTIMED_AGAIN && commits[i].result == COMMIT_RECORDED)
            assert_int_equal(commits[UNTIMED].result, COMMIT_FAILED);
        else if (commits[i].result != expected[i] && (!met || commits[i].result != COMMIT_FAILED))
            fail_msg("commit %zu has the result %d", i, (int)commits[i].result);
    }
    assert_int_equal(fixture->broken, 0);
    fixture_open(fixture);
    assert_int_equal(fixture_record(fixture, &group), COMMIT_REPEATED);
    fixture_close(fixture);
    assert_query(fixture, "PRAGMA integrity_check", "ok");
    check_recorded(fixture, commits[FRESH].result,
                   "SELECT count(*) FROM destroyed_group WHERE group_id = 'fresh' AND length(body) = 20000 AND 12 ="
                   " (SELECT count(*) FROM destroyed_group_member WHERE destroyed_group_id = id)",
                   "SELECT count(*) FROM destroyed_group WHERE group_id = 'fresh'");
    check_recorded(fixture, commits[UNTIMED_AGAIN].result == COMMIT_FAILED ? commits[UNTIMED].result : COMMIT_RECORDED,
                   "SELECT count(*) FROM destroyed_group WHERE group_id = 'untimed' AND body IS NOT NULL",
                   "SELECT count(*) FROM destroyed_group WHERE group_id = 'untimed'");
    check_recorded(fixture, commits[CONFLICT].result,
                   "SELECT count(*) FROM rejected_callback WHERE reason ="
                   " 'conflict: recorded as destroyed_group 1 with another name'",
                   "SELECT count(*) FROM rejected_callback WHERE reason LIKE 'conflict%'");
    check_recorded(fixture, commits[REJECTED].result,
                   "SELECT count(*) FROM rejected_callback WHERE reason = 'not understood' AND body = x'7b'",
                   "SELECT count(*) FROM rejected_callback WHERE reason NOT LIKE 'conflict%'");
    assert_query(fixture,
                 "SELECT count(*) FROM destroyed_group_member WHERE destroyed_group_id NOT IN"
                 " (SELECT id FROM destroyed_group)",
                 "0");
}

FIXTURE_TEST(creates_a_store)
{
    const struct fault_scenario scenario = {"a new store", remove_files, try_to_open, judge_opening, false};

    fault_run(&scenario, fixture);
}

FIXTURE_TEST(opens_a_store)
{
    const struct fault_scenario scenario = {"a store", make_closed_store, try_to_open, judge_opening, false};

    fault_run(&scenario, fixture);
}

FIXTURE_TEST(records_a_batch)
{
    const struct fault_scenario scenario = {"a batch", make_store, record_all, judge_recording, false};
    fault_run(&scenario, fixture);
}

// The results of reading or copying everything in the store.
struct reading {
    struct fixture *fixture;
    int result;
    size_t groups, rejections;
    struct error error;
};

static void read_all(void *context)
{
    struct reading *reading = context;
    const struct recorded_row *rejections;
    const struct recorded_row *recorded;
    struct store_reader *reader = NULL;

    reading->groups = reading->rejections = 0;
    reading->result = store_reader_open(reading->fixture->database, &reader, &reading->error);
    if (reading->result == 0)
        reading->result = store_reader_read(reader, STREAM_GROUPS, 0, &recorded, &reading->groups, &reading->error);
    for (size_t i = 0; i < reading->groups && reading->result == 0; i++)
        assert_int_equal(recorded[i].event.group.member_count,
                         strcmp(recorded[i].event.group.group_id, "fresh") ? 3 : MEMBERS);
    if (reading->result == 0)
        reading->result =
            store_reader_read(reader, STREAM_REJECTIONS, 0, &rejections, &reading->rejections, &reading->error);
    for (size_t i = 0; i < reading->rejections && reading->result == 0; i++)
        assert_non_null(rejections[i].event.rejection.remote_address);
    store_reader_close(reader);
}

static void judge_reading(void *context, bool met)
{
    const struct reading *reading = context;

    if (reading->result < 0)
        assert_true(met && strstr(reading->error.text, reading->fixture->database));
    else
        assert_true(reading->groups == 3 && reading->rejections == 2);
}

static void check_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    (void)context;
    assert_true(total_bytes > 0 && done_bytes <= total_bytes);
}

static void copy_all(void *context)
{
    const struct backup_progress progress = {check_progress, NULL};
    struct reading *reading = context;
    char target[192];

    (void)snprintf(target, sizeof target, "%s.copy", reading->fixture->database);
    reading->result = backup_make(reading->fixture->database, target, &progress, &reading->error);
}

static void judge_copy(void *context, bool met)
{
    const struct reading *reading = context;
    char path[192];

    (void)snprintf(path, sizeof path, "%s.copy", reading->fixture->database);
    assert_true(reading->result == 0 || met);
    // Running out of memory must not be reported as damage, as a difference between the copy and the database, or as a
    // cancellation.
    if (reading->result < 0 && !strstr(reading->error.text, "memory") && !strstr(reading->error.text, "SQLite code 7"))
        fail_msg("%s", reading->error.text);
    assert_int_equal(remove(path), reading->result < 0 ? -1 : 0);
    (void)snprintf(path, sizeof path, "%s.copy.partial-%d", reading->fixture->database, (int)getpid());
    assert_int_equal(access(path, F_OK), -1);
}

FIXTURE_TEST(reads_and_copies_a_store)
{
    const struct fault_scenario scenarios[] = {{"a reader", NULL, read_all, judge_reading, false},
                                               {"a copy", NULL, copy_all, judge_copy, false}};
    struct reading reading = {.fixture = fixture};

    make_store(reading.fixture);
    record_all(reading.fixture);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        fault_run(&scenarios[i], &reading);
}

int main(void)
{
    log_configure(LOG_LEVEL_CRIT, LOG_FORMAT_TEXT);      // otherwise each fault would log a line
    (void)sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0); // small allocations come from the heap, too
    return cmocka_run_group_tests(unit_tests, NULL, NULL);
}
