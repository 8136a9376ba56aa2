// The sender is one loop. Each round takes the answers, reads new events, writes the state and sends requests. The
// sender reads and sends nothing while a change of the state is not on disk.
#include "imcallbackd/deliver/deliver.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "delivery.h"
#include "delivery_log.h"
#include "endpoint.h"
#include "event_source.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/outbound/backoff.h"
#include "imcallbackd/outbound/cursor.h"
#include "imcallbackd/outbound/note.h"
#include "imcallbackd/store/delivery_state.h"
#include "schedule.h"
#include "secret_file.h"

#define TICK_MS         1000
#define STOP_MAX_MS     5000 // less than TimeoutStopSec in imcallbackd-deliver.service
#define TAKE_MAX_EVENTS 1000 // in one round
#define TROUBLE_MIN_MS  500
#define TROUBLE_MAX_MS  30000

const bool deliver_is_built = true;

// Delays the attempts after a failure that may be temporary.
struct retry {
    struct backoff pause;
    int64_t due_ms; // when the next attempt is due
};

struct sender {
    const struct deliver_settings *settings;
    struct webhook_secrets secrets;
    struct delivery_state *state;
    struct schedule *schedule;
    struct endpoint *endpoint;
    struct event_source source; // closed while the store cannot be read
    struct delivery delivery;   // the request that is being built
    struct note note;
    struct cursor position; // after the last event that was taken over, or skipped by --start-at now
    struct buffer changes;  // array of struct delivery_change, the changes that are not written yet
    struct retry source_retry, state_retry;
    int64_t look_due_ms; // when to read the store again; 0: at once
    int64_t tick_due_ms;
    int64_t newest_id;
    int64_t clock_offset_ms; // real time at the start, minus monotonic time
};

int deliver_print_metrics(struct buffer *text)
{
    return delivery_log_print_metrics(text);
}

void deliver_stop(void)
{
    endpoint_interrupt();
}

// Returns real time that does not jump while the process runs. Delays need a steady clock, and times in the state file
// must keep their meaning after a restart.
static int64_t now_ms(const struct sender *sender)
{
    return clock_monotonic_ms() + sender->clock_offset_ms;
}

static bool is_due(const struct sender *sender, const struct retry *retry)
{
    return now_ms(sender) >= retry->due_ms;
}

static void retry_later(struct sender *sender, struct retry *retry, const struct error *error)
{
    int64_t pause_ms = backoff_next_ms(&retry->pause);

    retry->due_ms = now_ms(sender) + pause_ms;
    delivery_log_trouble(error, pause_ms);
}

// Writing the state

static void add_change(struct sender *sender, enum delivery_change_kind kind, const struct waiting_event *event)
{
    const struct delivery_change change = {.kind = kind, .event = *event};
    int r = buffer_append(&sender->changes, &change, sizeof change);

    assert(r == 0); // start() has reserved memory for the events of one round and for all answers in flight
}

static size_t change_count(const struct sender *sender)
{
    return sender->changes.length / sizeof(struct delivery_change);
}

// Writes all changes, but does nothing during the pause after a failed attempt. Sets *ret_written to true if no change
// is left to write. Logs a failure that may be temporary, such as a full disk, and returns 0. Returns -errno after any
// other failure.
static int write_state(struct sender *sender, bool *ret_written, struct error *error)
{
    int r;

    *ret_written = change_count(sender) == 0;
    if (*ret_written || !is_due(sender, &sender->state_retry))
        return 0;
    r = delivery_state_apply(sender->state, (const struct delivery_change *)(const void *)sender->changes.data,
                             change_count(sender), &sender->position, now_ms(sender), error);
    if (r == 0) {
        sender->changes.length = 0;
        backoff_reset(&sender->state_retry.pause);
        *ret_written = true;
        return 0;
    }
    if (r != -EAGAIN)
        return r;
    retry_later(sender, &sender->state_retry, error);
    return 0;
}

// Reading the store

static int64_t cursor_id(const struct sender *sender)
{
    const struct waiting_event *oldest = schedule_oldest(sender->schedule);

    return oldest ? oldest->id - 1 : sender->position.id;
}

