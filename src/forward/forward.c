#include "imcallbackd/forward/forward.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch.h"
#include "destination_schema.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/store/shipped.h"
#include "meter.h"

// Batches under way at a time, so that the destination has the next one when it is done with one, however far it is.
#define MAX_UNDER_WAY 4
// While others are under way, a batch goes out behind one of so many rows at least; after a smaller one it is waited
// for what comes meanwhile.
#define LARGE_BATCH_ROWS 500

#define TICK_MS 1000

// Between tries: what passes by itself is tried soon, what somebody has to mend is not.
#define PASSING_PAUSE_MIN_MS 100
#define PASSING_PAUSE_MAX_MS 5000
#define MENDING_PAUSE_MIN_MS 5000
#define MENDING_PAUSE_MAX_MS 60000

// A destination that has said nothing for SILENCE_MIN_MS may compute, so the next time it gets longer, up to this.
#define SILENCE_MAX_MS 480000

const bool forward_is_built = true;

struct under_way {
    enum stream stream;
    int64_t first_id;
    struct cursor to;
    size_t rows, members;
    int64_t oldest_received_at_ms;
    int64_t sent_at_us;
};

// From a look into the cursors to the first failure.
struct session {
    const struct forward_settings *settings;
    int64_t silence_ms; // see destination.h
    struct store_reader *reader;
    struct destination destination;
    struct batch batch;
    struct cursor sent[STREAM_COUNT];
    struct cursor shipped[STREAM_COUNT];
    struct under_way under_way[MAX_UNDER_WAY];
    size_t first, count; // of those under way
    bool drained;        // no further batch before all are there
    bool rejections_first;
    bool events_refused;
    bool progress;
    struct shipped noted;
    bool note_failed;
    int64_t newest_id;
    int64_t tick_due_ms;
};

void forward_stop(void)
{
    destination_cancel();
}

static void measure_lag(const struct session *session, int64_t oldest_received_at_ms)
{
    const struct meter_lag lag = {session->newest_id, session->shipped[STREAM_GROUPS].id, oldest_received_at_ms};

    meter_set_lag(&lag);
}

static const struct under_way *nth_under_way(const struct session *session, size_t n)
{
    return &session->under_way[(session->first + n) % MAX_UNDER_WAY];
}

// Of the events under way; 0: there is none.
static int64_t oldest_under_way(const struct session *session)
{
    for (size_t i = 0; i < session->count; i++) {
        if (nth_under_way(session, i)->stream == STREAM_GROUPS)
            return nth_under_way(session, i)->oldest_received_at_ms;
    }
    return 0;
}

// Beginning

// While there is no connection, the lag is that to the note of last time.
static int look_at_store(struct session *session, struct error *error)
{
    const struct recorded_row *groups;
    struct shipped noted = {0};
    int64_t newest[STREAM_COUNT] = {0};
    size_t count = 0;
    struct error no_note;
    int r = store_reader_read_newest_ids(session->reader, newest, error);

    session->newest_id = newest[STREAM_GROUPS];
    if (shipped_read(session->settings->shipped_file, session->settings->database, &noted, &no_note) < 0 ||
        noted.group_id > session->newest_id)
        noted = (struct shipped){0};
    session->noted = noted;
    session->shipped[STREAM_GROUPS].id = noted.group_id;
    if (r == 0)
        r = store_reader_read(session->reader, STREAM_GROUPS, noted.group_id, &groups, &count, error);
    if (r == 0)
        measure_lag(session, count > 0 ? groups[0].received_at_ms : 0);
    return r;
}

// Does the row of the cursor exist here with the time that it had, if it was not deleted yet? Ids are given anew after
// a backup was put back.
static int read_received_at(struct session *session, enum stream stream, int64_t id, int64_t *ret_received_at_ms,
                            struct error *error)
{
    const struct recorded_row *rejections;
    const struct recorded_row *groups;
    size_t count;
    int r;

