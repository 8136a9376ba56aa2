// The schedule has a list of all waiting events in the order of their ids, and a hash table with the newest waiting
// event of each group. The list has at most SCHEDULE_MAX_EVENTS elements, so a linear search of it is cheap compared
// with a request.
#include "schedule.h"

#include <assert.h>
#include <stdlib.h>

#include "imcallbackd/outbound/backoff.h"

#define BUCKETS 16384 // a power of two: bucket_of takes 14 bits of the hash

struct node {
    struct waiting_event event;
    struct node *next, *previous;             // in the order of ids; `next` also links unused nodes
    struct node *group_next, *group_previous; // waiting events of the same group, in the order of ids
    struct node *bucket_next;                 // only for the newest event of a group
    uint64_t accepted_at_failure; // value of `accepted` at the first failure of this event; 0 after a restart
    uint64_t accepted_at_refusal; // value of `accepted` at the first refusal of this event; 0 after a restart
    int64_t delayed_until_ms, delay_ms;
    bool in_flight;
    bool is_probe;
    bool was_refused; // the last attempt was refused
};

struct schedule {
    size_t places; // in_flight of the settings
    int64_t give_up_after_ms;
    struct node *oldest, *newest, *unused;
    size_t waiting, in_flight;
    size_t failures;   // failed attempts since the last accepted one, up to `places`
    uint64_t accepted; // events accepted since the start
    int64_t paused_until_ms;
    struct backoff probe_pause;
    struct node *buckets[BUCKETS];
    struct node nodes[SCHEDULE_MAX_EVENTS];
};

// Lists

static struct node **bucket_of(struct schedule *schedule, int64_t group_key)
{
    return &schedule->buckets[((uint64_t)group_key * UINT64_C(0x9e3779b97f4a7c15)) >> 50];
}

// Returns a pointer to the link to the newest waiting event of the group. The link is NULL if no event of the group
// waits, and is then the place where one can be added.
static struct node **find_newest(struct schedule *schedule, int64_t group_key)
{
    struct node **at = bucket_of(schedule, group_key);

    while (*at && (*at)->event.group_key != group_key)
        at = &(*at)->bucket_next;
    return at;
}

struct schedule *schedule_create(size_t in_flight, int64_t give_up_after_ms)
{
    struct schedule *schedule = calloc(1, sizeof *schedule);

    assert(in_flight > 0);
    if (!schedule)
        return NULL;
    schedule->places = in_flight;
    schedule->give_up_after_ms = give_up_after_ms;
    schedule->probe_pause = (struct backoff){.min_ms = RETRY_MIN_MS, .max_ms = PROBE_PAUSE_MAX_MS};
    for (size_t i = 0; i < SCHEDULE_MAX_EVENTS; i++) {
        schedule->nodes[i].next = schedule->unused;
        schedule->unused = &schedule->nodes[i];
    }
    return schedule;
}

void schedule_destroy(struct schedule *schedule)
{
    free(schedule);
}

size_t schedule_room(const struct schedule *schedule)
{
    return SCHEDULE_MAX_EVENTS - schedule->waiting;
}

void schedule_add(struct schedule *schedule, const struct waiting_event *event)
{
    struct node *node = schedule->unused, **group = find_newest(schedule, event->group_key);

    assert(node && (!schedule->newest || event->id > schedule->newest->event.id));
    schedule->unused = node->next;
    *node = (struct node){.event = *event, .previous = schedule->newest, .group_previous = *group};
    if (schedule->newest)
        schedule->newest->next = node;
    else
        schedule->oldest = node;
    schedule->newest = node;
    if (*group) {
        node->bucket_next = (*group)->bucket_next;
        (*group)->group_next = node;
    }
    *group = node;
    schedule->waiting++;
}

static void forget(struct schedule *schedule, struct node *node)
{
    assert(!node->group_previous && !node->in_flight);
    if (node->group_next)
        node->group_next->group_previous = NULL;
    else
        *find_newest(schedule, node->event.group_key) = node->bucket_next;
    if (node->previous)
        node->previous->next = node->next;
    else
        schedule->oldest = node->next;
    if (node->next)
        node->next->previous = node->previous;
    else
        schedule->newest = node->previous;
    schedule->waiting--;
    *node = (struct node){.next = schedule->unused};
    schedule->unused = node;
}

// Choosing

