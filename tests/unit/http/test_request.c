// Tests the state machine of a request without sockets and without libmicrohttpd: the tests report events as the
// adapter would, and check the verdicts. Each reason for a refusal has its own response object, so that the tests can
// tell the refusals apart.
#include <stdlib.h>
#include <string.h>

#include "../unit.h"
#include "http/request.h"

#define BODY_BYTES 1000

// The state of the handler and of the server in one test.
struct fixture {
    struct http_shared shared;
    struct http_connection_set set;
    struct http_connection *connection;
    struct http_response *refusals[HTTP_REFUSE_COUNT];
    struct http_response *accepted;              // the handler's response to an accepted request
    struct http_response *from_head, *from_body; // what on_head() and on_body() return
    bool verifies;
    unsigned int heads, bodies, ends, refusal_count;
    enum http_refusal last_refusal;
    char detail[128];
    char body[2 * BODY_BYTES];
    size_t body_length;
};

static struct http_response *on_head(void *context, struct http_request *request)
{
    struct fixture *fixture = context;

    fixture->heads++;
    request->verified = fixture->verifies;
    return fixture->from_head;
}

static struct http_response *on_body(void *context, struct http_request *request)
{
    struct fixture *fixture = context;

    fixture->bodies++;
    fixture->body_length = request->body.length;
    if (request->body.length > 0)
        memcpy(fixture->body, request->body.data, request->body.length);
    return fixture->from_body;
}

static void on_end(void *context, struct http_request *request)
{
    struct fixture *fixture = context;

    (void)request;
    fixture->ends++;
}

static struct http_response *on_refusal(void *context, enum http_refusal why, const char *remote_address,
                                        const char *detail)
{
    struct fixture *fixture = context;

    assert_string_equal(remote_address, "192.0.2.1");
    fixture->refusal_count++;
    fixture->last_refusal = why;
    strncpy(fixture->detail, detail, sizeof fixture->detail - 1);
    return fixture->refusals[why];
}

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    fixture->shared.path = (char *)"/callback";
    fixture->shared.connection_count = 1;
    fixture->shared.handler = (struct http_handler){on_head, on_body, on_end, on_refusal, fixture};
    fixture->set.shared = &fixture->shared;
    fixture->set.limits = (struct http_limits){.body_bytes = BODY_BYTES, .connections = 10};
    for (size_t i = 0; i < HTTP_REFUSE_COUNT; i++) {
        fixture->refusals[i] = http_response_create(400, "{}", 2, HTTP_RESPONSE_SHARED);
        assert_non_null(fixture->refusals[i]);
    }
    fixture->accepted = http_response_create(200, "{}", 2, HTTP_RESPONSE_SHARED);
    assert_non_null(fixture->accepted);

    fixture->connection = http_connection_create(&fixture->shared);
    assert_non_null(fixture->connection);
    strcpy(fixture->connection->transport.remote_address, "192.0.2.1");
    http_set_expect(&fixture->set, fixture->connection);
    http_set_add(&fixture->set, fixture->connection);
    http_connection_enter(fixture->connection, HTTP_STAGE_IDLE);
    *state = fixture;
    return 0;
}

// Ends the request of the test, if any. Checks that on_end was called as often as on_head, and that no exchange, no
// body in memory and no pending request is left.
static int teardown(void **state)
{
    struct fixture *fixture = *state;

    http_request_finish(fixture->connection);
    assert_null(fixture->connection->exchange);
    assert_int_equal(fixture->connection->deadline.stage, HTTP_STAGE_IDLE);
    assert_int_equal(fixture->ends, fixture->heads);
    assert_int_equal(fixture->shared.body_in_flight, 0);
    assert_int_equal(fixture->set.pending, 0);
    assert_int_equal(fixture->set.polled, 0);
    http_set_remove(fixture->connection);
    http_connection_destroy(fixture->connection);
    assert_int_equal(fixture->set.connection_count, 0);
    assert_int_equal(fixture->set.unverified_count, 0);
    for (size_t i = 0; i < HTTP_REFUSE_COUNT; i++)
        http_response_destroy(fixture->refusals[i]);
    http_response_destroy(fixture->accepted);
    free(fixture);
    return 0;
}