    if (stream == STREAM_GROUPS) {
        r = store_reader_read(session->reader, STREAM_GROUPS, id - 1, &groups, &count, error);
        if (r == 0 && count > 0 && groups[0].id == id)
            *ret_received_at_ms = groups[0].received_at_ms;
        return r;
    }
    r = store_reader_read(session->reader, STREAM_REJECTIONS, id - 1, &rejections, &count, error);
    if (r == 0 && count > 0 && rejections[0].id == id)
        *ret_received_at_ms = rejections[0].received_at_ms;
    return r;
}

static int check_cursor(struct session *session, enum stream stream, int64_t newest_id, struct error *error)
{
    const struct cursor *cursor = &session->shipped[stream];
    int64_t received_at_ms = cursor->received_at_ms;
    int r = 0;

    if (cursor->id == 0)
        return 0;
    if (cursor->id <= newest_id)
        r = read_received_at(session, stream, cursor->id, &received_at_ms, error);
    if (r < 0 || (cursor->id <= newest_id && received_at_ms == cursor->received_at_ms))
        return r;
    // Without the note the daemon deletes nothing: what it says was shipped is not of this database.
    (void)unlink(session->settings->shipped_file);
    return error_set(error, ESTALE,
                     "%s is not the database that was shipped from as receiver '%s' up to id %" PRId64
                     ": it was replaced or put back from a backup. Give it another [forward] receiver, or delete the "
                     "receiver's rows from imcallbackd_cursor in the destination: then all of it is shipped anew, and "
                     "what is there already stays as it is",
                     session->settings->database, session->settings->receiver, cursor->id);
}

static int read_cursors(struct session *session, struct error *error)
{
    int64_t newest[STREAM_COUNT];
    int r = store_reader_read_newest_ids(session->reader, newest, error);

    if (r == 0)
        r = cursor_make(&session->destination, session->settings->receiver, error);
    for (enum stream stream = 0; stream < STREAM_COUNT && r == 0; stream++) {
        r = cursor_read(&session->destination, session->settings->receiver, stream, &session->shipped[stream], error);
        if (r == 0)
            r = check_cursor(session, stream, newest[stream], error);
        session->sent[stream] = session->shipped[stream];
    }
    session->newest_id = newest[STREAM_GROUPS];
    return r;
}

static void log_beginning(const struct session *session)
{
    struct error name;

    destination_name(&session->destination, &name);
    log_info("shipping to %s as receiver '%s' from behind id %" PRId64 "; the newest is %" PRId64, name.text,
             session->settings->receiver, session->shipped[STREAM_GROUPS].id, session->newest_id);
}

static int session_begin(struct session *session, struct error *error)
{
    int r = store_reader_open(session->settings->database, &session->reader, error);

    if (r == 0)
        r = look_at_store(session, error);
    if (r == 0)
        r = destination_open(&session->destination, session->settings, session->silence_ms, error);
    if (r == 0)
        r = schema_prepare(&session->destination, error);
    if (r == 0)
        r = read_cursors(session, error);
    if (r == 0)
        r = destination_begin_pipeline(&session->destination, error);
    if (r == 0) {
        meter_set_connected(true);
        log_beginning(session);
    }
    return r;
}

static void session_end(struct session *session)
{
    meter_set_connected(false);
    destination_close(&session->destination);
    store_reader_close(session->reader);
    batch_finish(&session->batch);
}

// Shipping

static void add_under_way(struct session *session, const struct under_way *batch)
{
    session->under_way[(session->first + session->count++) % MAX_UNDER_WAY] = *batch;
    session->sent[batch->stream] = batch->to;
    session->drained = batch->rows + batch->members < LARGE_BATCH_ROWS;
}