bool schedule_is_probing(const struct schedule *schedule)
{
    return schedule->failures >= schedule->places;
}

static bool is_refused_for_long(const struct node *node, int64_t now_ms)
{
    return node->was_refused && now_ms - node->event.first_refusal_ms >= SET_ASIDE_REFUSED_MS;
}

static bool fails_for_long(const struct schedule *schedule, const struct node *node, int64_t now_ms)
{
    return schedule->give_up_after_ms > 0 && node->event.tries > 0 &&
           now_ms - node->event.first_failure_ms >= schedule->give_up_after_ms;
}

// Returns whether the event has failed for so long that its next failure can set it aside. This function does not check
// the other condition, that another event was accepted in the meantime.
static bool is_hopeless(const struct schedule *schedule, const struct node *node, int64_t now_ms)
{
    return is_refused_for_long(node, now_ms) || fails_for_long(schedule, node, now_ms);
}

static bool must_set_aside(const struct schedule *schedule, const struct node *node, int64_t now_ms)
{
    return (is_refused_for_long(node, now_ms) && schedule->accepted > node->accepted_at_refusal) ||
           (fails_for_long(schedule, node, now_ms) && schedule->accepted > node->accepted_at_failure);
}

// Returns when the event may be sent. While the endpoint is at fault, only the pause between two probes delays an event
// whose last failure was not a refusal.
static int64_t due_ms(const struct schedule *schedule, const struct node *node)
{
    return schedule_is_probing(schedule) && !node->was_refused ? 0 : node->delayed_until_ms;
}

static bool is_better(const struct schedule *schedule, const struct node *node, const struct node *best)
{
    return !best || (schedule_is_probing(schedule) && node->event.tries < best->event.tries);
}

// Returns the event to send now, or NULL. Ignores the number of free places and the pause. If the result is NULL,
// *ret_due_ms is the time at which the next event is due, or SCHEDULE_NEVER.
static struct node *choose(const struct schedule *schedule, int64_t now_ms, int64_t *ret_due_ms)
{
    bool is_strict = schedule->places == 1;
    struct node *best = NULL;

    *ret_due_ms = SCHEDULE_NEVER;
    for (struct node *node = schedule->oldest; node; node = node->next) {
        int64_t node_due_ms = due_ms(schedule, node);

        if (node->in_flight || node->group_previous)
            continue;
        if (node_due_ms <= now_ms && is_better(schedule, node, best))
            best = node;
        else if (node_due_ms < *ret_due_ms)
            *ret_due_ms = node_due_ms;
        if (best && (!schedule_is_probing(schedule) || best->event.tries == 0))
            break;
        if (is_strict && !is_hopeless(schedule, node, now_ms))
            break;
    }
    return best;
}

static size_t free_places(const struct schedule *schedule)
{
    size_t places = schedule_is_probing(schedule) ? 1 : schedule->places - schedule->failures;

    return places > schedule->in_flight ? places - schedule->in_flight : 0;
}

bool schedule_wants_more(const struct schedule *schedule, int64_t now_ms)
{
    bool is_probing = schedule_is_probing(schedule);
    size_t ready = 0, wanted = is_probing ? 1 : schedule->places;

    if (schedule->waiting == SCHEDULE_MAX_EVENTS)
        return false;
    for (const struct node *node = schedule->oldest; node && ready < wanted; node = node->next)
        ready += !node->in_flight && !node->group_previous &&
                 (is_probing ? node->event.tries == 0 : node->delayed_until_ms <= now_ms);
    return ready < wanted;
}

const struct waiting_event *schedule_start(struct schedule *schedule, int64_t now_ms)
{
    int64_t next_due_ms;
    struct node *node;

    if (free_places(schedule) == 0 || now_ms < schedule->paused_until_ms)
        return NULL;
    node = choose(schedule, now_ms, &next_due_ms);
    if (!node)
        return NULL;
    node->in_flight = true;
    node->is_probe = schedule_is_probing(schedule);
    schedule->in_flight++;
    return &node->event;
}

int64_t schedule_due_ms(const struct schedule *schedule, int64_t now_ms)
{
    int64_t next_due_ms;

    if (free_places(schedule) == 0)
        return SCHEDULE_NEVER;
    if (choose(schedule, now_ms, &next_due_ms))
        next_due_ms = now_ms;
    return next_due_ms > schedule->paused_until_ms ? next_due_ms : schedule->paused_until_ms;
}

