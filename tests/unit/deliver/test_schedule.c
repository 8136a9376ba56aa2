// Tests each rule of the schedule with a short history. test_schedule_model.c tests all rules together.
#include "../unit.h"
#include "deliver/schedule.h"

#define HOUR SET_ASIDE_REFUSED_MS

static struct schedule *schedule;
static int64_t now_ms;

static void begin(size_t in_flight, int64_t give_up_after_ms)
{
    schedule = schedule_create(in_flight, give_up_after_ms);
    assert_non_null(schedule);
    now_ms = 1000000;
}

static int teardown(void **state)
{
    (void)state;
    schedule_destroy(schedule);
    return 0;
}

// Adds the events 1 to `count`. Event N belongs to the group N % groups.
static void add(int64_t count, int64_t groups)
{
    for (int64_t id = 1; id <= count; id++)
        schedule_add(schedule, &(struct waiting_event){.id = id, .group_key = id % groups, .received_at_ms = id});
}

static int64_t started(void)
{
    const struct waiting_event *event = schedule_start(schedule, now_ms);

    return event ? event->id : 0;
}

static enum schedule_result finish(int64_t id, enum outcome outcome)
{
    struct waiting_event event;
    enum schedule_result result = schedule_finish(schedule, id, outcome, 0, -1, now_ms, &event);

    assert_int_equal(event.id, id);
    return result;
}

// Starts the event, which must be the next one, and finishes it.
static enum schedule_result attempt(int64_t id, enum outcome outcome)
{
    assert_int_equal(started(), id);
    return finish(id, outcome);
}

static void wait_until_due(void)
{
    int64_t due_ms = schedule_due_ms(schedule, now_ms);

    assert_true(due_ms < SCHEDULE_NEVER);
    now_ms = due_ms > now_ms ? due_ms : now_ms;
}

#define SCHEDULE_TEST(name) TEST_WITH(name, NULL, teardown)

