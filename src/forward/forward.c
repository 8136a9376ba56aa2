// Ships batches until something fails, and then starts again from the cursor in the destination. After a failure,
// forward_run keeps only the delays, the answer timeout and whether an event was rejected, so that the recovery is the
// same wherever the failure happened.
#include "imcallbackd/forward/forward.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>

#include "batch.h"
#include "destination_schema.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/outbound/backoff.h"
#include "imcallbackd/outbound/cursor.h"
#include "imcallbackd/outbound/note.h"
#include "progress.h"

// Several batches are in flight, so that the destination does not wait for a round trip between two batches.
#define MAX_IN_FLIGHT 4
// After a batch with fewer rows and members in total than this, the forwarder waits for all batches in flight. New rows
// collect in the store during the wait, so that the next batch is larger.
#define LARGE_BATCH_ROWS 500

#define TICK_MS 1000

// The nominal delays between attempts. A temporary failure may be over soon. A permanent failure lasts until an
// operator has fixed the cause.
#define TEMPORARY_DELAY_MIN_MS 100
#define TEMPORARY_DELAY_MAX_MS 5000
#define PERMANENT_DELAY_MIN_MS 5000
#define PERMANENT_DELAY_MAX_MS 60000

// A destination that does not answer may be executing a slow statement, so each further attempt waits longer, up to
// this time.
#define ANSWER_TIMEOUT_MAX_MS 480000

const bool forward_is_built = true;

struct in_flight {
    enum stream stream;
    int64_t first_id;
    struct cursor to;
    size_t rows, members;
    int64_t oldest_received_at_ms;
    int64_t sent_at_us;
};

// One attempt to ship, from opening the store and the destination until the first failure or forward_stop.
struct session {
    const struct forward_settings *settings;
    struct store_reader *reader;
    struct destination destination;
    struct batch batch;
    struct cursor sent[STREAM_COUNT];
    struct cursor shipped[STREAM_COUNT];       // committed in the destination
    struct in_flight in_flight[MAX_IN_FLIGHT]; // ring of sent batches, in the order of sending
    size_t first, count;                       // index of the oldest batch in flight; number of batches in flight
    bool must_drain;                           // send nothing until all batches in flight are committed
    bool rejections_first;                     // whether the destination rejected an event during the previous session
    bool event_rejected;                       // whether the destination rejected an event during this session
    bool progress;                             // whether at least one batch was committed
    struct note note;
    int64_t newest_ids[STREAM_COUNT]; // largest ids of the store, refreshed once a second
    int64_t tick_due_ms;
};

int forward_print_metrics(struct buffer *text)
{
    return progress_print_metrics(text);
}

void forward_stop(void)
{
    destination_cancel();
}

// The position in the store and the note for retention

// Deletes the note if the cursor does not match the store. Otherwise the daemon could delete new rows with the ids of
// shipped ones.
static int check_position(struct session *session, enum stream stream, const struct cursor *cursor, bool *ret_matches,
                          struct error *error)
{
    int r = cursor_check(session->reader, stream, cursor, ret_matches, error);

    if (r == 0 && !*ret_matches)
        note_delete(&session->note);
    return r;
}

static int check_sent(struct session *session, enum stream stream, struct error *error)
{
    const struct cursor *sent = &session->sent[stream];
    bool matches;
    int r = check_position(session, stream, sent, &matches, error);

    if (r < 0 || matches)
        return r;
    return error_set(error, ESTALE,
                     "%s: the row of %s with id %" PRId64
                     ", which the forwarder has read, is not in this database: the "
                     "database was restored from a backup; the forwarder continues after its cursor in the "
                     "destination if the cursor matches the database",
                     session->settings->database, stream_tables[stream].name, sent->id);
}

static int write_note(struct session *session, struct error *error)
{
    const struct shipped shipped = {session->shipped[STREAM_GROUPS].id, session->shipped[STREAM_REJECTIONS].id};
    int r = 0;

    for (enum stream stream = 0; stream < STREAM_COUNT && r == 0; stream++)
        r = check_sent(session, stream, error);
    if (r == 0)
        note_write(&session->note, session->reader, &shipped);
    return r;
}

// Lag

static void set_lag(const struct session *session, int64_t oldest_received_at_ms)
{
    progress_set_lag(session->newest_ids[STREAM_GROUPS], session->shipped[STREAM_GROUPS].id, oldest_received_at_ms);
}

static const struct in_flight *nth_in_flight(const struct session *session, size_t n)
{
    assert(n < session->count && session->count <= MAX_IN_FLIGHT);
    return &session->in_flight[(session->first + n) % MAX_IN_FLIGHT];
}

// Returns the time at which the oldest event in flight was received, or 0 if no event is in flight.
static int64_t oldest_in_flight_ms(const struct session *session)
{
    for (size_t i = 0; i < session->count; i++) {
        if (nth_in_flight(session, i)->stream == STREAM_GROUPS)
            return nth_in_flight(session, i)->oldest_received_at_ms;
    }
    return 0;
}

// Opening a session