static struct http_exchange *start(struct fixture *fixture, const char *target)
{
    struct http_exchange *exchange = http_request_start(fixture->connection, target);

    assert_non_null(exchange);
    assert_int_equal(fixture->connection->deadline.stage, HTTP_STAGE_HEAD);
    http_request_receive_header(exchange, "Host", 4, "localhost", 9);
    return exchange;
}

static void add_header(struct http_exchange *exchange, const char *name, const char *value)
{
    http_request_receive_header(exchange, name, strlen(name), value, strlen(value));
}

// Reports a POST to the served path, up to the end of its head.
static enum http_verdict post(struct fixture *fixture, const char *length, const char *expect,
                              struct http_exchange **ret_exchange)
{
    struct http_exchange *exchange = start(fixture, "/callback?a=b&c");

    add_header(exchange, "Content-Length", length);
    if (expect)
        add_header(exchange, "Expect", expect);
    *ret_exchange = exchange;
    return http_request_receive_head(exchange, "POST", "HTTP/1.1");
}

static void assert_takes(struct fixture *fixture, const struct http_response *expected, bool expected_closing)
{
    bool closing = !expected_closing;

    assert_ptr_equal(http_request_take_response(fixture->connection->exchange, &closing), expected);
    assert_int_equal(closing, expected_closing);
    assert_int_equal(fixture->connection->deadline.stage, HTTP_STAGE_ANSWER);
    assert_int_equal(fixture->connection->exchange->phase, HTTP_PHASE_ANSWERED);
    assert_int_equal(fixture->shared.body_in_flight, 0);
}

static void assert_refusal(const struct fixture *fixture, enum http_refusal expected)
{
    assert_int_equal(fixture->refusal_count, 1);
    assert_int_equal(fixture->last_refusal, expected);
}

#define FIXTURE_TEST(name) TEST_WITH(name, setup, teardown)

FIXTURE_TEST(answers_at_the_end_of_the_body)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    fixture->from_body = fixture->accepted;
    assert_int_equal(post(fixture, "5", NULL, &exchange), HTTP_VERDICT_CONTINUE);
    assert_string_equal(exchange->request.query, "a=b&c");
    http_request_receive_data(exchange, "ab", 2);
    http_request_receive_data(exchange, "cde", 3);
    assert_int_equal(fixture->shared.body_in_flight, 5);
    assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_ANSWER);
    assert_int_equal(exchange->phase, HTTP_PHASE_COMPLETED);
    assert_int_equal(fixture->body_length, 5);
    assert_memory_equal(fixture->body, "abcde", 5);
    assert_takes(fixture, fixture->accepted, false);
    assert_int_equal(fixture->refusal_count, 0);
}

FIXTURE_TEST(answers_the_next_request_on_the_connection)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    fixture->from_body = fixture->accepted;
    for (unsigned int i = 1; i <= 3; i++) {
        assert_int_equal(post(fixture, "0", NULL, &exchange), HTTP_VERDICT_CONTINUE);
        assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_ANSWER);
        assert_takes(fixture, fixture->accepted, false);
        http_request_finish(fixture->connection);
        assert_int_equal(fixture->ends, i);
    }
}

FIXTURE_TEST(holds_until_the_handler_completes)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    (void)post(fixture, "1", NULL, &exchange);
    http_request_receive_data(exchange, "x", 1);
    assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_HOLD);
    assert_int_equal(fixture->connection->deadline.stage, HTTP_STAGE_HELD);
    assert_int_equal(fixture->set.pending, 1);
    exchange->response = fixture->accepted; // as another thread does, so the loop must not look at it yet
    assert_int_equal(http_request_poll(exchange), HTTP_VERDICT_HOLD);
    http_request_unhold(exchange);
    assert_int_equal(fixture->set.pending, 0);
    assert_int_equal(http_request_poll(exchange), HTTP_VERDICT_ANSWER);
    assert_takes(fixture, fixture->accepted, false);
}

