// Sends recorded events once more, one after the other. A replay does not open the state file, which the running
// service has locked, so the two can run at the same time.
#include <errno.h>
#include <inttypes.h>

#include "delivery.h"
#include "endpoint.h"
#include "event_source.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/deliver/deliver.h"
#include "secret_file.h"

#define WAIT_MS 1000
#define ROWS    100 // read at once

struct replay {
    const struct deliver_settings *settings;
    deliver_report *report;
    struct webhook_secrets secrets;
    struct endpoint *endpoint;
    struct event_source source;
    struct delivery delivery;
    size_t sent, accepted;
};

static int send_row(struct replay *replay, const struct recorded_row *row, struct endpoint_answer *ret_answer,
                    struct error *error)
{
    int r =
        delivery_build(&replay->delivery, replay->settings, &replay->secrets, row, clock_realtime_ms() / 1000, error);

    if (r == 0)
        r = endpoint_send(replay->endpoint, row->id, &replay->delivery, error);
    while (r == 0 && !endpoint_next_answer(replay->endpoint, ret_answer)) {
        r = endpoint_wait(replay->endpoint, WAIT_MS, -1, error);
        if (r == 0 && endpoint_is_interrupted())
            r = error_set(error, EINTR,
                          "interrupted while event %" PRId64 " was in flight; the endpoint may have accepted it",
                          row->id);
    }
    return r;
}

static int replay_row(struct replay *replay, const struct recorded_row *row, struct error *error)
{
    struct endpoint_answer answer = {.outcome = OUTCOME_BROKEN};
    struct error sentence;
    int r = send_row(replay, row, &answer, error);

    if (r < 0)
        return r;
    replay->sent++;
    replay->accepted += answer.outcome == OUTCOME_ACCEPTED;
    if (answer.outcome == OUTCOME_ACCEPTED)
        (void)error_set(&sentence, 0, "%" PRId64 ": accepted with status %d", row->id, answer.status);
    else
        (void)error_set(&sentence, 0, "%" PRId64 ": not accepted: %s", row->id, answer.why.text);
    replay->report(sentence.text);
    return 0;
}

static int fail_without_event(const struct replay *replay, int64_t first_id, int64_t last_id, int64_t newest_id,
                              struct error *error)
{
    const char *database = replay->settings->database;

    if (first_id == last_id)
        return error_set(error, ENOENT, "%s: the database has no event %" PRId64 "; the newest id is %" PRId64,
                         database, first_id, newest_id);
    return error_set(error, ENOENT,
                     "%s: the database has no event from %" PRId64 " to %" PRId64 "; the newest id is %" PRId64,
                     database, first_id, last_id, newest_id);
}

static int replay_rows(struct replay *replay, int64_t first_id, int64_t last_id, struct error *error)
{
    const struct recorded_row *rows;
    int64_t after_id = first_id - 1, newest_ids[STREAM_COUNT];
    size_t count = 0;
    int r = store_reader_read_newest_ids(replay->source.stream, newest_ids, error);

    if (r < 0)
        return r;
    if (first_id > newest_ids[STREAM_GROUPS])
        return fail_without_event(replay, first_id, last_id, newest_ids[STREAM_GROUPS], error);
    do {
        r = event_source_read(&replay->source, after_id, ROWS, &rows, &count, error);
        for (size_t i = 0; i < count && r == 0; i++) {
            after_id = rows[i].id;
            if (after_id <= last_id)
                r = replay_row(replay, &rows[i], error);
        }
    } while (r == 0 && count > 0 && after_id < last_id);
    if (r == 0 && replay->sent == 0)
        r = fail_without_event(replay, first_id, last_id, newest_ids[STREAM_GROUPS], error);
    return r;
}

int deliver_replay(const struct deliver_settings *settings, int64_t first_id, int64_t last_id, deliver_report *report,
                   bool *ret_all_accepted, struct error *error)
{
    struct replay replay = {.settings = settings, .report = report};
    bool readable_by_all;
    int r = secret_file_read(settings->secret_file, &replay.secrets, &readable_by_all, error);

    if (r == 0)
        r = endpoint_create(settings, &replay.endpoint, error);
    if (r == 0)
        r = event_source_open(&replay.source, settings->database, error);
    if (r == 0)
        r = replay_rows(&replay, first_id, last_id, error);
    *ret_all_accepted = replay.accepted == replay.sent;
    endpoint_destroy(replay.endpoint);
    event_source_close(&replay.source);
    delivery_finish(&replay.delivery);
    secret_file_forget(&replay.secrets);
    return r;
}