// Sets the lag from the note for retention, because the cursor is unknown until the forwarder is connected to the
// destination.
static int estimate_lag(struct session *session, struct error *error)
{
    const struct recorded_row *rows;
    size_t count = 0;
    int64_t noted_id;
    int r = store_reader_read_newest_ids(session->reader, session->newest_ids, error);

    note_read(&session->note, session->newest_ids[STREAM_GROUPS]);
    noted_id = session->note.noted.group_id;
    session->shipped[STREAM_GROUPS].id = noted_id;
    if (r == 0)
        r = store_reader_read_some(session->reader, STREAM_GROUPS, noted_id, 1, &rows, &count, error);
    if (r == 0)
        set_lag(session, count > 0 ? rows[0].received_at_ms : 0);
    return r;
}

static int check_cursor(struct session *session, enum stream stream, struct error *error)
{
    const struct cursor *cursor = &session->shipped[stream];
    bool matches;
    int r = check_position(session, stream, cursor, &matches, error);

    if (r < 0 || matches)
        return r;
    return error_set(error, ESTALE,
                     "%s: the cursor of receiver '%s' at id %" PRId64
                     " does not match this database: the database was replaced or restored from a backup; set another "
                     "[forward] receiver, or delete the receiver's rows from imcallbackd_cursor in the destination. "
                     "Either ships the whole database again and leaves the rows in the destination unchanged",
                     session->settings->database, session->settings->receiver, cursor->id);
}

static int read_cursors(struct session *session, struct error *error)
{
    int r = store_reader_read_newest_ids(session->reader, session->newest_ids, error);

    if (r == 0)
        r = cursor_create(&session->destination, session->settings->receiver, error);
    for (enum stream stream = 0; stream < STREAM_COUNT && r == 0; stream++) {
        r = cursor_read(&session->destination, session->settings->receiver, stream, &session->shipped[stream], error);
        if (r == 0)
            r = check_cursor(session, stream, error);
        session->sent[stream] = session->shipped[stream];
    }
    return r;
}

static int session_open(struct session *session, int64_t answer_timeout_ms, struct error *error)
{
    int r = store_reader_open(session->settings->database, &session->reader, error);

    if (r == 0)
        r = estimate_lag(session, error);
    if (r == 0)
        r = destination_open(&session->destination, session->settings, answer_timeout_ms, error);
    if (r == 0)
        r = schema_prepare(&session->destination, error);
    if (r == 0)
        r = read_cursors(session, error);
    if (r == 0)
        r = destination_enter_pipeline(&session->destination, error);
    if (r == 0) {
        progress_set_connected(true);
        log_info("shipping to %s, port %s as receiver '%s', starting after id %" PRId64 "; the newest id is %" PRId64,
                 destination_host(&session->destination), destination_port(&session->destination),
                 session->settings->receiver, session->shipped[STREAM_GROUPS].id, session->newest_ids[STREAM_GROUPS]);
    }
    return r;
}

static void session_close(struct session *session)
{
    progress_set_connected(false);
    destination_close(&session->destination);
    store_reader_close(session->reader);
    batch_finish(&session->batch);
}

// Shipping

static void add_in_flight(struct session *session, const struct in_flight *batch)
{
    assert(session->count < MAX_IN_FLIGHT);
    assert(batch->to.id > session->sent[batch->stream].id);
    session->in_flight[(session->first + session->count++) % MAX_IN_FLIGHT] = *batch;
    session->sent[batch->stream] = batch->to;
    session->must_drain = batch->rows + batch->members < LARGE_BATCH_ROWS;
}

// Sends the next batch of the stream, and sets *ret_count to its number of rows, which is 0 if no row waits.
static int send_batch(struct session *session, enum stream stream, size_t *ret_count, struct error *error)
{
    const struct cursor *from = &session->sent[stream];
    struct in_flight batch = {.stream = stream, .sent_at_us = clock_monotonic_us()};
    const struct recorded_row *rows, *last;
    int r = store_reader_read(session->reader, stream, from->id, &rows, ret_count, error);

    if (r == 0 && *ret_count > 0)
        r = check_sent(session, stream, error);
    if (r < 0 || *ret_count == 0)
        return r;
    last = &rows[*ret_count - 1];
    batch.rows = *ret_count;
    batch.first_id = rows[0].id;
    batch.to = (struct cursor){last->id, last->received_at_ms};
    batch.oldest_received_at_ms = rows[0].received_at_ms;
    for (size_t i = 0; stream == STREAM_GROUPS && i < batch.rows; i++)
        batch.members += rows[i].event.group.member_count;
    r = batch_send(&session->batch, &session->destination, session->settings->receiver, stream, from, rows, batch.rows,
                   error);
    if (r == 0)
        add_in_flight(session, &batch);
    return r;
}

