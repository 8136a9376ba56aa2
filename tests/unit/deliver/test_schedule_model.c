// Tests the schedule with random histories of events and answers, and judges it by the rules in schedule.h alone: no
// event is lost, none overtakes an older one of its group, and an event is set aside if and only if the rules say so.
// The optional argument is the number of histories. Each history has its own seed, which a failure names.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/schedule.h"

#define EVENTS 120
// Small multiples of this key share a bucket of the schedule's hash table, because the key is the inverse of the
// multiplier in the hash function.
#define COLLIDING_KEY UINT64_C(0xf1de83e19937733d)

#define NEED(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            (void)fprintf(stderr, "seed %u, %s:%d: %s\n", seed, __FILE__, __LINE__, #condition);                       \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

enum fate { UNKNOWN, WAITING, IN_FLIGHT, ACCEPTED, SET_ASIDE };

struct model_event {
    enum fate fate;
    int64_t group_key;
    int tries;
    enum outcome last_outcome;
    int64_t first_failure_ms, first_refusal_ms, last_failure_ms;
    size_t accepted_at_failure,
        accepted_at_refusal; // number of events accepted before the first failure and before the first refusal
};

static unsigned int seed;
static struct model_event events[EVENTS + 1]; // by id; the first id is 1
static struct schedule *schedule;
static size_t places, accepted, failures, in_flight;
static int64_t give_up_after_ms, now_ms, added;
static bool endpoint_is_down;

// Returns a random number less than `below`; draw(0) restarts the sequence from the seed. The schedule takes its jitter
// from random(3). If the model used random(3), too, the model's numbers would depend on the calls of the schedule.
static unsigned int draw(unsigned int below)
{
    static uint64_t state;

    if (below == 0) {
        state = seed * UINT64_C(2654435761) + 1;
        return 0;
    }
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned int)(state >> 33) % below;
}

static bool waits(int64_t id)
{
    return events[id].fate == WAITING || events[id].fate == IN_FLIGHT;
}

static bool is_head(int64_t id)
{
    for (int64_t older = 1; older < id; older++) {
        if (waits(older) && events[older].group_key == events[id].group_key)
            return false;
    }
    return true;
}

static bool is_hopeless(const struct model_event *event, bool *ret_refused)
{
    *ret_refused = event->last_outcome == OUTCOME_REFUSED && now_ms - event->first_refusal_ms >= SET_ASIDE_REFUSED_MS;
    return *ret_refused || (give_up_after_ms > 0 && now_ms - event->first_failure_ms >= give_up_after_ms);
}

static void add_event(void)
{
    struct model_event *event = &events[++added];

    *event = (struct model_event){.fate = WAITING, .group_key = (int64_t)(COLLIDING_KEY * draw(1 + EVENTS / 4))};
    schedule_add(schedule, &(struct waiting_event){.id = added, .group_key = event->group_key});
}

static void check_started(int64_t id)
{
    const struct model_event *event = &events[id];
    bool probing = failures >= places, refused;

    NEED(event->fate == WAITING && is_head(id));
    NEED(probing ? in_flight == 0 : in_flight < places - failures);
    if (event->tries > 0 && (!probing || event->last_outcome == OUTCOME_REFUSED))
        NEED(now_ms >= event->last_failure_ms + RETRY_MIN_MS);
    for (int64_t older = 1; older < id; older++) {
        if (events[older].fate != WAITING || !is_head(older))
            continue;
        if (!probing) // an older event that is untried or failed RETRY_MAX_MS ago or earlier has precedence
            NEED(events[older].tries > 0 && now_ms < events[older].last_failure_ms + RETRY_MAX_MS);
        if (places == 1)
            NEED(is_hopeless(&events[older], &refused));
    }
}

static void start_events(void)
{
    const struct waiting_event *event;
    int64_t due_ms;

    while ((event = schedule_start(schedule, now_ms))) {
        check_started(event->id);
        events[event->id].fate = IN_FLIGHT;
        in_flight++;
    }
    due_ms = schedule_due_ms(schedule, now_ms);
    NEED(due_ms > now_ms);
    NEED(due_ms < SCHEDULE_NEVER || in_flight > 0 || schedule_waiting(schedule) == 0);
}

static void note_failure(struct model_event *event, enum outcome outcome)
{
    if (event->tries++ == 0) {
        event->first_failure_ms = now_ms;
        event->accepted_at_failure = accepted;
    }
    if (outcome == OUTCOME_REFUSED && event->first_refusal_ms == 0) {
        event->first_refusal_ms = now_ms;
        event->accepted_at_refusal = accepted;
    }
    event->last_outcome = outcome;
    event->last_failure_ms = now_ms;
    failures += failures < places;
}

