// A forwarder that runs out of memory reports the failure and retries. After the failure, the rows in the destination
// are complete, the cursor matches them, and neither the metrics nor the note for retention claims more rows than the
// destination has. A later forwarder ships the rest. The only argument is the URL of a PostgreSQL server, whose tables
// this test deletes.
#include <sys/inotify.h>

#include "../unit/store/store_fixture.h"
#include "forward/destination_schema.h"
#include "forward/progress.h"
#include "heap_fault.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/forward/forward.h"
#include "imcallbackd/store/shipped.h"

#include <openssl/err.h>

// Always fails, which the store's reader tolerates. The kernel needs 10 ms to release an inotify instance, and this
// test would create thousands.
int inotify_init1(int flags)
{
    (void)flags;
    return -1;
}

enum { GROUPS = 3, REJECTIONS = 2, MEMBERS = 5, BODY_BYTES = 5000 };

static struct forward_settings settings = {.receiver = "a"};
static char note_path[192], password_path[192];
static PGconn *observer; // a second connection to the destination

// Queries of the destination

static int64_t query(const char *sql)
{
    PGresult *result = PQexec(observer, sql);
    int64_t value = 0;

    if (PQresultStatus(result) == PGRES_TUPLES_OK)
        value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    else if (PQresultStatus(result) != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(observer));
    PQclear(result);
    return value;
}

static int64_t cursor_of(const char *stream)
{
    char sql[192];

    (void)snprintf(sql, sizeof sql, "SELECT coalesce(max(last_id), 0) FROM imcallbackd_cursor WHERE stream = '%s'",
                   stream);
    return query(sql);
}

static void empty_tables(void)
{
    (void)query("DELETE FROM destroyed_group; DELETE FROM destroyed_group_member; DELETE FROM rejected_callback;"
                " DELETE FROM imcallbackd_cursor");
}

// Fixture

static void record_rows(struct fixture *fixture)
{
    static const char *members[MEMBERS];
    static char body[BODY_BYTES];
    const struct rejected_callback rejected = {.received_at_ms = RECEIVED_MS,
                                               .remote_address = "192.0.2.1",
                                               .sdk_appid = 1400000000,
                                               .callback_command = CALLBACK_COMMAND,
                                               .reason = "not understood",
                                               .body = body,
                                               .body_length = sizeof body};

    memset(body, '{', sizeof body);
    for (size_t i = 0; i < MEMBERS; i++)
        members[i] = "a member whose name is long, so that the buffers of a batch have to grow for it";
    fixture_open(fixture);
    for (size_t i = 0; i < GROUPS; i++) {
        struct destroyed_group group = example_group();
        char group_id[] = {(char)('a' + (int)i), '\0'};

        group.group_id = group_id;
        group.has_event_time = i > 0;
        group.has_member_list = i > 0;
        group.members = members;
        group.member_count = i > 0 ? MEMBERS : 0;
        group.keep_body = i <= 1; // an event without a time always has a body
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    }
    for (size_t i = 0; i < REJECTIONS; i++)
        assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    fixture_close(fixture);
}

static int setup(void **state)
{
    struct fixture *fixture;

    (void)fixture_setup(state);
    fixture = *state;
    record_rows(fixture);
    (void)snprintf(note_path, sizeof note_path, "%s/shipped", fixture->directory);
    (void)snprintf(password_path, sizeof password_path, "%s/password", fixture->directory);
    write_text(password_path, "secret\n");
    settings.database = fixture->database;
    settings.shipped_file = note_path;
    settings.password_file = password_path;
    observer = PQconnectdb(settings.url);
    if (PQstatus(observer) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(observer));
    (void)query("SET client_min_messages = warning");
    return 0;
}

static int teardown(void **state)
{
    PQfinish(observer);
    return fixture_teardown(state);
}

static void ignore(const char *sentence)
{
    (void)sentence;
}

// Creation of the tables

struct outcome {
    int result;
    struct error error;
    bool same; // see forward_verify
};

static void assert_fails_only_by_fault(const struct outcome *outcome, bool met)
{
    if (outcome->result < 0 && (!met || !outcome->error.text[0]))
        fail_msg("%d: %s", outcome->result, outcome->error.text);
}

static void drop_tables(void *context)
{
    struct outcome *outcome = context;

    outcome->error.text[0] = '\0';
    (void)query("DROP TABLE IF EXISTS destroyed_group, destroyed_group_member, rejected_callback, imcallbackd_cursor,"
                " imcallbackd_schema");
}

static void create_tables(void *context)
{
    struct outcome *outcome = context;
    struct destination destination = {0};

    outcome->result = destination_open(&destination, &settings, ANSWER_TIMEOUT_MIN_MS, &outcome->error);
    if (outcome->result == 0)
        outcome->result = schema_prepare(&destination, &outcome->error);
    destination_close(&destination);
}

// schema_prepare() inserts the version last, so that the next attempt creates the tables that are missing.
static void judge_tables(void *context, bool met)
{
    struct outcome *outcome = context;

    assert_fails_only_by_fault(outcome, met);
    create_tables(outcome);
    assert_int_equal(outcome->result, 0);
    assert_int_equal(query("SELECT version FROM imcallbackd_schema"), DESTINATION_SCHEMA_VERSION);
    empty_tables();
}

TEST(completes_tables_after_a_failure)
{
    const struct fault_scenario scenario = {"tables", drop_tables, create_tables, judge_tables, false};
    struct outcome outcome;

    fault_run(&scenario, &outcome);
}

// Shipping

enum { EVENTS_SHIPPED, MEMBERS_SHIPPED, REJECTIONS_SHIPPED }; // indexes into imcallbackd_forward_shipped_total

// The counters before the forwarder under test was started.
static struct {
    int64_t shipped[REJECTIONS_SHIPPED + 1], retries;
} before;