FIXTURE_TEST(suspends_once_if_the_handler_takes_long)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    (void)post(fixture, "0", NULL, &exchange);
    assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_HOLD);
    fixture->set.now_ms += HELD_POLL_MS - 1;
    assert_int_equal(http_request_poll(exchange), HTTP_VERDICT_HOLD);
    assert_int_equal(fixture->set.polled, 1);
    fixture->set.now_ms++;
    assert_int_equal(http_request_poll(exchange), HTTP_VERDICT_SUSPEND);
    assert_int_equal(fixture->set.polled, 0);
    exchange->response = fixture->accepted;
    http_request_unhold(exchange);
    assert_int_equal(fixture->set.pending, 0);
    assert_int_equal(http_request_poll(exchange), HTTP_VERDICT_ANSWER);
    assert_takes(fixture, fixture->accepted, false);
}

FIXTURE_TEST(closes_if_completed_without_a_response)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    (void)post(fixture, "0", NULL, &exchange);
    assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_HOLD);
    http_request_unhold(exchange);
    assert_int_equal(http_request_poll(exchange), HTTP_VERDICT_CLOSE);
}

// The server drops the body of a refused request, and sends the response only after the end of the body, so that the
// client receives the response.
FIXTURE_TEST(drops_the_body_of_a_refused_request)
{
    static const struct {
        const char *target, *method, *length, *encoding;
        enum http_refusal why;
    } rows[] = {
        {"/callback/", "POST", "5", "identity", HTTP_REFUSE_PATH},
        {"/callbac?a=b", "POST", "5", "identity", HTTP_REFUSE_PATH},
        {"/callback", "PUT", "5", "identity", HTTP_REFUSE_METHOD},
        {"/callback", "POST", "1001", "gzip", HTTP_REFUSE_TOO_LARGE},
        {"/callback", "POST", "67108864", "identity", HTTP_REFUSE_TOO_LARGE},
        {"/elsewhere", "PUT", "5", "gzip", HTTP_REFUSE_ENCODED},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct http_exchange *exchange = start(fixture, rows[i].target);

        fixture->refusal_count = 0;
        add_header(exchange, "Content-Length", rows[i].length);
        add_header(exchange, "Content-Encoding", rows[i].encoding);
        assert_int_equal(http_request_receive_head(exchange, rows[i].method, "HTTP/1.1"), HTTP_VERDICT_CONTINUE);
        http_request_receive_data(exchange, "abcde", 5);
        assert_int_equal(fixture->shared.body_in_flight, 0);
        assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_ANSWER);
        assert_refusal(fixture, rows[i].why);
        assert_takes(fixture, fixture->refusals[rows[i].why], false);
        http_request_finish(fixture->connection);
    }
    assert_int_equal(fixture->heads, 0);
}

// The server answers at once if the end of the body is uncertain, if the announced length is more than 64 MiB, or if
// the client waits for the status 100 before it sends the body.
FIXTURE_TEST(refuses_at_once_what_it_cannot_drop)
{
    static const struct {
        const char *length, *expect;
        enum http_refusal why;
    } rows[] = {
        {"x", NULL, HTTP_REFUSE_FRAMING},
        {"5", "something", HTTP_REFUSE_FRAMING},
        {"67108865", NULL, HTTP_REFUSE_TOO_LARGE},
        {"1001", "100-continue", HTTP_REFUSE_TOO_LARGE},
    };
    struct fixture *fixture = *state;

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct http_exchange *exchange;

        fixture->refusal_count = 0;
        assert_int_equal(post(fixture, rows[i].length, rows[i].expect, &exchange), HTTP_VERDICT_ANSWER);
        assert_refusal(fixture, rows[i].why);
        assert_int_equal(fixture->detail[0] != '\0', rows[i].why == HTTP_REFUSE_FRAMING);
        assert_takes(fixture, fixture->refusals[rows[i].why], false);
        http_request_finish(fixture->connection);
    }
}