// Finishing

static struct node *end_attempt(struct schedule *schedule, int64_t id)
{
    struct node *node = schedule->oldest;

    while (node->event.id != id)
        node = node->next;
    assert(node->in_flight && schedule->in_flight > 0);
    node->in_flight = false;
    schedule->in_flight--;
    return node;
}

static void accept(struct schedule *schedule, int64_t now_ms)
{
    bool was_probing = schedule_is_probing(schedule);

    schedule->accepted++;
    schedule->failures = 0;
    if (!was_probing)
        return;
    backoff_reset(&schedule->probe_pause);
    schedule->paused_until_ms = 0;
    for (struct node *node = schedule->oldest; node; node = node->next) {
        if (!node->was_refused && node->delayed_until_ms > now_ms + RECOVERY_MS)
            node->delayed_until_ms = now_ms + RECOVERY_MS;
    }
}

static int64_t clamp(int64_t ms)
{
    return ms < RETRY_MIN_MS ? RETRY_MIN_MS : ms > RETRY_MAX_MS ? RETRY_MAX_MS : ms;
}

static void pause_until(struct schedule *schedule, int64_t until_ms)
{
    if (until_ms > schedule->paused_until_ms)
        schedule->paused_until_ms = until_ms;
}

static void delay(struct schedule *schedule, struct node *node, int64_t retry_after_ms, int64_t now_ms)
{
    node->delay_ms = node->delay_ms == 0 ? RETRY_MIN_MS : clamp(node->delay_ms * 2);
    node->delayed_until_ms = now_ms + clamp(backoff_add_jitter(node->delay_ms));
    if (retry_after_ms >= 0 && now_ms + clamp(retry_after_ms) > node->delayed_until_ms)
        node->delayed_until_ms = now_ms + clamp(retry_after_ms);
    if (retry_after_ms >= 0 && !node->was_refused)
        pause_until(schedule, now_ms + clamp(retry_after_ms));
}

static void count_failure(struct schedule *schedule, const struct node *node, int64_t now_ms)
{
    bool was_probing = schedule_is_probing(schedule);

    if (!was_probing)
        schedule->failures++;
    // Requests that were in flight when the last place was lost can still fail. They are not probes, so they do not
    // lengthen the pause.
    if (schedule_is_probing(schedule) && (!was_probing || node->is_probe))
        pause_until(schedule, now_ms + backoff_next_ms(&schedule->probe_pause));
}

enum schedule_result schedule_finish(struct schedule *schedule, int64_t id, enum outcome outcome, int status,
                                     int64_t retry_after_ms, int64_t now_ms, struct waiting_event *ret_event)
{
    struct node *node = end_attempt(schedule, id);
    struct waiting_event *event = &node->event;

    if (outcome == OUTCOME_ACCEPTED) {
        *ret_event = *event;
        forget(schedule, node);
        accept(schedule, now_ms);
        return SCHEDULE_DONE;
    }
    node->was_refused = outcome == OUTCOME_REFUSED;
    if (event->tries++ == 0) {
        event->first_failure_ms = now_ms;
        node->accepted_at_failure = schedule->accepted;
    }
    if (node->was_refused && event->first_refusal_ms == 0) {
        event->first_refusal_ms = now_ms;
        node->accepted_at_refusal = schedule->accepted;
    }
    event->last_status = status;
    count_failure(schedule, node, now_ms);
    delay(schedule, node, retry_after_ms, now_ms);
    *ret_event = *event;
    if (!must_set_aside(schedule, node, now_ms))
        return SCHEDULE_RETRY;
    forget(schedule, node);
    return SCHEDULE_SET_ASIDE;
}

void schedule_postpone(struct schedule *schedule, int64_t id)
{
    (void)end_attempt(schedule, id);
}

void schedule_drop(struct schedule *schedule, int64_t id)
{
    forget(schedule, end_attempt(schedule, id));
}

const struct waiting_event *schedule_oldest(const struct schedule *schedule)
{
    return schedule->oldest ? &schedule->oldest->event : NULL;
}

size_t schedule_waiting(const struct schedule *schedule)
{
    return schedule->waiting;
}

size_t schedule_in_flight(const struct schedule *schedule)
{
    return schedule->in_flight;
}
