// Tests the state of the delivery: what survives a restart, which files are refused, and that a failed transaction
// changes nothing. tests/fault/test_delivery_state.c tests failures of the file layer.
#include <errno.h>
#include <sys/resource.h>

#include "imcallbackd/store/delivery_state.h"
#include "store_fixture.h"

static char directory[64], path[96];
static const struct cursor start;

static int setup(void **state)
{
    (void)state;
    make_directory(directory, sizeof directory);
    (void)snprintf(path, sizeof path, "%s/state", directory);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    remove_directory(directory);
    return 0;
}

#define STATE_TEST(name) TEST_WITH(name, setup, teardown)

static struct delivery_state *opened(const struct cursor *initial)
{
    struct delivery_state *state = NULL;
    struct error error;

    if (delivery_state_open(path, initial, &state, &error) < 0)
        fail_msg("%s", error.text);
    return state;
}

static struct error refused(int code, const struct cursor *initial)
{
    struct delivery_state *state = NULL;
    struct error error;

    assert_int_equal(delivery_state_open(path, initial, &state, &error), code);
    assert_null(state);
    assert_non_null(strstr(error.text, path));
    return error;
}

static struct waiting_event event(int64_t id)
{
    return (struct waiting_event){.id = id, .group_key = -id, .received_at_ms = 1000 + id};
}

static int apply(struct delivery_state *state, int64_t position_id, const struct delivery_change *changes, size_t count)
{
    const struct cursor position = {position_id, 1000 + position_id};
    struct error error;

    return delivery_state_apply(state, changes, count, &position, 5000, &error);
}

// Takes over the events up to this id, each in a transaction of its own, and leaves them waiting.
static void take_over(struct delivery_state *state, int64_t last_id)
{
    for (int64_t id = delivery_state_position(state).id + 1; id <= last_id; id++)
        assert_int_equal(apply(state, id, &(struct delivery_change){DELIVERY_WAITS, event(id)}, 1), 0);
}

static void assert_waiting(struct delivery_state *state, const int64_t *ids, size_t count)
{
    struct buffer events = {0};
    const struct waiting_event *found;
    struct error error;

    assert_int_equal(delivery_state_read_waiting(state, &events, &error), 0);
    found = (const struct waiting_event *)(const void *)events.data;
    assert_int_equal(events.length, count * sizeof *found);
    for (size_t i = 0; i < count; i++) {
        const struct waiting_event expected = event(ids[i]);

        assert_int_equal(found[i].id, ids[i]);
        assert_int_equal(found[i].group_key, expected.group_key);
        assert_int_equal(found[i].received_at_ms, expected.received_at_ms);
    }
    buffer_finish(&events);
}

STATE_TEST(starts_before_the_first_event_or_where_the_caller_says)
{
    const struct cursor later = {7, 1007};
    struct delivery_state *sender = opened(NULL);

    assert_int_equal(delivery_state_position(sender).id, 0);
    delivery_state_close(sender);
    assert_int_equal(unlink(path), 0);
    (void)unlink(path_with(path, "-wal").text);
    (void)unlink(path_with(path, "-shm").text);
    sender = opened(&later);
    assert_int_equal(delivery_state_position(sender).id, 7);
    assert_int_equal(delivery_state_position(sender).received_at_ms, 1007);
    delivery_state_close(sender);
    assert_non_null(strstr(refused(-EEXIST, &start).text, "--start-at"));
}

STATE_TEST(keeps_what_was_applied)
{
    const int64_t waiting[] = {1, 3};
    struct delivery_state *sender = opened(NULL);
    struct delivery_change changes[] = {
        {DELIVERY_ACCEPTED, event(2)},
        {DELIVERY_SET_ASIDE, event(4)},
        {DELIVERY_WAITS, event(3)},
    };
    int64_t set_aside;
    struct error error;

    take_over(sender, 4);
    changes[2].event.tries = 5;
    assert_int_equal(apply(sender, 4, changes, COUNT(changes)), 0);
    delivery_state_close(sender);
    sender = opened(NULL);
    assert_int_equal(delivery_state_position(sender).id, 4);
    assert_int_equal(delivery_state_position(sender).received_at_ms, 1004);
    assert_waiting(sender, waiting, COUNT(waiting));
    assert_int_equal(delivery_state_count_set_aside(sender, &set_aside, &error), 0);
    assert_int_equal(set_aside, 1);
    delivery_state_close(sender);
}