FIXTURE_TEST(lets_the_handler_refuse_at_once_if_the_client_waits)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    fixture->from_head = fixture->accepted;
    assert_int_equal(post(fixture, "5", "100-continue", &exchange), HTTP_VERDICT_ANSWER);
    assert_takes(fixture, fixture->accepted, false);
    http_request_finish(fixture->connection);
    assert_int_equal(post(fixture, "5", NULL, &exchange), HTTP_VERDICT_CONTINUE);
    assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_ANSWER);
    assert_takes(fixture, fixture->accepted, false);
    assert_int_equal(fixture->bodies, 0);
}

FIXTURE_TEST(continues_if_the_client_waits_for_100)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    assert_int_equal(post(fixture, "5", "100-continue", &exchange), HTTP_VERDICT_CONTINUE);
    assert_int_equal(fixture->heads, 1);
}

FIXTURE_TEST(reports_a_fault_that_the_adapter_found)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange = start(fixture, "/callback");

    http_request_set_fault(exchange, "The first.");
    http_request_set_fault(exchange, "The second.");
    assert_int_equal(http_request_receive_head(exchange, "POST", "HTTP/1.1"), HTTP_VERDICT_ANSWER);
    assert_refusal(fixture, HTTP_REFUSE_FRAMING);
    assert_string_equal(fixture->detail, "The first.");
}

FIXTURE_TEST(reports_a_fault_if_no_head_arrives)
{
    struct fixture *fixture = *state;

    http_request_set_fault(start(fixture, "/callback"), "The query is odd.");
    http_request_finish(fixture->connection);
    assert_refusal(fixture, HTTP_REFUSE_FRAMING);
    assert_string_equal(fixture->detail, "The query is odd.");
    http_request_report_fault(fixture->connection, "Another one.");
    assert_int_equal(fixture->refusal_count, 1); // once per connection
}

FIXTURE_TEST(refuses_a_chunked_body_beyond_its_limit)
{
    static const char piece[BODY_BYTES + 1];
    static const size_t rows[][2] = {{BODY_BYTES, 1}, {1, BODY_BYTES}, {BODY_BYTES + 1, 1}};
    struct fixture *fixture = *state;

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct http_exchange *exchange = start(fixture, "/callback");

        fixture->refusal_count = 0;
        add_header(exchange, "Transfer-Encoding", "chunked");
        assert_int_equal(http_request_receive_head(exchange, "POST", "HTTP/1.1"), HTTP_VERDICT_CONTINUE);
        http_request_receive_data(exchange, piece, rows[i][0]);
        http_request_receive_data(exchange, piece, rows[i][1]);
        assert_refusal(fixture, HTTP_REFUSE_TOO_LARGE);
        assert_int_equal(fixture->shared.body_in_flight, 0);
        assert_null(exchange->request.body.data);
        assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_ANSWER);
        assert_takes(fixture, fixture->refusals[HTTP_REFUSE_TOO_LARGE], false);
        http_request_finish(fixture->connection);
    }
    assert_int_equal(fixture->bodies, 0);
}

FIXTURE_TEST(refuses_a_body_beyond_the_memory_for_all_bodies)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    fixture->shared.body_in_flight = 16 * BODY_BYTES - 1;
    (void)post(fixture, "2", NULL, &exchange);
    http_request_receive_data(exchange, "a", 1);
    assert_int_equal(fixture->refusal_count, 0);
    http_request_receive_data(exchange, "b", 1);
    assert_refusal(fixture, HTTP_REFUSE_OVERLOADED);
    assert_int_equal(fixture->shared.body_in_flight, 16 * BODY_BYTES - 1);
    fixture->shared.body_in_flight = 0;
}

