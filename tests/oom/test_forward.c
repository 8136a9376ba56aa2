// A forwarder that finds no memory says so and begins anew. What is in the destination by then is whole, the cursor
// stands where it ends, and nobody was told of more: neither the metrics nor the note for the daemon. Whoever comes
// after it ships the rest. The URL of a PostgreSQL is the one argument; what is in it goes.
#include <sys/inotify.h>

#include "../unit/store/store_fixture.h"
#include "fault.h"
#include "forward/destination_schema.h"
#include "forward/progress.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/forward/forward.h"
#include "imcallbackd/store/shipped.h"

#include <openssl/err.h>

// A reader does without it. The kernel takes ten milliseconds to end one; here it is thousands of times.
int inotify_init1(int flags)
{
    (void)flags;
    return -1;
}

enum { GROUPS = 3, REJECTIONS = 2, MEMBERS = 5, BODY_BYTES = 5000 };

static struct forward_settings settings = {.receiver = "a"};
static char note_path[192], password_path[192];
static PGconn *looker;

// The destination, seen from beside the forwarder

static void execute(const char *sql)
{
    PGresult *result = PQexec(looker, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(looker));
    PQclear(result);
}

static int64_t number(const char *sql)
{
    PGresult *result = PQexec(looker, sql);
    int64_t value;

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(looker));
    value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return value;
}

static int64_t cursor_of(const char *stream)
{
    char sql[192];

    (void)snprintf(sql, sizeof sql, "SELECT coalesce(max(last_id), 0) FROM imcallbackd_cursor WHERE stream = '%s'",
                   stream);
    return number(sql);
}

static void empty_tables(void)
{
    execute("DELETE FROM destroyed_group; DELETE FROM destroyed_group_member; DELETE FROM rejected_callback;"
            " DELETE FROM imcallbackd_cursor");
}

// The store, and the files beside it

static void record_all(struct fixture *fixture)
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
        members[i] = "a member of some length, so that a batch needs more memory with it than without";
    fixture_open(fixture);
    for (size_t i = 0; i < GROUPS; i++) {
        struct destroyed_group group = example_group();
        char group_id[] = {(char)('a' + (int)i), '\0'};

        group.group_id = group_id;
        group.has_event_time = i > 0;
        group.has_member_list = i > 0;
        group.members = members;
        group.member_count = i > 0 ? MEMBERS : 0;
        group.keep_body = i <= 1; // an event without a time has one
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    }
    for (size_t i = 0; i < REJECTIONS; i++)
        assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    fixture_close(fixture);
}

static int setup(void **state)
{
    struct fixture *fixture;
    FILE *file;

    (void)fixture_setup(state);
    fixture = *state;
    record_all(fixture);
    (void)snprintf(note_path, sizeof note_path, "%s/shipped", fixture->directory);
    (void)snprintf(password_path, sizeof password_path, "%s/password", fixture->directory);
    file = fopen(password_path, "w");
    assert_non_null(file);
    assert_true(fputs("secret\n", file) >= 0);
    assert_int_equal(fclose(file), 0);
    settings.database = fixture->database;
    settings.shipped_file = note_path;
    settings.password_file = password_path;
    looker = PQconnectdb(settings.url);
    if (PQstatus(looker) != CONNECTION_OK)
        fail_msg("%s", PQerrorMessage(looker));
    execute("SET client_min_messages = warning");
    return 0;
}

static int teardown(void **state)
{
    PQfinish(looker);
    return fixture_teardown(state);
}

static void ignore(const char *sentence)
{
    (void)sentence;
}

// Making the tables

struct outcome {
    int result;
    struct error error;
    bool same; // of a comparison
};

static void assert_clean(const struct outcome *outcome, bool met)
{
    if (outcome->result < 0 && (!met || !outcome->error.text[0]))
        fail_msg("%d: %s", outcome->result, outcome->error.text);
}

static void drop_tables(void *context)
{
    struct outcome *outcome = context;

    outcome->error.text[0] = '\0';
    execute("DROP TABLE IF EXISTS destroyed_group, destroyed_group_member, rejected_callback, imcallbackd_cursor,"
            " imcallbackd_schema");
}

static void make_tables(void *context)
{
    struct outcome *outcome = context;
    struct destination destination = {0};

    outcome->result = destination_open(&destination, &settings, ANSWER_TIMEOUT_MIN_MS, &outcome->error);
    if (outcome->result == 0)
        outcome->result = schema_prepare(&destination, &outcome->error);
    destination_close(&destination);
}

// The version is there last, so that what is missing is made by the next one.
static void judge_tables(void *context, bool met, bool lasting)
{
    struct outcome *outcome = context;

    (void)lasting;
    assert_clean(outcome, met);
    make_tables(outcome);
    assert_int_equal(outcome->result, 0);
    assert_int_equal(number("SELECT version FROM imcallbackd_schema"), DESTINATION_SCHEMA_VERSION);
    empty_tables();
}

static void making_tables(void **state)
{
    const struct fault_scenario scenario = {"tables", drop_tables, make_tables, judge_tables, false};
    struct outcome outcome;

    (void)state;
    fault_run(&scenario, &outcome);
}

// Shipping

enum { EVENTS_SHIPPED, MEMBERS_SHIPPED, REJECTIONS_SHIPPED }; // the values of imcallbackd_forward_shipped_total

struct progress {
    int64_t shipped[REJECTIONS_SHIPPED + 1], retries;
};

static struct progress begun; // this forwarder
static bool (*is_over)(void);