SCHEDULE_TEST(sends_in_order_up_to_the_number_of_places)
{
    begin(3, 0);
    add(5, 5);
    assert_int_equal(started(), 1);
    assert_int_equal(started(), 2);
    assert_int_equal(started(), 3);
    assert_int_equal(started(), 0);
    assert_int_equal(schedule_due_ms(schedule, now_ms), SCHEDULE_NEVER);
    assert_int_equal(finish(2, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_int_equal(started(), 4);
    assert_int_equal(schedule_oldest(schedule)->id, 1);
    assert_int_equal(schedule_waiting(schedule), 4);
    assert_int_equal(schedule_in_flight(schedule), 3);
}

SCHEDULE_TEST(sends_one_event_of_a_group_at_a_time)
{
    begin(8, 0);
    add(4, 2);
    assert_int_equal(started(), 1);
    assert_int_equal(started(), 2);
    assert_int_equal(started(), 0);
    assert_int_equal(finish(1, OUTCOME_SERVER_ERROR), SCHEDULE_RETRY);
    assert_int_equal(started(), 0); // event 3 waits for event 1
    assert_int_equal(finish(2, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_int_equal(started(), 4);
    wait_until_due();
    assert_int_equal(attempt(1, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_int_equal(started(), 3);
}

SCHEDULE_TEST(doubles_the_delay_up_to_15_minutes)
{
    int64_t nominal_ms = RETRY_MIN_MS;

    begin(100, 0);
    add(1, 1);
    for (size_t i = 0; i < 30; i++) {
        int64_t delay_ms;

        assert_int_equal(attempt(1, OUTCOME_REFUSED), SCHEDULE_RETRY);
        assert_int_equal(started(), 0);
        delay_ms = schedule_due_ms(schedule, now_ms) - now_ms;
        assert_true(delay_ms >= RETRY_MIN_MS && delay_ms <= RETRY_MAX_MS);
        assert_true(delay_ms >= nominal_ms / 2 && delay_ms <= nominal_ms * 3 / 2);
        nominal_ms = nominal_ms * 2 < RETRY_MAX_MS ? nominal_ms * 2 : RETRY_MAX_MS;
        now_ms += delay_ms;
    }
}

SCHEDULE_TEST(obeys_retry_after_within_limits)
{
    static const struct {
        int64_t retry_after_ms, min_ms, max_ms;
    } rows[] = {
        {0, RETRY_MIN_MS, 1500},
        {60000, 60000, 60000},
        {RETRY_MAX_MS, RETRY_MAX_MS, RETRY_MAX_MS},
        {INT64_MAX / 2, RETRY_MAX_MS, RETRY_MAX_MS},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct waiting_event event;
        int64_t delay_ms;

        begin(8, 0);
        add(2, 2);
        assert_int_equal(started(), 1);
        (void)schedule_finish(schedule, 1, OUTCOME_THROTTLED, 429, rows[i].retry_after_ms, now_ms, &event);
        assert_int_equal(event.last_status, 429);
        assert_int_equal(started(), 0); // all events pause
        delay_ms = schedule_due_ms(schedule, now_ms) - now_ms;
        assert_true(delay_ms >= RETRY_MIN_MS && delay_ms <= rows[i].max_ms);
        now_ms += rows[i].min_ms - 1;
        assert_int_equal(started(), 0);
        schedule_destroy(schedule);
    }
    begin(8, 0); // for the teardown
}

SCHEDULE_TEST(does_not_delay_other_events_for_a_refusal)
{
    struct waiting_event event;

    begin(8, 0);
    add(3, 3);
    assert_int_equal(started(), 1);
    (void)schedule_finish(schedule, 1, OUTCOME_REFUSED, 400, 60000, now_ms, &event);
    assert_int_equal(started(), 2);
    assert_int_equal(started(), 3);
    assert_int_equal(finish(2, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_int_equal(finish(3, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_true(schedule_due_ms(schedule, now_ms) >= now_ms + 60000);
}

SCHEDULE_TEST(tries_at_most_as_many_events_as_places_before_it_probes)
{
    begin(3, 0);
    add(9, 9);
    for (int64_t id = 1; id <= 3; id++) {
        assert_int_equal(started(), id);
        assert_false(schedule_is_probing(schedule));
        assert_int_equal(finish(id, OUTCOME_CONNECT), SCHEDULE_RETRY);
    }
    assert_true(schedule_is_probing(schedule));
    assert_int_equal(started(), 0);
    wait_until_due();
    assert_int_equal(started(), 4); // the one with the fewest attempts
    assert_int_equal(started(), 0);
    assert_int_equal(finish(4, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_false(schedule_is_probing(schedule));
}

SCHEDULE_TEST(probes_at_growing_intervals_up_to_a_minute)
{
    int64_t longest_ms = 0;

    begin(1, 0);
    add(1, 1);
    for (size_t i = 0; i < 20; i++) {
        int64_t before_ms = now_ms;

        assert_int_equal(attempt(1, OUTCOME_TIMEOUT), SCHEDULE_RETRY);
        wait_until_due();
        assert_true(now_ms - before_ms <= PROBE_PAUSE_MAX_MS * 3 / 2);
        longest_ms = now_ms - before_ms > longest_ms ? now_ms - before_ms : longest_ms;
    }
    assert_true(longest_ms > PROBE_PAUSE_MAX_MS / 2);
}

SCHEDULE_TEST(sends_everything_soon_after_the_endpoint_has_recovered)
{
    begin(2, 0);
    add(2, 2);
    for (size_t i = 0; i < 40; i++) {
        int64_t id = started();

        assert_true(id > 0);
        assert_int_equal(finish(id, OUTCOME_CONNECT), SCHEDULE_RETRY);
        wait_until_due();
    }
    assert_int_equal(finish(started(), OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_true(schedule_due_ms(schedule, now_ms) <= now_ms + RECOVERY_MS);
}

SCHEDULE_TEST(sets_an_event_aside_that_is_refused_for_an_hour_while_others_are_accepted)
{
    begin(8, 0);
    add(2, 2);
    assert_int_equal(attempt(1, OUTCOME_REFUSED), SCHEDULE_RETRY);
    assert_int_equal(attempt(2, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    now_ms += HOUR - 1;
    assert_int_equal(attempt(1, OUTCOME_REFUSED), SCHEDULE_RETRY);
    now_ms += RETRY_MAX_MS;
    assert_int_equal(attempt(1, OUTCOME_REFUSED), SCHEDULE_SET_ASIDE);
    assert_null(schedule_oldest(schedule));
}

SCHEDULE_TEST(sets_nothing_aside_while_nothing_is_accepted)
{
    begin(1, 1000);
    add(3, 3);
    for (size_t i = 0; i < 500; i++) {
        int64_t id = started();

        if (id > 0)
            assert_int_equal(finish(id, OUTCOME_REFUSED), SCHEDULE_RETRY);
        wait_until_due();
    }
    assert_int_equal(schedule_waiting(schedule), 3);
}

SCHEDULE_TEST(ignores_what_was_accepted_before_the_first_refusal)
{
    begin(8, 0);
    add(2, 2);
    assert_int_equal(started(), 1);
    assert_int_equal(started(), 2);
    assert_int_equal(finish(1, OUTCOME_SERVER_ERROR), SCHEDULE_RETRY);
    assert_int_equal(finish(2, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    now_ms += RETRY_MAX_MS;
    assert_int_equal(attempt(1, OUTCOME_REFUSED), SCHEDULE_RETRY);
    now_ms += 2 * HOUR;
    assert_int_equal(attempt(1, OUTCOME_REFUSED), SCHEDULE_RETRY);
}

SCHEDULE_TEST(never_gives_up_after_temporary_failures_unless_configured)
{
    for (int64_t give_up_after_ms = 0; give_up_after_ms <= HOUR; give_up_after_ms += HOUR) {
        begin(8, give_up_after_ms);
        add(2, 2);
        assert_int_equal(attempt(1, OUTCOME_SERVER_ERROR), SCHEDULE_RETRY);
        assert_int_equal(attempt(2, OUTCOME_ACCEPTED), SCHEDULE_DONE);
        now_ms += HOUR - 1;
        assert_int_equal(attempt(1, OUTCOME_SERVER_ERROR), SCHEDULE_RETRY);
        now_ms += 1000 * HOUR;
        assert_int_equal(attempt(1, OUTCOME_FAIL), give_up_after_ms == 0 ? SCHEDULE_RETRY : SCHEDULE_SET_ASIDE);
        schedule_destroy(schedule);
    }
    begin(8, 0); // for the teardown
}

SCHEDULE_TEST(keeps_the_order_strictly_with_one_place)
{
    begin(1, 0);
    add(3, 3);
    assert_int_equal(attempt(1, OUTCOME_REFUSED), SCHEDULE_RETRY);
    while (now_ms < 1000000 + HOUR) {
        int64_t id = started();

        assert_true(id == 0 || id == 1);
        if (id > 0)
            assert_int_equal(finish(id, OUTCOME_REFUSED), SCHEDULE_RETRY);
        wait_until_due();
    }
    // After an hour of refusals of the first event, the schedule also sends other events. Once the endpoint has
    // accepted one of them, a further refusal sets the first event aside.
    assert_int_equal(attempt(2, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    now_ms += RETRY_MAX_MS;
    assert_int_equal(attempt(1, OUTCOME_REFUSED), SCHEDULE_SET_ASIDE);
}

SCHEDULE_TEST(asks_for_more_only_while_too_few_events_can_be_sent)
{
    begin(2, 0);
    assert_true(schedule_wants_more(schedule, now_ms));
    add(1, 1);
    assert_true(schedule_wants_more(schedule, now_ms));
    schedule_add(schedule, &(struct waiting_event){.id = 2, .group_key = 7});
    assert_false(schedule_wants_more(schedule, now_ms));
    schedule_add(schedule, &(struct waiting_event){.id = 3, .group_key = 7}); // waits for event 2
    assert_int_equal(started(), 1);
    assert_true(schedule_wants_more(schedule, now_ms));
}

SCHEDULE_TEST(asks_for_an_untried_event_while_the_endpoint_is_at_fault)
{
    begin(2, 0);
    add(3, 3);
    attempt(1, OUTCOME_REFUSED);
    attempt(2, OUTCOME_REFUSED);
    now_ms += RETRY_MAX_MS;
    assert_true(schedule_is_probing(schedule));
    assert_false(schedule_wants_more(schedule, now_ms));
    assert_int_equal(started(), 3);
    assert_true(schedule_wants_more(schedule, now_ms));
    finish(3, OUTCOME_REFUSED);
    now_ms += RETRY_MAX_MS;
    assert_true(schedule_wants_more(schedule, now_ms));
    schedule_add(schedule, &(struct waiting_event){.id = 4, .group_key = 7});
    assert_int_equal(started(), 4);
}

SCHEDULE_TEST(holds_a_bounded_number_of_events)
{
    begin(8, 0);
    add(SCHEDULE_MAX_EVENTS, 1);
    assert_int_equal(schedule_room(schedule), 0);
    assert_false(schedule_wants_more(schedule, now_ms));
    for (int64_t id = 1; id <= SCHEDULE_MAX_EVENTS; id++)
        assert_int_equal(attempt(id, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_int_equal(schedule_room(schedule), SCHEDULE_MAX_EVENTS);
    assert_int_equal(schedule_due_ms(schedule, now_ms), SCHEDULE_NEVER);
}

SCHEDULE_TEST(continues_the_history_of_an_event_after_a_restart)
{
    begin(8, 0);
    schedule_add(schedule, &(struct waiting_event){.id = 1,
                                                   .group_key = 1,
                                                   .first_failure_ms = now_ms - 2 * HOUR,
                                                   .first_refusal_ms = now_ms - 2 * HOUR,
                                                   .tries = 9});
    schedule_add(schedule, &(struct waiting_event){.id = 2, .group_key = 2});
    assert_int_equal(started(), 1);
    assert_int_equal(started(), 2);
    assert_int_equal(finish(2, OUTCOME_ACCEPTED), SCHEDULE_DONE);
    assert_int_equal(finish(1, OUTCOME_REFUSED), SCHEDULE_SET_ASIDE);
}

SCHEDULE_TEST(takes_an_event_back_or_forgets_it)
{
    begin(8, 0);
    add(2, 1);
    assert_int_equal(started(), 1);
    schedule_postpone(schedule, 1);
    assert_int_equal(started(), 1);
    schedule_drop(schedule, 1);
    assert_int_equal(started(), 2);
}

TEST_MAIN(NULL, NULL)