// *ret_count: how many rows were sent.
static int send_groups(struct session *session, size_t *ret_count, struct error *error)
{
    const struct cursor *from = &session->sent[STREAM_GROUPS];
    struct under_way batch = {.stream = STREAM_GROUPS, .sent_at_us = clock_monotonic_us()};
    const struct recorded_row *groups;
    int r = store_reader_read(session->reader, STREAM_GROUPS, from->id, &groups, ret_count, error);

    if (r < 0 || *ret_count == 0)
        return r;
    batch.rows = *ret_count;
    batch.first_id = groups[0].id;
    batch.to = (struct cursor){groups[batch.rows - 1].id, groups[batch.rows - 1].received_at_ms};
    batch.oldest_received_at_ms = groups[0].received_at_ms;
    for (size_t i = 0; i < batch.rows; i++)
        batch.members += groups[i].event.group.member_count;
    r = batch_send_groups(&session->batch, &session->destination, session->settings->receiver, from, groups, batch.rows,
                          error);
    if (r == 0)
        add_under_way(session, &batch);
    return r;
}

static int send_rejections(struct session *session, size_t *ret_count, struct error *error)
{
    const struct cursor *from = &session->sent[STREAM_REJECTIONS];
    struct under_way batch = {.stream = STREAM_REJECTIONS, .sent_at_us = clock_monotonic_us()};
    const struct recorded_row *rejections;
    int r = store_reader_read(session->reader, STREAM_REJECTIONS, from->id, &rejections, ret_count, error);

    if (r < 0 || *ret_count == 0)
        return r;
    batch.rows = *ret_count;
    batch.first_id = rejections[0].id;
    batch.to = (struct cursor){rejections[batch.rows - 1].id, rejections[batch.rows - 1].received_at_ms};
    batch.oldest_received_at_ms = rejections[0].received_at_ms;
    r = batch_send_rejections(&session->batch, &session->destination, session->settings->receiver, from, rejections,
                              batch.rows, error);
    if (r == 0)
        add_under_way(session, &batch);
    return r;
}

// Sends as long as there is something and room for it.
static int send_what_is_there(struct session *session, struct error *error)
{
    size_t groups = 1, rejections = 0;
    int r = 0;

    if (session->rejections_first) {
        r = send_rejections(session, &rejections, error);
        session->drained = false; // the events behind them are what the lag is measured by
    }
    session->rejections_first = false;
    while (r == 0 && groups + rejections > 0 && session->count < MAX_UNDER_WAY && !session->drained) {
        r = send_groups(session, &groups, error);
        rejections = 0;
        // They must not starve, and are no hurry.
        if (r == 0 && session->count < MAX_UNDER_WAY && (groups == 0 || clock_monotonic_ms() >= session->tick_due_ms))
            r = send_rejections(session, &rejections, error);
    }
    return r;
}

// Does a failure of the destination pass by itself?
static bool passes(int code)
{
    return code == -EAGAIN || code == -ETIMEDOUT;
}

static int await_first(struct session *session, struct error *error)
{
    const struct under_way batch = *nth_under_way(session, 0);
    int64_t moved = 0;
    int r = destination_await_sync(&session->destination, CURSOR_STATEMENT, &moved, error);

    // What the destination does not take keeps up all behind it, so it must be found.
    if (r < 0 && !passes(r) && r != -ECANCELED) {
        session->events_refused = batch.stream == STREAM_GROUPS;
        error_wrap(error, "%s with the ids %" PRId64 " to %" PRId64,
                   session->events_refused ? "events" : "rejected callbacks", batch.first_id, batch.to.id);
    }
    if (r < 0)
        return r;
    if (moved != 1)
        return error_set(
            error, EAGAIN,
            "the cursor of receiver '%s' was moved by somebody else. After a lost connection that may be a "
            "transaction of our own; otherwise another forwarder has this name, and each receiver needs a "
            "[forward] receiver of its own and one forwarder",
            session->settings->receiver);
    session->first = (session->first + 1) % MAX_UNDER_WAY;
    session->count--;
    session->drained = session->drained && session->count > 0;
    session->shipped[batch.stream] = batch.to;
    session->progress = true;
    meter_add_shipped(batch.stream, batch.rows, batch.members, clock_monotonic_us() - batch.sent_at_us);
    return 0;
}