static int64_t counted(const char *name, size_t index)
{
    size_t i = 0;

    while (strcmp(progress_metrics[i]->name, name) != 0)
        i++;
    return metric_value(progress_metrics[i], index);
}

static int64_t shipped_by(size_t kind)
{
    return counted("imcallbackd_forward_shipped_total", kind) - begun.shipped[kind];
}

static bool has_shipped_or_failed(void)
{
    return counted("imcallbackd_forward_retries_total", 0) > begun.retries ||
           (shipped_by(EVENTS_SHIPPED) == GROUPS && shipped_by(REJECTIONS_SHIPPED) == REJECTIONS);
}

static bool is_all_there(void)
{
    return cursor_of("destroyed_group") == GROUPS && cursor_of("rejected_callback") == REJECTIONS;
}

// A forwarder is told to end when the test has seen enough of it.
bool __wrap_destination_cancelled(void);

bool __wrap_destination_cancelled(void)
{
    return is_over();
}

static void begin_shipping(void *context)
{
    (void)context;
    empty_tables();
    (void)unlink(note_path);
    for (size_t i = 0; i <= REJECTIONS_SHIPPED; i++)
        begun.shipped[i] = counted("imcallbackd_forward_shipped_total", i);
    begun.retries = counted("imcallbackd_forward_retries_total", 0);
}

static void ship(void *context)
{
    (void)context;
    is_over = has_shipped_or_failed;
    forward_run(&settings);
}

// What was sent goes on to its end there, though nobody waits for it any more.
static void await_end(void)
{
    time_t deadline = time(NULL) + TIMEOUT_S;

    while (number("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'imcallbackd forward'") > 0)
        assert_true(time(NULL) < deadline);
}

static void assert_whole(void)
{
    int64_t events = cursor_of("destroyed_group"), rejections = cursor_of("rejected_callback");

    assert_int_equal(number("SELECT count(*) FROM destroyed_group"), events);
    assert_int_equal(number("SELECT coalesce(max(id), 0) FROM destroyed_group"), events);
    assert_int_equal(number("SELECT count(*) FROM destroyed_group_member"),
                     number("SELECT coalesce(sum(member_count), 0) FROM destroyed_group"));
    assert_int_equal(number("SELECT count(*) FROM rejected_callback"), rejections);
    assert_int_equal(number("SELECT coalesce(max(id), 0) FROM rejected_callback"), rejections);
}

static void assert_told_no_more(const struct fixture *fixture)
{
    struct shipped noted = {0};
    struct error error;

    (void)!shipped_read(note_path, fixture->database, &noted, &error);
    assert_true(cursor_of("destroyed_group") >= noted.group_id);
    assert_true(cursor_of("destroyed_group") >= shipped_by(EVENTS_SHIPPED));
    assert_true(cursor_of("rejected_callback") >= noted.rejection_id);
    assert_true(cursor_of("rejected_callback") >= shipped_by(REJECTIONS_SHIPPED));
}

static void judge_shipping(void *context, bool met, bool lasting)
{
    bool failed = counted("imcallbackd_forward_retries_total", 0) > begun.retries;

    (void)lasting;
    await_end();
    assert_true(failed ? met : is_all_there());
    assert_whole();
    assert_told_no_more(context);
    if (cursor_of("destroyed_group") > 0 && !is_all_there()) {
        is_over = is_all_there;
        forward_run(&settings);
        await_end();
        assert_whole();
        assert_told_no_more(context);
    }
    ERR_clear_error(); // the library keeps the last ones of a thread in memory
}

static void shipping(void **state)
{
    const struct fault_scenario scenario = {"shipping", begin_shipping, ship, judge_shipping, false};

    fault_run(&scenario, *state);
}

// Comparing, of what is all there

static void compare(void *context)
{
    struct outcome *outcome = context;

    outcome->same = false;
    outcome->result = forward_verify(&settings, 0, INT64_MAX, ignore, &outcome->same, &outcome->error);
}

static void judge_comparison(void *context, bool met, bool lasting)
{
    const struct outcome *outcome = context;

    (void)lasting;
    assert_clean(outcome, met);
    assert_int_equal(outcome->same, outcome->result == 0);
    ERR_clear_error(); // the library keeps the last ones of a thread in memory
}

// The settings, before anything is shipped

static void check(void *context)
{
    struct outcome *outcome = context;

    outcome->result = forward_check_url(settings.url, ignore, &outcome->error);
    if (outcome->result == 0)
        outcome->result = forward_check_password(settings.password_file, ignore, &outcome->error);
    if (outcome->result == 0)
        outcome->result = forward_check_destination(&settings, &outcome->error);
}

static void judge_check(void *context, bool met, bool lasting)
{
    (void)lasting;
    assert_clean(context, met);
}

static void comparing_and_checking(void **state)
{
    const struct fault_scenario scenarios[] = {{"a comparison", NULL, compare, judge_comparison, false},
                                               {"a check", NULL, check, judge_check, false}};
    struct outcome outcome = {0};

    begin_shipping(*state);
    ship(*state);
    for (size_t i = 0; i < sizeof scenarios / sizeof scenarios[0]; i++)
        fault_run(&scenarios[i], &outcome);
}

int main(int count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making_tables),
        cmocka_unit_test(shipping),
        cmocka_unit_test(comparing_and_checking),
    };

    if (count != 2) {
        (void)fprintf(stderr, "usage: memory-forward URL\n");
        return 2;
    }
    settings.url = arguments[1];
    log_configure(LOG_LEVEL_CRIT, LOG_FORMAT_TEXT); // each fault has its line
    return cmocka_run_group_tests(tests, setup, teardown);
}