static void set_lag(struct sender *sender)
{
    const struct waiting_event *oldest = schedule_oldest(sender->schedule);
    int64_t unread = sender->newest_id > sender->position.id ? sender->newest_id - sender->position.id : 0;
    size_t waiting = schedule_waiting(sender->schedule);

    delivery_log_set_lag(unread + (int64_t)waiting, cursor_id(sender), waiting, oldest ? oldest->received_at_ms : 0);
    delivery_log_set_in_flight(schedule_in_flight(sender->schedule));
}

static int read_newest_id(struct sender *sender, struct error *error)
{
    int64_t ids[STREAM_COUNT];
    int r = store_reader_read_newest_ids(sender->source.stream, ids, error);

    if (r == 0)
        sender->newest_id = ids[STREAM_GROUPS];
    return r;
}

// Returns -ESTALE and deletes the note if the position in the state does not match the database. The ids in the state
// would then stand for other events.
static int check_position(struct sender *sender, struct error *error)
{
    const struct cursor *cursor = &sender->position;
    bool matches = false;
    int r = read_newest_id(sender, error);

    if (r == 0)
        r = cursor_check(sender->source.stream, STREAM_GROUPS, cursor, &matches, error);
    if (r < 0 || matches)
        return r;
    note_delete(&sender->note);
    return error_set(error, ESTALE,
                     "%s: the state of the delivery at id %" PRId64
                     " does not match the database %s: the database was replaced or restored from a backup; stop this "
                     "service and " DELIVERY_STATE_REMEDY,
                     sender->settings->state_file, cursor->id, sender->settings->database);
}

static int open_source(struct sender *sender, struct error *error)
{
    int r = event_source_open(&sender->source, sender->settings->database, error);

    if (r == 0)
        r = check_position(sender, error);
    if (r < 0)
        return r;
    note_read(&sender->note, sender->newest_id);
    sender->look_due_ms = 0;
    set_lag(sender);
    log_info("delivering after id %" PRId64 "; the newest id is %" PRId64 "; %zu earlier events wait for another "
             "attempt",
             sender->position.id, sender->newest_id, schedule_waiting(sender->schedule));
    return 0;
}

static void fail_source(struct sender *sender, const struct error *error)
{
    event_source_close(&sender->source);
    retry_later(sender, &sender->source_retry, error);
}

