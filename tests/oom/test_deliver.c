// Tests the sender and its parts when memory runs out: they fail with an error, never treat a failure as an acceptance,
// and keep the state consistent.
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/inotify.h>
#include <sys/socket.h>

#include "../unit/store/store_fixture.h"
#include "deliver/delivery.h"
#include "deliver/delivery_log.h"
#include "deliver/endpoint.h"
#include "deliver/schedule.h"
#include "deliver/secret_file.h"
#include "heap_fault.h"
#include "imcallbackd/deliver/deliver.h"
#include "imcallbackd/store/delivery_state.h"

#include <openssl/err.h>

// Thousands of syncs would take minutes, and other tests cover the disk.
int fsync(int fd)
{
    (void)fd;
    return 0;
}

int fdatasync(int fd)
{
    return fsync(fd);
}

// Always fails, which the store's reader tolerates. The kernel needs 10 ms to release an inotify instance, and this
// test would create thousands.
int inotify_init1(int flags)
{
    (void)flags;
    return -1;
}

static char secret_path[128], state_path[128];
static const struct deliver_app app = {1400000000, "token"};
static const struct deliver_settings settings = {
    .url = "http://127.0.0.1:1/cb", .receiver = "a", .apps = &app, .app_count = 1, .secret_file = secret_path};

struct result {
    int result;
    struct error error;
    struct delivery delivery;
    struct webhook_secrets secrets;
    int64_t applied; // rounds
};

static void assert_fails_only_by_fault(const struct result *outcome, bool met)
{
    if (outcome->result < 0 && (!met || !outcome->error.text[0]))
        fail_msg("%d: %s", outcome->result, outcome->error.text);
}

// Building a request

static void build(void *context)
{
    const struct recorded_row row = {.id = 1, .received_at_ms = RECEIVED_MS, .event.group = example_group()};
    struct result *outcome = context;
    bool readable_by_all;

    *outcome = (struct result){0};
    outcome->result = secret_file_read(settings.secret_file, &outcome->secrets, &readable_by_all, &outcome->error);
    for (size_t i = 0; i < 2 && outcome->result == 0; i++)
        outcome->result =
            delivery_build(&outcome->delivery, &settings, &outcome->secrets, &row, 1700000000, &outcome->error);
}

static void judge_build(void *context, bool met)
{
    struct result *outcome = context;

    assert_fails_only_by_fault(outcome, met);
    if (outcome->result == 0)
        assert_int_equal(outcome->delivery.signature.length, 47); // "v1," and 44 characters
    delivery_finish(&outcome->delivery);
    ERR_clear_error(); // OpenSSL keeps the last errors of a thread on the heap
}

TEST(builds_a_whole_request_or_none)
{
    const struct fault_scenario scenario = {"build", NULL, build, judge_build, false};
    struct result outcome;

    fault_run(&scenario, &outcome);
}

// Judging an answer: running out of memory never counts as an acceptance.

static enum outcome judged;

static void judge_answer(void *context)
{
    static const char body[] = "{\"ActionStatus\":\"FAIL\",\"ErrorInfo\":\"\",\"ErrorCode\":1}";

    (void)context;
    judged = acceptance_judge(200, body, sizeof body - 1);
}

static void assert_not_accepted(void *context, bool met)
{
    (void)context;
    assert_int_equal(judged, met ? OUTCOME_SERVER_ERROR : OUTCOME_FAIL);
}

TEST(takes_no_failure_for_an_acceptance)
{
    const struct fault_scenario scenario = {"answer", NULL, judge_answer, assert_not_accepted, false};

    fault_run(&scenario, NULL);
}

// The state

static void remove_state(void *context)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};

    (void)context;
    for (size_t i = 0; i < COUNT(suffixes); i++)
        (void)unlink(path_with(state_path, suffixes[i]).text);
}

static void change_state(void *context)
{
    struct result *outcome = context;
    struct delivery_state *state = NULL;
    struct buffer events = {0};

    *outcome = (struct result){0};
    outcome->result = delivery_state_open(state_path, NULL, &state, &outcome->error);
    for (int64_t id = 1; id <= 3 && outcome->result == 0; id++) {
        const struct delivery_change changes[] = {{DELIVERY_WAITS, {.id = id, .received_at_ms = 1}},
                                                  {DELIVERY_SET_ASIDE, {.id = id - 1}}};
        const struct cursor position = {id, 1};

        outcome->result = delivery_state_apply(state, changes, id > 1 ? 2 : 1, &position, 1, &outcome->error);
        outcome->applied += outcome->result == 0;
    }
    if (outcome->result == 0)
        outcome->result = delivery_state_read_waiting(state, &events, &outcome->error);
    buffer_finish(&events);
    delivery_state_close(state);
}