// Sends batches until no row is left, MAX_IN_FLIGHT batches are in flight, or must_drain is set. Rejected callbacks are
// not urgent: unless rejections_first is set, this function sends them only when no event is waiting or a tick is due.
// The ticks ensure that a steady stream of events cannot starve them.
static int send_batches(struct session *session, struct error *error)
{
    size_t groups = 1, rejections = 0;
    int r = 0;

    if (session->rejections_first) {
        r = send_batch(session, STREAM_REJECTIONS, &rejections, error);
        session->must_drain = false; // send events as well: without one in flight, set_lag would report no lag
    }
    session->rejections_first = false;
    while (r == 0 && groups + rejections > 0 && session->count < MAX_IN_FLIGHT && !session->must_drain) {
        r = send_batch(session, STREAM_GROUPS, &groups, error);
        rejections = 0;
        if (r == 0 && session->count < MAX_IN_FLIGHT && (groups == 0 || clock_monotonic_ms() >= session->tick_due_ms))
            r = send_batch(session, STREAM_REJECTIONS, &rejections, error);
    }
    return r;
}

static bool is_temporary(int code)
{
    return code == -EAGAIN || code == -ETIMEDOUT;
}

static void commit_first(struct session *session, const struct in_flight *batch)
{
    assert(batch->to.id > session->shipped[batch->stream].id);
    assert(batch->to.id <= session->sent[batch->stream].id);
    session->first = (session->first + 1) % MAX_IN_FLIGHT;
    session->count--;
    session->must_drain = session->must_drain && session->count > 0;
    session->shipped[batch->stream] = batch->to;
    session->progress = true;
    progress_add_shipped(batch->stream, batch->rows, batch->members, clock_monotonic_us() - batch->sent_at_us);
}

static int await_first(struct session *session, struct error *error)
{
    const struct in_flight batch = *nth_in_flight(session, 0);
    int64_t moved = 0;
    int r = destination_await_sync(&session->destination, CURSOR_STATEMENT, &moved, error);

    // A rejected batch blocks all later batches of its stream, so the error names the ids, among which the operator has
    // to find the rejected row.
    if (r < 0 && !is_temporary(r) && r != -ECANCELED) {
        session->event_rejected = batch.stream == STREAM_GROUPS;
        error_wrap(error, "%s with ids %" PRId64 " to %" PRId64,
                   session->event_rejected ? "events" : "rejected callbacks", batch.first_id, batch.to.id);
    }
    if (r < 0)
        return r;
    if (moved != 1)
        return error_set(
            error, EAGAIN,
            "imcallbackd_cursor: the cursor of receiver '%s' has moved unexpectedly: after a lost connection, an "
            "earlier "
            "transaction of this forwarder may have committed; otherwise another forwarder uses this receiver name; "
            "set a unique [forward] receiver for each receiver and run one forwarder for it",
            session->settings->receiver);
    commit_first(session, &batch);
    return 0;
}

// Performs the periodic work of the session, once a second.
static int tick(struct session *session, struct error *error)
{
    int r;

    if (clock_monotonic_ms() < session->tick_due_ms)
        return 0;
    session->tick_due_ms = clock_monotonic_ms() + TICK_MS;
    progress_log_summary();
    r = write_note(session, error);
    return r < 0 ? r : store_reader_read_newest_ids(session->reader, session->newest_ids, error);
}

static int session_run(struct session *session, int64_t answer_timeout_ms, struct error *error)
{
    int r = session_open(session, answer_timeout_ms, error);

    while (r == 0 && !destination_cancelled()) {
        r = send_batches(session, error);
        if (r == 0)
            set_lag(session, oldest_in_flight_ms(session));
        if (r == 0 && session->count > 0)
            r = await_first(session, error);
        else if (r == 0)
            store_reader_wait(session->reader);
        if (r == 0)
            r = tick(session, error);
    }
    // After a failure, the next session writes the note, because this reader may have failed.
    if (session->progress && (r == 0 || r == -ECANCELED))
        (void)write_note(session, error);
    return r;
}

// Retrying

void forward_run(const struct forward_settings *settings)
{
    struct backoff temporary = {.min_ms = TEMPORARY_DELAY_MIN_MS, .max_ms = TEMPORARY_DELAY_MAX_MS};
    struct backoff permanent = {.min_ms = PERMANENT_DELAY_MIN_MS, .max_ms = PERMANENT_DELAY_MAX_MS};
    int64_t answer_timeout_ms = ANSWER_TIMEOUT_MIN_MS, pause_ms;
    bool event_rejected = false;

    backoff_seed();
    while (!destination_cancelled()) {
        struct session session = {
            .settings = settings,
            .note = {.path = settings->shipped_file, .database = settings->database, .key = "[forward] shipped_file"},
            .rejections_first = event_rejected, // a rejected event must not block the rejected callbacks
        };
        struct error error;
        int r = session_run(&session, answer_timeout_ms, &error);

        session_close(&session);
        event_rejected = session.event_rejected;
        if (session.progress) {
            backoff_reset(&temporary);
            backoff_reset(&permanent);
            answer_timeout_ms = ANSWER_TIMEOUT_MIN_MS;
        }
        if (r == 0 || r == -ECANCELED)
            return;
        if (r == -ETIMEDOUT && answer_timeout_ms < ANSWER_TIMEOUT_MAX_MS)
            answer_timeout_ms *= 2;
        pause_ms = backoff_next_ms(is_temporary(r) ? &temporary : &permanent);
        progress_add_failure(&error, pause_ms);
        backoff_pause(pause_ms, destination_cancelled);
    }
}