STATE_TEST(keeps_the_history_of_an_event)
{
    const struct waiting_event failed = {.id = 1,
                                         .group_key = INT64_MIN,
                                         .received_at_ms = 2,
                                         .first_failure_ms = 3,
                                         .first_refusal_ms = 4,
                                         .tries = 5,
                                         .last_status = 503};
    struct delivery_state *sender = opened(NULL);
    struct buffer events = {0};
    struct error error;

    assert_int_equal(apply(sender, 1, &(struct delivery_change){DELIVERY_WAITS, failed}, 1), 0);
    assert_int_equal(delivery_state_read_waiting(sender, &events, &error), 0);
    assert_int_equal(events.length, sizeof failed);
    assert_memory_equal(events.data, &failed, sizeof failed);
    buffer_finish(&events);
    delivery_state_close(sender);
}

STATE_TEST(survives_a_kill_at_any_time_after_apply_returned)
{
    int64_t ids[100];

    for (int64_t id = 1; id <= (int64_t)COUNT(ids); id += 10) {
        pid_t child = start_child();

        if (child == 0) {
            take_over(opened(NULL), id + 9);
            (void)kill(getpid(), SIGKILL);
        }
        assert_int_equal(waitpid(child, NULL, 0), child);
    }
    for (size_t i = 0; i < COUNT(ids); i++)
        ids[i] = (int64_t)i + 1;
    {
        struct delivery_state *sender = opened(NULL);

        assert_waiting(sender, ids, COUNT(ids));
        delivery_state_close(sender);
    }
}

STATE_TEST(refuses_a_second_sender)
{
    struct delivery_state *sender = opened(NULL);

    assert_non_null(strstr(refused(-EBUSY, NULL).text, "another `imcallbackd deliver`"));
    delivery_state_close(sender);
    delivery_state_close(opened(NULL));
}