// The note for the daemon. When it cannot be written the daemon deletes nothing, so it is told, but keeps nothing up.
// Of a store that was replaced meanwhile there is nothing to note: the ids are none of the one that is there now.
static void note_shipped(struct session *session)
{
    const struct forward_settings *settings = session->settings;
    const struct shipped shipped = {session->shipped[STREAM_GROUPS].id, session->shipped[STREAM_REJECTIONS].id};
    struct error error;

    if ((shipped.group_id == session->noted.group_id && shipped.rejection_id == session->noted.rejection_id) ||
        !store_reader_is_in_place(session->reader))
        return;
    if (shipped_write(settings->shipped_file, settings->database, &shipped, &error) == 0) {
        session->noted = shipped;
        session->note_failed = false;
    } else if (!session->note_failed) {
        log_warning("[forward] shipped_file: %s; [store] retention deletes nothing without it", error.text);
        session->note_failed = true;
    }
}

// What is done once a second at most.
static int tick(struct session *session, struct error *error)
{
    int64_t newest[STREAM_COUNT] = {0};
    int r;

    if (clock_monotonic_ms() < session->tick_due_ms)
        return 0;
    session->tick_due_ms = clock_monotonic_ms() + TICK_MS;
    note_shipped(session);
    meter_log_summary();
    r = store_reader_read_newest_ids(session->reader, newest, error);
    session->newest_id = newest[STREAM_GROUPS];
    return r;
}

static int session_run(struct session *session, struct error *error)
{
    int r = session_begin(session, error);

    while (r == 0 && !destination_cancelled()) {
        r = send_what_is_there(session, error);
        if (r == 0)
            measure_lag(session, oldest_under_way(session));
        if (r == 0 && session->count > 0)
            r = await_first(session, error);
        else if (r == 0)
            store_reader_wait(session->reader);
        if (r == 0)
            r = tick(session, error);
    }
    if (session->progress)
        note_shipped(session);
    return r;
}

// Trying again

struct patience {
    int64_t passing_ms, mending_ms; // the next pause
    int64_t silence_ms;
};

// A little more or less than the time, so that forwarders do not come all at once.
static int64_t with_jitter(int64_t ms)
{
    return ms / 2 + (int64_t)((double)ms * (double)random() / (double)RAND_MAX);
}

// Doubles it for the next time; returns what it was.
static int64_t lengthen(int64_t *ms, int64_t max_ms)
{
    int64_t now_ms = *ms;

    *ms = now_ms * 2 < max_ms ? now_ms * 2 : max_ms;
    return now_ms;
}

static int64_t next_pause_ms(struct patience *patience, int code)
{
    if (code == -ETIMEDOUT)
        (void)lengthen(&patience->silence_ms, SILENCE_MAX_MS);
    return with_jitter(passes(code) ? lengthen(&patience->passing_ms, PASSING_PAUSE_MAX_MS)
                                    : lengthen(&patience->mending_ms, MENDING_PAUSE_MAX_MS));
}

static void pause_for(int64_t pause_ms)
{
    int64_t end_ms = clock_monotonic_ms() + pause_ms, left_ms;

    while (!destination_cancelled() && (left_ms = end_ms - clock_monotonic_ms()) > 0)
        (void)poll(NULL, 0, (int)(left_ms < 200 ? left_ms : 200));
}

void forward_run(const struct forward_settings *settings)
{
    const struct patience fresh = {PASSING_PAUSE_MIN_MS, MENDING_PAUSE_MIN_MS, SILENCE_MIN_MS};
    struct patience patience = fresh;
    bool events_refused = false;

    srandom((unsigned int)clock_monotonic_us() ^ (unsigned int)getpid());
    while (!destination_cancelled()) {
        struct session session = {
            .settings = settings, .silence_ms = patience.silence_ms, .rejections_first = events_refused};
        struct error error;
        int64_t pause_ms;
        int r = session_run(&session, &error);

        session_end(&session);
        // Refused events keep up the events behind them, but not the rejected callbacks.
        events_refused = session.events_refused;
        if (session.progress)
            patience = fresh;
        if (r == 0 || r == -ECANCELED)
            return;
        pause_ms = next_pause_ms(&patience, r);
        meter_add_retry();
        meter_log_failure(&error, pause_ms);
        pause_for(pause_ms);
    }
}