static void judge_state(void *context, bool met)
{
    struct result *outcome = context;
    struct delivery_state *state = NULL;
    struct error error;

    assert_fails_only_by_fault(outcome, met);
    assert_int_equal(delivery_state_open(state_path, NULL, &state, &error), 0);
    assert_in_range(delivery_state_position(state).id, outcome->applied, outcome->applied + 1);
    delivery_state_close(state);
}

TEST(keeps_its_state_consistent)
{
    const struct fault_scenario scenario = {"state", remove_state, change_state, judge_state, false};
    struct result outcome;

    fault_run(&scenario, &outcome);
}

struct listing {
    struct delivery_state *state;
    struct buffer events;
    int result;
    struct error error;
};

static void assert_out_of_memory(const struct error *error, bool met)
{
    if (!met || !strstr(error->text, "memory"))
        fail_msg("%s", error->text);
}

static void list_waiting(void *context)
{
    struct listing *listing = context;

    listing->result = delivery_state_read_waiting(listing->state, &listing->events, &listing->error);
}

static void judge_list(void *context, bool met)
{
    struct listing *listing = context;

    if (listing->result < 0)
        assert_out_of_memory(&listing->error, met);
    else
        assert_int_equal(listing->events.length, 3 * sizeof(struct waiting_event));
    buffer_finish(&listing->events);
}

TEST(lists_all_waiting_events_or_fails)
{
    const struct fault_scenario scenario = {"list", NULL, list_waiting, judge_list, false};
    const struct delivery_change changes[] = {{DELIVERY_WAITS, {.id = 1, .received_at_ms = 1}},
                                              {DELIVERY_WAITS, {.id = 2, .received_at_ms = 1}},
                                              {DELIVERY_WAITS, {.id = 3, .received_at_ms = 1}}};
    const struct cursor position = {3, 1};
    struct listing listing = {.result = 0};

    remove_state(NULL);
    assert_int_equal(delivery_state_open(state_path, NULL, &listing.state, &listing.error), 0);
    assert_int_equal(delivery_state_apply(listing.state, changes, COUNT(changes), &position, 1, &listing.error), 0);
    fault_run(&scenario, &listing);
    delivery_state_close(listing.state);
}

// The schedule

static void create_schedule(void *context)
{
    struct schedule *schedule = schedule_create(8, 0);

    *(bool *)context = schedule;
    schedule_destroy(schedule);
}

static void judge_schedule(void *context, bool met)
{
    assert_true(met || *(bool *)context);
}

TEST(creates_a_schedule_or_none)
{
    const struct fault_scenario scenario = {"schedule", NULL, create_schedule, judge_schedule, false};
    bool created;

    fault_run(&scenario, &created);
}

// The endpoint

struct creation {
    struct endpoint *endpoint;
    int result;
    struct error error;
};

static void create_endpoint(void *context)
{
    struct creation *creation = context;
    struct deliver_settings one_request = settings;

    one_request.in_flight = 1;
    one_request.ca_file = secret_path; // so that the path is copied; nothing reads the file, because the URL is http
    *creation = (struct creation){0};
    creation->result = endpoint_create(&one_request, &creation->endpoint, &creation->error);
}

static void judge_endpoint(void *context, bool met)
{
    struct creation *creation = context;

    if (creation->result < 0) {
        assert_out_of_memory(&creation->error, met);
        assert_null(creation->endpoint);
    } else {
        assert_int_equal(endpoint_wait(creation->endpoint, 0, -1, &creation->error), 0);
    }
    endpoint_destroy(creation->endpoint);
}

TEST(creates_an_endpoint_or_none)
{
    const struct fault_scenario scenario = {"endpoint", NULL, create_endpoint, judge_endpoint, false};
    struct creation creation;

    fault_run(&scenario, &creation);
}

// Sending

enum { EVENTS = 3 };

static atomic_size_t requests; // number of requests that the endpoint has received completely
static int endpoint_fd;
static char url[64], note_path[128];
static struct deliver_settings sending;

// Answers one request and then closes the connection, because the endpoint serves one connection at a time. Does not
// allocate memory, because the allocation could be the one that fails.
static void serve(int fd)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    char request[4096] = "";
    size_t length = 0;
    ssize_t got;

    while ((got = read(fd, request + length, sizeof request - 1 - length)) > 0) {
        char *body, *field;

        length += (size_t)got;
        request[length] = '\0';
        body = strstr(request, "\r\n\r\n");
        field = strstr(request, "Content-Length: ");
        if (!body || !field || strlen(body + 4) < strtoul(field + 16, NULL, 10))
            continue;
        requests++;
        (void)!write(fd, answer, sizeof answer - 1);
        break;
    }
    close(fd);
}

static void *run_endpoint(void *context)
{
    int fd;

    (void)context;
    while ((fd = accept(endpoint_fd, NULL, NULL)) >= 0)
        serve(fd);
    return NULL;
}

