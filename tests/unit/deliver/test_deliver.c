// Tests the loop of the sender with an endpoint that this file replaces: it accepts each request at once.
#include <errno.h>

#include "../store/store_fixture.h"
#include "deliver/endpoint.h"
#include "imcallbackd/deliver/deliver.h"
#include "imcallbackd/store/delivery_state.h"

enum { EVENTS = 3 };

static char state_path[128], note_path[128];
static int64_t sent[2 * EVENTS], set_aside_at_send[2 * EVENTS]; // for each request: rows of set_aside on disk
static size_t sent_count, answered_count;

int __wrap_endpoint_send(struct endpoint *endpoint, int64_t id, struct delivery *delivery, struct error *error);
int __wrap_endpoint_wait(struct endpoint *endpoint, int timeout_ms, int fd, struct error *error);
bool __wrap_endpoint_next_answer(struct endpoint *endpoint, struct endpoint_answer *ret_answer);
bool __wrap_endpoint_is_interrupted(void);

static int64_t query(const char *path, const char *sql)
{
    sqlite3 *connection;
    sqlite3_stmt *statement;
    int64_t number;

    assert_int_equal(sqlite3_open(path, &connection), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(connection, sql, -1, &statement, NULL), SQLITE_OK);
    number = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    assert_int_equal(sqlite3_close(connection), SQLITE_OK);
    return number;
}

int __wrap_endpoint_send(struct endpoint *endpoint, int64_t id, struct delivery *delivery, struct error *error)
{
    (void)endpoint;
    (void)delivery;
    (void)error;
    assert_true(sent_count < COUNT(sent));
    set_aside_at_send[sent_count] = query(state_path, "SELECT count(*) FROM set_aside");
    sent[sent_count++] = id;
    return 0;
}

int __wrap_endpoint_wait(struct endpoint *endpoint, int timeout_ms, int fd, struct error *error)
{
    (void)endpoint;
    (void)timeout_ms;
    (void)fd;
    (void)error;
    return 0;
}

bool __wrap_endpoint_next_answer(struct endpoint *endpoint, struct endpoint_answer *ret_answer)
{
    (void)endpoint;
    if (answered_count == sent_count)
        return false;
    *ret_answer = (struct endpoint_answer){
        .id = sent[answered_count++], .outcome = OUTCOME_ACCEPTED, .status = 200, .retry_after_ms = -1};
    return true;
}

bool __wrap_endpoint_is_interrupted(void)
{
    return answered_count >= EVENTS - 1;
}

// A crash after a request was sent must not forget a change that was made before the request.
TEST(sends_nothing_before_a_missing_event_is_set_aside_on_disk)
{
    struct fixture *fixture = *state;
    struct destroyed_group group = example_group();
    struct deliver_settings settings = {.url = "http://127.0.0.1:1/",
                                        .receiver = "a",
                                        .timeout_ms = 1000,
                                        .in_flight = EVENTS,
                                        .database = fixture->database,
                                        .state_file = state_path,
                                        .shipped_file = note_path};
    struct delivery_state *sender = NULL;
    struct error error;

    fixture_open(fixture);
    for (group.event_time_ms = 1; group.event_time_ms <= EVENTS; group.event_time_ms++)
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    fixture_close(fixture);
    assert_int_equal(delivery_state_open(state_path, NULL, &sender, &error), 0);
    for (int64_t id = 1; id <= EVENTS; id++) {
        struct delivery_change change = {DELIVERY_WAITS, {.id = id, .group_key = id, .received_at_ms = RECEIVED_MS}};
        struct cursor position = {id, RECEIVED_MS};

        assert_int_equal(delivery_state_apply(sender, &change, 1, &position, 1, &error), 0);
    }
    delivery_state_close(sender);
    (void)query(fixture->database, "DELETE FROM destroyed_group WHERE id = 1 RETURNING id");

    if (deliver_run(&settings, false, &error) < 0)
        fail_msg("%s", error.text);
    assert_int_equal(sent_count, EVENTS - 1);
    for (size_t i = 0; i < sent_count; i++) {
        assert_int_equal(sent[i], i + 2);
        assert_int_equal(set_aside_at_send[i], 1);
    }
    assert_int_equal(query(state_path, "SELECT id FROM set_aside"), 1);
    assert_int_equal(query(state_path, "SELECT count(*) FROM waiting"), 0);
}

static int setup(void **state)
{
    struct fixture *fixture;

    (void)fixture_setup(state);
    fixture = *state;
    (void)snprintf(note_path, sizeof note_path, "%s/note", fixture->directory);
    (void)snprintf(state_path, sizeof state_path, "%s/state", fixture->directory);
    return 0;
}

TEST_MAIN(setup, fixture_teardown)
