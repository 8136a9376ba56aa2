// Tests that the store starts despite a reader in another process, and that it waits for the lock of another process,
// but no longer than each commit allows.
#include <limits.h>

#include "imcallbackd/base/clock.h"
#include "peer_process.h"

static void await_ready(struct fixture *fixture, bool wanted)
{
    struct error error;

    AWAIT(store_ready(fixture->store, &error) == wanted);
    assert_true(wanted || strstr(error.text, "holds the lock"));
}

FIXTURE_TEST(starts_despite_a_reader)
{
    struct peer reader = peer_start(fixture, peer_executes_sql);
    struct error error;

    leave_log_of_killed_daemon(fixture);
    peer_call(&reader, "BEGIN; SELECT * FROM destroyed_group");
    fixture_open(fixture);
    assert_true(store_ready(fixture->store, &error));
    fixture_record_times(fixture, 4, 4);
    peer_stop(&reader);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "4");
}

// Each row says when the other process takes the lock, how long the commits may wait, and what their result is.
FIXTURE_TEST(retries_while_another_process_holds_the_lock)
{
    static const struct {
        bool before_start;
        int64_t retry_ms;
        enum commit_result result;
    } rows[] = {
        {true, INT_MAX, COMMIT_RECORDED},
        {true, 0, COMMIT_FAILED},
        {false, INT_MAX, COMMIT_RECORDED},
        {false, 300, COMMIT_FAILED},
    };
    struct peer other = peer_start(fixture, peer_executes_sql);

    leave_log_of_killed_daemon(fixture);
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct destroyed_group groups[2] = {example_group(), example_group()};
        struct commit commits[2];
        size_t before;

        if (rows[i].before_start)
            peer_call(&other, "BEGIN IMMEDIATE");
        fixture_open(fixture);
        if (!rows[i].before_start)
            peer_call(&other, "BEGIN IMMEDIATE");
        before = fixture_done_count(fixture);
        for (size_t n = 0; n < 2; n++) {
            groups[n].event_time_ms += 1 + (int64_t)(2 * i + n);
            commits[n] = (struct commit){.group = &groups[n], .give_up_at_ms = clock_monotonic_ms() + rows[i].retry_ms};
            store_submit(fixture->store, &commits[n]);
            await_ready(fixture, false);
        }
        if (rows[i].result == COMMIT_FAILED)
            fixture_await(fixture, before + 2);
        assert_int_equal(fixture_done_count(fixture), rows[i].result == COMMIT_FAILED ? before + 2 : before);
        peer_call(&other, "ROLLBACK");
        fixture_await(fixture, before + 2);
        await_ready(fixture, true); // the store notices the release of the lock without a new commit
        for (size_t n = 0; n < 2; n++)
            assert_int_equal(commits[n].result, rows[i].result);
        assert_int_equal(fixture->broken, 0);
        fixture_close(fixture);
    }
    peer_stop(&other);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "7");
    assert_query(fixture, "PRAGMA integrity_check", "ok");
}

FIXTURE_TEST(stops_without_waiting_for_the_lock)
{
    struct destroyed_group group = example_group();
    struct commit commit = {.group = &group, .give_up_at_ms = INT64_MAX};
    struct peer other = peer_start(fixture, peer_executes_sql);

    fixture_open(fixture);
    peer_call(&other, "BEGIN IMMEDIATE");
    store_submit(fixture->store, &commit);
    await_ready(fixture, false);
    fixture_close(fixture);
    assert_int_equal(fixture->done, 1);
    assert_int_equal(commit.result, COMMIT_FAILED);
    peer_stop(&other);
}

TEST_MAIN(NULL, NULL)