static void start_endpoint(pthread_t *ret_thread)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    endpoint_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(endpoint_fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(endpoint_fd, 16), 0);
    assert_int_equal(getsockname(endpoint_fd, (struct sockaddr *)&address, &length), 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", ntohs(address.sin_port));
    assert_int_equal(pthread_create(ret_thread, NULL, run_endpoint, NULL), 0);
}

static int64_t metric_of(const char *name)
{
    size_t i = 0;

    while (strcmp(delivery_metrics[i]->name, name) != 0)
        i++;
    return metric_value(delivery_metrics[i], 0);
}

static struct {
    int64_t accepted, last_error;
} before;

static bool is_complete(void)
{
    return metric_of("imcallbackd_deliver_accepted_total") - before.accepted == EVENTS;
}

// Stops the sender when it has sent everything, and after the first failure.
bool __wrap_endpoint_is_interrupted(void);

bool __wrap_endpoint_is_interrupted(void)
{
    return is_complete() || metric_of("imcallbackd_deliver_last_error_timestamp_seconds") != before.last_error;
}

static void prepare_sending(void *context)
{
    remove_state(context);
    requests = 0;
    before.accepted = metric_of("imcallbackd_deliver_accepted_total");
    before.last_error = metric_of("imcallbackd_deliver_last_error_timestamp_seconds");
}

static void send_all(void *context)
{
    struct result *result = context;

    *result = (struct result){0};
    result->result = deliver_run(&sending, false, &result->error);
}

// An event that the position has passed and that does not wait must have reached the endpoint, because the sender never
// sends the event again.
static void judge_sending(void *context, bool met)
{
    struct delivery_state *state = NULL;
    struct buffer events = {0};
    struct error error;
    size_t left;

    assert_fails_only_by_fault(context, met);
    if (!met)
        assert_true(is_complete());
    assert_int_equal(delivery_state_open(state_path, NULL, &state, &error), 0);
    assert_int_equal(delivery_state_read_waiting(state, &events, &error), 0);
    left = events.length / sizeof(struct waiting_event) + EVENTS - (size_t)delivery_state_position(state).id;
    assert_true(requests >= EVENTS - left);
    buffer_finish(&events);
    delivery_state_close(state);
    ERR_clear_error(); // OpenSSL keeps the last errors of a thread on the heap
}

static bool connected; // deliver_check_endpoint() has reported a connection

static void note_connection(const char *sentence)
{
    connected = strstr(sentence, "connected to");
}

static void check_endpoint(void *context)
{
    struct result *result = context;

    connected = false;
    *result = (struct result){0};
    result->result = deliver_check_endpoint(&sending, note_connection, &result->error);
}

static void judge_check(void *context, bool met)
{
    const struct result *result = context;

    assert_fails_only_by_fault(result, met);
    assert_int_equal(connected, result->result == 0);
}

// Runs the scenario with an endpoint that answers.
static void run_with_endpoint(const struct fault_scenario *scenario, const struct fixture *fixture)
{
    struct result result;
    pthread_t endpoint;

    start_endpoint(&endpoint);
    sending = settings;
    sending.database = fixture->database;
    sending.state_file = state_path;
    sending.shipped_file = note_path;
    sending.url = url;
    sending.timeout_ms = 10000;
    sending.in_flight = 2;
    fault_run(scenario, &result);
    assert_int_equal(shutdown(endpoint_fd, SHUT_RDWR), 0);
    assert_int_equal(pthread_join(endpoint, NULL), 0);
    close(endpoint_fd);
}

TEST(forgets_no_event_that_the_endpoint_has_not_got)
{
    const struct fault_scenario scenario = {"sending", prepare_sending, send_all, judge_sending, false};
    struct fixture *fixture = *state;
    struct destroyed_group group = example_group();

    fixture_open(fixture);
    for (group.event_time_ms = 1; group.event_time_ms <= EVENTS; group.event_time_ms++)
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    fixture_close(fixture);
    run_with_endpoint(&scenario, fixture);
}

TEST(reports_a_connection_or_fails)
{
    const struct fault_scenario scenario = {"check", NULL, check_endpoint, judge_check, false};

    run_with_endpoint(&scenario, *state);
}

static int setup(void **state)
{
    struct fixture *fixture;

    (void)fixture_setup(state);
    fixture = *state;
    (void)snprintf(secret_path, sizeof secret_path, "%s/secret", fixture->directory);
    (void)snprintf(note_path, sizeof note_path, "%s/note", fixture->directory);
    (void)snprintf(state_path, sizeof state_path, "%s/state", fixture->directory);
    write_text(secret_path, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    return 0;
}

TEST_MAIN(setup, fixture_teardown)