FIXTURE_TEST(accepts_only_a_verified_request_beyond_the_limit)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    fixture->from_body = fixture->accepted;
    fixture->shared.connection_count = 11;
    fixture->connection->exceeded_limit = HTTP_LIMIT_CONNECTIONS;
    assert_int_equal(post(fixture, "1", NULL, &exchange), HTTP_VERDICT_CONTINUE);
    assert_refusal(fixture, HTTP_REFUSE_OVERLOADED);
    assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_ANSWER);
    assert_takes(fixture, fixture->refusals[HTTP_REFUSE_OVERLOADED], true);
    http_request_finish(fixture->connection);

    fixture->verifies = true;
    assert_int_equal(post(fixture, "0", NULL, &exchange), HTTP_VERDICT_CONTINUE);
    assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_ANSWER);
    assert_takes(fixture, fixture->accepted, true);
    assert_true(fixture->connection->is_verified);
    assert_int_equal(fixture->set.unverified_count, 0);
    assert_int_equal(fixture->refusal_count, 1);
}

// A connection beyond the limit of all connections counts as within this limit once enough other connections are
// closed. A connection beyond the limit per address stays beyond that limit until the connection itself is closed.
FIXTURE_TEST(forgives_the_limit_when_others_have_closed)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    fixture->from_body = fixture->accepted;
    fixture->shared.connection_count = 10;
    fixture->connection->exceeded_limit = HTTP_LIMIT_CONNECTIONS;
    (void)post(fixture, "0", NULL, &exchange);
    (void)http_request_receive_end(exchange);
    assert_takes(fixture, fixture->accepted, false);
    http_request_finish(fixture->connection);

    fixture->connection->exceeded_limit = HTTP_LIMIT_PER_ADDRESS;
    (void)post(fixture, "0", NULL, &exchange);
    (void)http_request_receive_end(exchange);
    assert_takes(fixture, fixture->refusals[HTTP_REFUSE_OVERLOADED], true);
}

FIXTURE_TEST(closes_the_connection_in_a_drain)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    fixture->from_body = fixture->accepted;
    fixture->shared.draining = true;
    (void)post(fixture, "0", NULL, &exchange);
    (void)http_request_receive_end(exchange);
    assert_takes(fixture, fixture->accepted, true);
}

FIXTURE_TEST(closes_a_connection_that_receives_no_more)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    fixture->from_body = fixture->accepted;
    fixture->connection->transport.receive_closed = true;
    (void)post(fixture, "0", NULL, &exchange);
    (void)http_request_receive_end(exchange);
    assert_takes(fixture, fixture->accepted, true);
}

FIXTURE_TEST(refuses_new_requests_when_stopping)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    // The head arrives before the stop, the end of the body after it.
    (void)post(fixture, "0", NULL, &exchange);
    fixture->shared.stopping = true;
    assert_int_equal(http_request_receive_end(exchange), HTTP_VERDICT_ANSWER);
    assert_refusal(fixture, HTTP_REFUSE_OVERLOADED);
    assert_int_equal(fixture->bodies, 0);
    assert_takes(fixture, fixture->refusals[HTTP_REFUSE_OVERLOADED], false);
    http_request_finish(fixture->connection);

    assert_int_equal(post(fixture, "0", NULL, &exchange), HTTP_VERDICT_CONTINUE);
    assert_int_equal(fixture->refusal_count, 2);
    assert_int_equal(fixture->heads, 1);
}

FIXTURE_TEST(frees_an_aborted_request)
{
    struct fixture *fixture = *state;
    struct http_exchange *exchange;

    (void)start(fixture, "/callback");
    http_request_finish(fixture->connection);
    (void)post(fixture, "5", NULL, &exchange);
    http_request_receive_data(exchange, "abc", 3);
    http_request_finish(fixture->connection);
    assert_int_equal(fixture->shared.body_in_flight, 0);
    assert_int_equal(fixture->refusal_count, 0);
    http_request_finish(fixture->connection); // does nothing without a request
    assert_int_equal(fixture->ends, 1);
}

TEST_MAIN(NULL, NULL)