static bool (*is_stopped)(void);

static int64_t counter(const char *name, size_t index)
{
    size_t i = 0;

    while (strcmp(progress_metrics[i]->name, name) != 0)
        i++;
    return metric_value(progress_metrics[i], index);
}

static int64_t shipped_count(size_t kind)
{
    return counter("imcallbackd_forward_shipped_total", kind) - before.shipped[kind];
}

static bool has_failed(void)
{
    return counter("imcallbackd_forward_retries_total", 0) > before.retries;
}

static bool has_shipped_or_failed(void)
{
    return has_failed() || (shipped_count(EVENTS_SHIPPED) == GROUPS && shipped_count(REJECTIONS_SHIPPED) == REJECTIONS);
}

static bool is_complete(void)
{
    return cursor_of("destroyed_group") == GROUPS && cursor_of("rejected_callback") == REJECTIONS;
}

// Stops the forwarder as soon as the condition of the test is true.
bool __wrap_destination_cancelled(void);

bool __wrap_destination_cancelled(void)
{
    return is_stopped();
}

static void prepare_shipping(void *context)
{
    (void)context;
    empty_tables();
    (void)unlink(note_path);
    for (size_t i = 0; i <= REJECTIONS_SHIPPED; i++)
        before.shipped[i] = counter("imcallbackd_forward_shipped_total", i);
    before.retries = counter("imcallbackd_forward_retries_total", 0);
}

static void ship(void *context)
{
    (void)context;
    is_stopped = has_shipped_or_failed;
    forward_run(&settings);
}

// The server completes a batch that it has received, even if the forwarder no longer waits for the result, so the rows
// may change until the server has closed the connection.
static void await_disconnection(void)
{
    AWAIT(query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'imcallbackd forward'") == 0);
}

static void assert_rows_match_cursors(void)
{
    int64_t events = cursor_of("destroyed_group"), rejections = cursor_of("rejected_callback");

    assert_int_equal(query("SELECT count(*) FROM destroyed_group"), events);
    assert_int_equal(query("SELECT coalesce(max(id), 0) FROM destroyed_group"), events);
    assert_int_equal(query("SELECT count(*) FROM destroyed_group_member"),
                     query("SELECT coalesce(sum(member_count), 0) FROM destroyed_group"));
    assert_int_equal(query("SELECT count(*) FROM rejected_callback"), rejections);
    assert_int_equal(query("SELECT coalesce(max(id), 0) FROM rejected_callback"), rejections);
}

static void assert_reports_claim_no_more(const struct fixture *fixture)
{
    struct shipped noted = {0};
    struct error error;

    (void)!shipped_read(note_path, fixture->database, &noted, &error);
    assert_true(cursor_of("destroyed_group") >= noted.group_id);
    assert_true(cursor_of("destroyed_group") >= shipped_count(EVENTS_SHIPPED));
    assert_true(cursor_of("rejected_callback") >= noted.rejection_id);
    assert_true(cursor_of("rejected_callback") >= shipped_count(REJECTIONS_SHIPPED));
}

static void judge_shipping(void *context, bool met)
{
    bool failed = has_failed();

    await_disconnection();
    assert_true(failed ? met : is_complete());
    assert_rows_match_cursors();
    assert_reports_claim_no_more(context);
    if (cursor_of("destroyed_group") > 0 && !is_complete()) {
        is_stopped = is_complete;
        forward_run(&settings);
        await_disconnection();
        assert_rows_match_cursors();
        assert_reports_claim_no_more(context);
    }
    ERR_clear_error(); // OpenSSL keeps the last errors of a thread on the heap
}

TEST(ships_complete_batches_or_nothing)
{
    const struct fault_scenario scenario = {"shipping", prepare_shipping, ship, judge_shipping, false};

    fault_run(&scenario, *state);
}

// The functions under test in this section only read. All rows are shipped before they run.

static void verify(void *context)
{
    struct outcome *outcome = context;

    outcome->same = false;
    outcome->result = forward_verify(&settings, 0, INT64_MAX, ignore, &outcome->same, &outcome->error);
}

static void judge_verify(void *context, bool met)
{
    const struct outcome *outcome = context;

    assert_fails_only_by_fault(outcome, met);
    if (outcome->result < 0 && strstr(outcome->error.text, "SQLSTATE")) // the server received a part of a statement
        fail_msg("%s", outcome->error.text);
    assert_int_equal(outcome->same, outcome->result == 0);
    ERR_clear_error(); // OpenSSL keeps the last errors of a thread on the heap
}

static void check(void *context)
{
    struct outcome *outcome = context;

    outcome->result = forward_check_url(settings.url, ignore, &outcome->error);
    if (outcome->result == 0)
        outcome->result = forward_check_password(settings.password_file, ignore, &outcome->error);
    if (outcome->result == 0)
        outcome->result = forward_check_destination(&settings, &outcome->error);
}

static void judge_check(void *context, bool met)
{
    assert_fails_only_by_fault(context, met);
}

TEST(verifies_and_checks_or_reports_a_failure)
{
    const struct fault_scenario scenarios[] = {{"verify", NULL, verify, judge_verify, false},
                                               {"check", NULL, check, judge_check, false}};
    struct outcome outcome = {0};

    prepare_shipping(*state);
    ship(*state);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        fault_run(&scenarios[i], &outcome);
}

int main(int count, char **arguments)
{
    if (count != 2) {
        (void)fprintf(stderr, "usage: oom-forward URL\n");
        return 2;
    }
    settings.url = arguments[1];
    log_configure(LOG_LEVEL_CRIT, LOG_FORMAT_TEXT); // each fault would log an error
    return cmocka_run_group_tests(unit_tests, setup, teardown);
}