// The key is a variant of the FNV-1a hash. If two groups have the same key, their events merely wait for each other.
static int64_t group_key(const struct destroyed_group *group)
{
    uint64_t key = UINT64_C(0xcbf29ce484222325) ^ (uint64_t)group->sdk_appid;

    for (const char *at = group->group_id; *at; at++)
        key = (key ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
    return (int64_t)(key * UINT64_C(0x100000001b3));
}

static void take_over(struct sender *sender, const struct recorded_row *row)
{
    const struct waiting_event event = {
        .id = row->id, .group_key = group_key(&row->event.group), .received_at_ms = row->received_at_ms};

    schedule_add(sender->schedule, &event);
    add_change(sender, DELIVERY_WAITS, &event);
    sender->position = (struct cursor){row->id, row->received_at_ms};
}

static int take_over_events(struct sender *sender, struct error *error)
{
    size_t room = schedule_room(sender->schedule), count = 0;
    const struct recorded_row *rows;
    int r;

    if (now_ms(sender) < sender->look_due_ms || !schedule_wants_more(sender->schedule, now_ms(sender)))
        return 0;
    r = event_source_read(&sender->source, sender->position.id, room < TAKE_MAX_EVENTS ? room : TAKE_MAX_EVENTS, &rows,
                          &count, error);
    if (r == 0 && count > 0)
        r = check_position(sender, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < count; i++)
        take_over(sender, &rows[i]);
    if (count == 0)
        sender->look_due_ms = now_ms(sender) + store_reader_wait_ms(sender->source.stream);
    backoff_reset(&sender->source_retry.pause);
    return 0;
}

// Opens the store if it is closed and the pause after the last failure is over, and takes over new events.
static void read_store(struct sender *sender)
{
    struct error error;
    int r = 0;

    if (!event_source_is_open(&sender->source)) {
        if (!is_due(sender, &sender->source_retry))
            return;
        r = open_source(sender, &error);
    }
    if (r == 0)
        r = take_over_events(sender, &error);
    if (r < 0)
        fail_source(sender, &error);
}

// Sending

static void end_attempt(struct sender *sender, const struct endpoint_answer *answer)
{
    struct waiting_event event;
    enum schedule_result result = schedule_finish(sender->schedule, answer->id, answer->outcome, answer->status,
                                                  answer->retry_after_ms, now_ms(sender), &event);

    if (result == SCHEDULE_DONE)
        delivery_log_accepted();
    else
        delivery_log_failed(event.id, answer->outcome, &answer->why, schedule_is_probing(sender->schedule));
    if (result == SCHEDULE_SET_ASIDE)
        delivery_log_set_aside(&event, &answer->why);
    add_change(sender,
               result == SCHEDULE_DONE    ? DELIVERY_ACCEPTED
               : result == SCHEDULE_RETRY ? DELIVERY_WAITS
                                          : DELIVERY_SET_ASIDE,
               &event);
}

static void set_missing_aside(struct sender *sender, const struct waiting_event *event)
{
    const struct waiting_event missing = *event;

    schedule_drop(sender->schedule, missing.id);
    delivery_log_missing(missing.id, sender->settings->database);
    add_change(sender, DELIVERY_SET_ASIDE, &missing);
}

static int send_event(struct sender *sender, const struct waiting_event *event, struct error *error)
{
    const struct recorded_row *row;
    int r = event_source_find(&sender->source, event->id, &row, error);

    if (r == 0 && !row) {
        set_missing_aside(sender, event);
        return 0;
    }
    if (r == 0)
        r = delivery_build(&sender->delivery, sender->settings, &sender->secrets, row, clock_realtime_ms() / 1000,
                           error);
    if (r == 0)
        r = endpoint_send(sender->endpoint, event->id, &sender->delivery, error);
    if (r < 0)
        schedule_postpone(sender->schedule, event->id);
    return r;
}

// An event that the store does not have any more causes a change, which must be written before anything else is sent.
static void send_events(struct sender *sender)
{
    const struct waiting_event *event;
    struct error error;
    int r = 0;

    while (r == 0 && change_count(sender) == 0 && event_source_is_open(&sender->source) &&
           (event = schedule_start(sender->schedule, now_ms(sender))))
        r = send_event(sender, event, &error);
    if (r < 0)
        fail_source(sender, &error);
}

// The loop

static int wait_ms(const struct sender *sender, bool is_watching)
{
    int64_t now = now_ms(sender), due_ms = now + TICK_MS, other_ms = schedule_due_ms(sender->schedule, now);

    if (event_source_is_open(&sender->source)) {
        due_ms = other_ms < due_ms ? other_ms : due_ms;
        if (is_watching && sender->look_due_ms < due_ms)
            due_ms = sender->look_due_ms;
    } else if (sender->source_retry.due_ms < due_ms) {
        due_ms = sender->source_retry.due_ms;
    }
    if (change_count(sender) > 0) // nothing is sent until the state is written
        due_ms = sender->state_retry.due_ms < now + TICK_MS ? sender->state_retry.due_ms : now + TICK_MS;
    return due_ms > now ? (int)(due_ms - now) : 0;
}

static int wait_and_take_answers(struct sender *sender, struct error *error)
{
    bool is_watching = event_source_is_open(&sender->source) && schedule_wants_more(sender->schedule, now_ms(sender));
    struct endpoint_answer answer;
    int r = endpoint_wait(sender->endpoint, wait_ms(sender, is_watching),
                          is_watching ? store_reader_descriptor(sender->source.stream) : -1, error);

    if (r < 0)
        return r;
    while (endpoint_next_answer(sender->endpoint, &answer))
        end_attempt(sender, &answer);
    if (is_watching && store_reader_waited(sender->source.stream, now_ms(sender) >= sender->look_due_ms))
        sender->look_due_ms = 0;
    return 0;
}

static void write_note(struct sender *sender)
{
    const struct shipped shipped = {cursor_id(sender), INT64_MAX};

    if (event_source_is_open(&sender->source) && change_count(sender) == 0)
        note_write(&sender->note, sender->source.stream, &shipped);
}

static void tick(struct sender *sender)
{
    struct error error;

    if (now_ms(sender) < sender->tick_due_ms)
        return;
    sender->tick_due_ms = now_ms(sender) + TICK_MS;
    if (event_source_is_open(&sender->source) && check_position(sender, &error) < 0)
        fail_source(sender, &error);
    write_note(sender);
    set_lag(sender);
    delivery_log_tick();
}

static int send_until_stopped(struct sender *sender, struct error *error)
{
    bool written = false;
    int r = 0;

    while (r == 0 && !endpoint_is_interrupted()) {
        r = wait_and_take_answers(sender, error);
        if (r == 0 && change_count(sender) == 0)
            read_store(sender);
        if (r == 0)
            r = write_state(sender, &written, error);
        if (r == 0 && written)
            send_events(sender);
        tick(sender);
    }
    return r;
}

// Waits up to STOP_MAX_MS for the requests in flight and writes their results, so that the next start does not send
// events again that the endpoint has accepted.
static int end_requests(struct sender *sender, struct error *error)
{
    int64_t end_ms = now_ms(sender) + STOP_MAX_MS;
    bool written;
    int r = 0;

    while (r == 0 && schedule_in_flight(sender->schedule) > 0 && now_ms(sender) < end_ms)
        r = wait_and_take_answers(sender, error);
    sender->state_retry.due_ms = 0;
    if (r == 0)
        r = write_state(sender, &written, error);
    write_note(sender);
    return r;
}

// Starting

static int load_waiting(struct sender *sender, struct error *error)
{
    struct buffer events = {0};
    int r = delivery_state_read_waiting(sender->state, &events, error);
    const struct waiting_event *event = (const struct waiting_event *)(const void *)events.data;

    for (size_t i = 0; i < events.length / sizeof *event && r == 0; i++)
        schedule_add(sender->schedule, &event[i]);
    buffer_finish(&events);
    return r;
}

static int open_state(struct sender *sender, bool from_now, struct error *error)
{
    struct cursor newest;
    int64_t set_aside = 0;
    int r = from_now ? event_source_find_newest(sender->settings->database, &newest, error) : 0;

    if (r == 0)
        r = delivery_state_open(sender->settings->state_file, from_now ? &newest : NULL, &sender->state, error);
    if (r == 0)
        r = load_waiting(sender, error);
    if (r == 0)
        r = delivery_state_count_set_aside(sender->state, &set_aside, error);
    if (r < 0)
        return r;
    sender->position = delivery_state_position(sender->state);
    delivery_log_set_aside_total(set_aside);
    return 0;
}

static int start(struct sender *sender, bool from_now, struct error *error)
{
    const struct deliver_settings *settings = sender->settings;
    bool readable_by_all;
    int r = secret_file_read(settings->secret_file, &sender->secrets, &readable_by_all, error);

    if (r == 0)
        r = endpoint_create(settings, &sender->endpoint, error);
    sender->schedule = schedule_create(settings->in_flight, settings->give_up_after_ms);
    if (r == 0 && (!sender->schedule || buffer_reserve(&sender->changes, (TAKE_MAX_EVENTS + settings->in_flight + 1) *
                                                                             sizeof(struct delivery_change)) < 0))
        r = error_set(error, ENOMEM, "out of memory");
    if (r == 0)
        r = open_state(sender, from_now, error);
    return r;
}

static void finish(struct sender *sender)
{
    endpoint_destroy(sender->endpoint);
    delivery_state_close(sender->state);
    event_source_close(&sender->source);
    schedule_destroy(sender->schedule);
    delivery_finish(&sender->delivery);
    buffer_finish(&sender->changes);
    secret_file_forget(&sender->secrets);
}

int deliver_run(const struct deliver_settings *settings, bool from_now, struct error *error)
{
    struct sender sender = {
        .settings = settings,
        .note = {.path = settings->shipped_file,
                 .database = settings->database,
                 .key = "[deliver] state_file, the note for retention"},
        .source_retry.pause = {.min_ms = TROUBLE_MIN_MS, .max_ms = TROUBLE_MAX_MS},
        .state_retry.pause = {.min_ms = TROUBLE_MIN_MS, .max_ms = TROUBLE_MAX_MS},
        .clock_offset_ms = clock_realtime_ms() - clock_monotonic_ms(),
    };
    int r;

    backoff_seed();
    r = start(&sender, from_now, error);
    if (r == 0)
        r = send_until_stopped(&sender, error);
    if (r == 0)
        r = end_requests(&sender, error);
    finish(&sender);
    return r;
}