static bool must_be_set_aside(const struct model_event *event)
{
    bool refused, hopeless = is_hopeless(event, &refused);

    return hopeless && ((refused && accepted > event->accepted_at_refusal) ||
                        (give_up_after_ms > 0 && now_ms - event->first_failure_ms >= give_up_after_ms &&
                         accepted > event->accepted_at_failure));
}

static enum outcome draw_outcome(int64_t id)
{
    static const enum outcome failing[] = {OUTCOME_REFUSED,      OUTCOME_FAIL, OUTCOME_THROTTLED,
                                           OUTCOME_SERVER_ERROR, OUTCOME_TLS,  OUTCOME_TIMEOUT};

    if (endpoint_is_down || draw(10) == 0)
        return failing[draw(6)];
    return id % 17 == 3 ? OUTCOME_REFUSED : OUTCOME_ACCEPTED; // every 17th event always fails here
}

static void finish_event(int64_t id, enum outcome outcome)
{
    struct model_event *event = &events[id];
    struct waiting_event reported;
    enum schedule_result result = schedule_finish(schedule, id, outcome, 0, -1, now_ms, &reported);

    NEED(event->fate == IN_FLIGHT && reported.id == id);
    in_flight--;
    if (outcome == OUTCOME_ACCEPTED) {
        NEED(result == SCHEDULE_DONE);
        event->fate = ACCEPTED;
        accepted++;
        failures = 0;
        return;
    }
    note_failure(event, outcome);
    NEED(reported.tries == event->tries && reported.first_failure_ms == event->first_failure_ms &&
         reported.first_refusal_ms == event->first_refusal_ms);
    NEED(result == (must_be_set_aside(event) ? SCHEDULE_SET_ASIDE : SCHEDULE_RETRY));
    event->fate = result == SCHEDULE_SET_ASIDE ? SET_ASIDE : WAITING;
    NEED(schedule_is_probing(schedule) == (failures >= places));
}

static void finish_one(void)
{
    for (int64_t id = 1 + (int64_t)draw(EVENTS), left = EVENTS; left > 0; id = id % EVENTS + 1, left--) {
        if (events[id].fate == IN_FLIGHT) {
            finish_event(id, draw_outcome(id));
            return;
        }
    }
}

static void advance(void)
{
    int64_t due_ms = schedule_due_ms(schedule, now_ms);

    if (due_ms < SCHEDULE_NEVER && due_ms > now_ms && draw(3) > 0)
        now_ms = due_ms;
    else
        now_ms += (int64_t)draw(200000);
}

static void check_counts(void)
{
    size_t waiting = 0;
    int64_t oldest = 0;

    for (int64_t id = added; id > 0; id--) {
        waiting += waits(id);
        oldest = waits(id) ? id : oldest;
    }
    NEED(schedule_waiting(schedule) == waiting && schedule_in_flight(schedule) == in_flight);
    NEED(oldest == (schedule_oldest(schedule) ? schedule_oldest(schedule)->id : 0));
}

static void run_history(void)
{
    static const size_t all_places[] = {1, 2, 8, 64};
    static const int64_t give_up[] = {0, 1000, 7200000};

    (void)draw(0);
    memset(events, 0, sizeof events);
    places = all_places[draw(4)];
    give_up_after_ms = give_up[draw(3)];
    accepted = failures = in_flight = 0;
    added = 0;
    now_ms = 1000000;
    schedule = schedule_create(places, give_up_after_ms);
    NEED(schedule);
    for (size_t steps = 0; added < EVENTS || schedule_waiting(schedule) > 0; steps++) {
        // After 3000 steps, the endpoint stays up, so that the history ends.
        endpoint_is_down = steps < 3000 && steps / 100 % 3 == 1;
        while (added < EVENTS && draw(3) > 0)
            add_event();
        start_events();
        check_counts();
        for (unsigned int i = draw(4); i > 0; i--)
            finish_one();
        if (draw(2) == 0)
            advance();
        // An event is set aside only if another event was accepted in the meantime. At the end, perhaps only events
        // are left that draw_outcome() never accepts. Every 2000 steps, all events in flight are therefore accepted.
        if (added == EVENTS && steps % 2000 == 1999)
            for (int64_t id = 1; id <= EVENTS; id++) {
                if (events[id].fate == IN_FLIGHT)
                    finish_event(id, OUTCOME_ACCEPTED);
            }
        NEED(steps < 1000000);
    }
    for (int64_t id = 1; id <= EVENTS; id++)
        NEED(events[id].fate == ACCEPTED || events[id].fate == SET_ASIDE);
    schedule_destroy(schedule);
}

int main(int argc, char **argv)
{
    unsigned int histories = argc > 1 ? (unsigned int)strtoul(argv[1], NULL, 10) : 300;

    for (seed = 1; seed <= histories; seed++)
        run_history();
    return 0;
}