STATE_TEST(lets_an_operator_read_while_it_is_open)
{
    struct delivery_state *sender = opened(NULL);
    sqlite3 *reader = NULL;
    sqlite3_stmt *statement = NULL;

    take_over(sender, 3);
    assert_int_equal(sqlite3_open_v2(path, &reader, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(reader, "SELECT count(*) FROM waiting", -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(statement, 0), 3);
    take_over(sender, 4); // the open read transaction does not block the sender
    sqlite3_finalize(statement);
    sqlite3_close(reader);
    delivery_state_close(sender);
}

STATE_TEST(refuses_files_that_are_not_a_state)
{
    char junk[8192];
    sqlite3 *other;

    memset(junk, 'x', sizeof junk);
    write_file(path, junk, sizeof junk);
    assert_non_null(strstr(refused(-EINVAL, NULL).text,
                           "the file is not a state of `imcallbackd deliver`, or it is damaged; set another [deliver] "
                           "state_file, or move the file away"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "CREATE TABLE t (a)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    assert_non_null(strstr(refused(-EINVAL, NULL).text, "nothing was changed"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)refused(-EISDIR, NULL);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_non_null(strstr(refused(-EINVAL, NULL).text, "not a regular file"));
}

// Overwrites each page of the file in turn. Either the state cannot be opened, or all events are still waiting.
STATE_TEST(refuses_a_damaged_state)
{
    struct delivery_state *sender = opened(NULL);
    size_t length, refusals = 0;
    char *intact, *damaged;
    struct error error;

    take_over(sender, 500);
    delivery_state_close(sender);
    intact = read_file(path, &length);
    damaged = malloc(length);
    assert_non_null(damaged);
    assert_true(length >= (size_t)3 * 4096);
    for (size_t at = 0; at + 4096 <= length; at += 4096) {
        memcpy(damaged, intact, length);
        memset(damaged + at, 0xa5, 4096);
        write_file(path, damaged, length);
        sender = NULL;
        if (delivery_state_open(path, NULL, &sender, &error) < 0) {
            assert_non_null(strstr(error.text, " away"));
            refusals++;
        } else {
            int64_t ids[500];

            for (size_t i = 0; i < COUNT(ids); i++)
                ids[i] = (int64_t)i + 1;
            assert_waiting(sender, ids, COUNT(ids));
        }
        delivery_state_close(sender);
    }
    assert_true(refusals >= 2);
    free(intact);
    free(damaged);
}

STATE_TEST(refuses_values_that_no_sender_writes)
{
    static const char *const damages[] = {
        "UPDATE position SET id = 2",
        "UPDATE position SET id = -1",
        "DELETE FROM position",
        "UPDATE waiting SET id = -1 WHERE id = 1",
        "UPDATE waiting SET first_failure_ms = -9223372036854775808 WHERE id = 1",
        "UPDATE waiting SET first_refusal_ms = -1 WHERE id = 1",
        "UPDATE waiting SET tries = 99999999999 WHERE id = 1",
    };

    for (size_t i = 0; i < COUNT(damages); i++) {
        struct delivery_state *sender = opened(NULL);
        sqlite3 *other;

        take_over(sender, 3);
        delivery_state_close(sender);
        assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, damages[i], NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(other), SQLITE_OK);
        assert_non_null(strstr(refused(-EIO, NULL).text, "damaged"));
        assert_int_equal(unlink(path), 0);
    }
}

STATE_TEST(reports_files_that_are_not_in_place_until_they_are_back)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    const int64_t waiting[] = {1, 2};
    struct delivery_state *sender = opened(NULL);
    struct delivery_change change = {DELIVERY_WAITS, event(2)};

    take_over(sender, 1);
    for (size_t i = 0; i < COUNT(suffixes); i++) {
        char *place = strdup(path_with(path, suffixes[i]).text), *away = strdup(path_with(place, ".away").text);

        assert_non_null(place);
        assert_non_null(away);
        assert_int_equal(rename(place, away), 0);
        assert_int_equal(apply(sender, 2, &change, 1), -EAGAIN);
        write_file(place, "", 0);
        assert_int_equal(apply(sender, 2, &change, 1), -EAGAIN);
        assert_int_equal(delivery_state_position(sender).id, 1);
        assert_int_equal(rename(away, place), 0);
        free(place);
        free(away);
    }
    assert_int_equal(apply(sender, 2, &change, 1), 0);
    assert_waiting(sender, waiting, COUNT(waiting));
    delivery_state_close(sender);
}

STATE_TEST(refuses_more_waiting_events_than_a_sender_can_hold)
{
    struct delivery_state *sender = opened(NULL);
    struct buffer events = {0};
    struct error error;
    sqlite3 *other;

    take_over(sender, 1);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other,
                                  "WITH RECURSIVE n(i) AS (SELECT -1 UNION ALL SELECT i - 1 FROM n WHERE i > -10000)"
                                  " INSERT INTO waiting SELECT i, 1, 1, 0, 0, 0, 0 FROM n",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    assert_int_equal(delivery_state_read_waiting(sender, &events, &error), -EIO);
    assert_non_null(strstr(error.text, "damaged"));
    buffer_finish(&events);
    delivery_state_close(sender);
}

// A limit on the file size makes writes fail, as a full disk does.
STATE_TEST(changes_nothing_on_a_full_disk_and_continues_later)
{
    struct delivery_state *sender = opened(NULL);
    struct rlimit unlimited, full;
    static struct delivery_change changes[2000];
    int64_t ids[2000];

    (void)signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < COUNT(changes); i++) {
        ids[i] = (int64_t)i + 1;
        changes[i] = (struct delivery_change){DELIVERY_WAITS, event(ids[i])};
    }
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
    full = unlimited;
    full.rlim_cur = 16384;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    assert_true(apply(sender, 2000, changes, COUNT(changes)) < 0);
    assert_int_equal(delivery_state_position(sender).id, 0);
    assert_waiting(sender, NULL, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
    assert_int_equal(apply(sender, 2000, changes, COUNT(changes)), 0);
    assert_waiting(sender, ids, COUNT(ids));
    delivery_state_close(sender);
}

STATE_TEST(names_the_remedy_for_a_missing_directory)
{
    struct error error;

    (void)snprintf(path, sizeof path, "%s/missing/state", directory);
    error = refused(-ENOENT, NULL);
    assert_non_null(strstr(error.text, "create the directory of [deliver] state_file for the user of the service"));
}

TEST_MAIN(NULL, NULL)
