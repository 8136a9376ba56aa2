// Tests stages, deadlines and evictions in a set of connections. The test holds the clients' ends of the sockets.
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit.h"
#include "http/connection.h"

#define CONNECTIONS 6
#define NOW         INT64_C(1000000)

struct fixture {
    struct http_connection_set set;
    struct http_connection connections[CONNECTIONS];
    int clients[CONNECTIONS];
};

static void fixture_init(struct fixture *fixture)
{
    *fixture =
        (struct fixture){.set = {.limits = {.request_timeout_ms = 1000, .idle_timeout_ms = 5000}, .now_ms = NOW}};
    for (size_t i = 0; i < CONNECTIONS; i++) {
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
        fixture->connections[i].transport.fd = ends[0];
        fixture->clients[i] = ends[1];
        http_set_expect(&fixture->set, &fixture->connections[i]);
        http_set_add(&fixture->set, &fixture->connections[i]);
    }
}

static void assert_is_empty(const struct http_connection_list *list)
{
    assert_null(list->first);
    assert_null(list->last);
}

static void fixture_finish(struct fixture *fixture)
{
    for (size_t i = 0; i < CONNECTIONS; i++) {
        http_set_remove(&fixture->connections[i]);
        close(fixture->connections[i].transport.fd);
        close(fixture->clients[i]);
    }
    assert_is_empty(&fixture->set.timed);
    assert_is_empty(&fixture->set.idle);
    assert_is_empty(&fixture->set.held);
}

// Makes the connection enter the stage at this time. Only certain stages may follow each other, so the connection
// passes through the stages in between.
static void enter(struct fixture *fixture, size_t index, enum http_stage stage, int64_t at_ms)
{
    static const enum http_stage next[] = {
        [HTTP_STAGE_HANDSHAKE] = HTTP_STAGE_IDLE, [HTTP_STAGE_IDLE] = HTTP_STAGE_HEAD,
        [HTTP_STAGE_HEAD] = HTTP_STAGE_BODY,      [HTTP_STAGE_BODY] = HTTP_STAGE_HELD,
        [HTTP_STAGE_HELD] = HTTP_STAGE_ANSWER,    [HTTP_STAGE_ANSWER] = HTTP_STAGE_IDLE,
    };
    struct http_connection *connection = &fixture->connections[index];

    fixture->set.now_ms = at_ms;
    if (stage == HTTP_STAGE_HANDSHAKE) {
        http_set_remove(connection);
        http_set_add(&fixture->set, connection);
        return;
    }
    do
        http_connection_enter(connection, next[connection->deadline.stage]);
    while (connection->deadline.stage != stage);
}

static int64_t close_expired(struct fixture *fixture, int64_t at_ms)
{
    fixture->set.now_ms = at_ms;
    return http_set_close_expired(&fixture->set);
}

static bool evict(struct fixture *fixture, const struct address *network, int64_t at_ms)
{
    fixture->set.now_ms = at_ms;
    return http_set_evict(&fixture->set, network);
}

static void evict_reserve(struct fixture *fixture, int64_t at_ms)
{
    fixture->set.now_ms = at_ms;
    http_set_evict_reserve(&fixture->set);
}

// Returns the state that the client sees: 'o' (open), 'r' (the server has only stopped receiving) or 'c' (closed).
static char state_of(const struct fixture *fixture, size_t index)
{
    char byte;

    if (recv(fixture->clients[index], &byte, 1, 0) == 0)
        return 'c';
    assert_int_equal(errno, EAGAIN);
    return send(fixture->clients[index], "x", 1, MSG_NOSIGNAL) == 1 ? 'o' : 'r';
}

static void assert_states(const struct fixture *fixture, const char *expected)
{
    char states[CONNECTIONS + 1] = "";

    for (size_t i = 0; i < CONNECTIONS; i++)
        states[i] = state_of(fixture, i);
    assert_string_equal(states, expected);
}

TEST(closes_each_stage_at_its_timeout)
{
    static const struct {
        enum http_stage stage;
        int64_t timeout_ms; // -1: no timeout
        char ended;
    } rows[] = {
        {HTTP_STAGE_HANDSHAKE, 1000, 'c'}, {HTTP_STAGE_IDLE, 5000, 'r'}, {HTTP_STAGE_HEAD, 1000, 'c'},
        {HTTP_STAGE_BODY, 1000, 'c'},      {HTTP_STAGE_HELD, -1, 'o'},   {HTTP_STAGE_ANSWER, 1000, 'c'},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t timeout_ms = rows[i].timeout_ms;
        struct fixture fixture;

        fixture_init(&fixture);
        for (size_t j = 1; j < CONNECTIONS; j++)
            enter(&fixture, j, HTTP_STAGE_HELD, NOW);
        enter(&fixture, 0, rows[i].stage, NOW);
        assert_int_equal(close_expired(&fixture, NOW), timeout_ms);
        if (timeout_ms >= 0) {
            assert_int_equal(close_expired(&fixture, NOW + timeout_ms - 1), 1);
            assert_states(&fixture, "oooooo");
        }
        assert_int_equal(close_expired(&fixture, NOW + timeout_ms), -1);
        assert_int_equal(state_of(&fixture, 0), rows[i].ended);
        fixture_finish(&fixture);
    }
}

// After the process was suspended, a connection with unread data gets a fresh deadline, so that the loop reads the data
// first. If the fresh deadline passes without another suspension, the connection is closed. A connection to which the
// server is sending gets no fresh deadline.
TEST(restarts_deadlines_of_unread_data_after_a_suspension)
{
    static const struct {
        enum http_stage stage;
        int64_t timeout_ms;
        char ended;
        bool is_read;
    } rows[] = {
        {HTTP_STAGE_HANDSHAKE, 1000, 'c', true}, {HTTP_STAGE_IDLE, 5000, 'r', true},
        {HTTP_STAGE_HEAD, 1000, 'c', true},      {HTTP_STAGE_BODY, 1000, 'c', true},
        {HTTP_STAGE_ANSWER, 1000, 'c', false},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t due_ms = NOW + rows[i].timeout_ms;
        struct fixture fixture;

        fixture_init(&fixture);
        for (size_t j = 0; j < CONNECTIONS; j++)
            enter(&fixture, j, j < 3 ? rows[i].stage : HTTP_STAGE_HELD, NOW);
        assert_int_equal(send(fixture.clients[0], "x", 1, 0), 1);
        assert_int_equal(send(fixture.clients[2], "x", 1, 0), 1);
        assert_int_equal(close_expired(&fixture, due_ms + 3000), rows[i].is_read ? rows[i].timeout_ms : -1);
        assert_int_equal(state_of(&fixture, 0), rows[i].is_read ? 'o' : rows[i].ended);
        assert_int_equal(state_of(&fixture, 1), rows[i].ended);
        assert_int_equal(state_of(&fixture, 2), rows[i].is_read ? 'o' : rows[i].ended);
        due_ms += 3000 + rows[i].timeout_ms;
        assert_int_equal(close_expired(&fixture, due_ms), -1);
        assert_int_equal(state_of(&fixture, 0), rows[i].ended);
        assert_int_equal(state_of(&fixture, 2), rows[i].ended);
        fixture_finish(&fixture);
    }
}

TEST(closes_in_the_millisecond_of_the_deadline)
{
    struct fixture fixture;

    fixture_init(&fixture);
    for (size_t i = 0; i < CONNECTIONS; i++)
        enter(&fixture, i, i < 4 ? HTTP_STAGE_HEAD : HTTP_STAGE_IDLE, NOW + (int64_t)i * 100);
    assert_int_equal(close_expired(&fixture, NOW + 1100), 100);
    assert_states(&fixture, "ccoooo");
    assert_int_equal(close_expired(&fixture, NOW + 1300), 4100);
    assert_states(&fixture, "ccccoo");
    assert_int_equal(close_expired(&fixture, NOW + 5400), 100);
    assert_states(&fixture, "ccccro");
    fixture_finish(&fixture);
}

// Each entry into a stage starts a new deadline and moves the connection to the end of its list.
TEST(restarts_the_deadline_with_each_stage)
{
    struct fixture fixture;

    fixture_init(&fixture);
    for (size_t i = 0; i < CONNECTIONS; i++)
        enter(&fixture, i, HTTP_STAGE_HEAD, NOW);
    enter(&fixture, 0, HTTP_STAGE_BODY, NOW + 500);
    enter(&fixture, 3, HTTP_STAGE_HEAD, NOW + 600);
    assert_int_equal(close_expired(&fixture, NOW + 1000), 500);
    assert_states(&fixture, "occocc");
    assert_int_equal(close_expired(&fixture, NOW + 1500), 100);
    assert_states(&fixture, "cccocc");
    fixture_finish(&fixture);
}

// When the server stops receiving on an idle connection, the kernel's buffer may already hold a request. This request
// has deadlines like any other.
TEST(times_a_request_out_on_a_closed_idle_connection)
{
    struct fixture fixture;

    fixture_init(&fixture);
    for (size_t i = 1; i < CONNECTIONS; i++)
        enter(&fixture, i, HTTP_STAGE_HELD, NOW);
    enter(&fixture, 0, HTTP_STAGE_IDLE, NOW);
    http_set_close_idle(&fixture.set);
    assert_states(&fixture, "rooooo");
    assert_true(fixture.connections[0].transport.receive_closed);
    enter(&fixture, 0, HTTP_STAGE_HEAD, NOW + 1);
    assert_true(fixture.connections[0].transport.receive_closed);
    assert_int_equal(close_expired(&fixture, NOW + 1001), -1);
    assert_states(&fixture, "cooooo");
    fixture_finish(&fixture);
}

TEST(closes_connections_without_a_request_in_a_drain)
{
    static const enum http_stage stages[CONNECTIONS] = {HTTP_STAGE_HANDSHAKE, HTTP_STAGE_IDLE, HTTP_STAGE_HEAD,
                                                        HTTP_STAGE_BODY,      HTTP_STAGE_HELD, HTTP_STAGE_ANSWER};
    struct fixture fixture;

    fixture_init(&fixture);
    for (size_t i = 0; i < CONNECTIONS; i++)
        enter(&fixture, i, stages[i], NOW);
    http_set_close_idle(&fixture.set);
    assert_states(&fixture, "croooo");
    fixture_finish(&fixture);
}

// Connections are evicted in this order: unverified ones that have spent at least two seconds in a handshake or in one
// stage of a request (except HELD), then unverified idle ones, then verified ones that have been idle for at least two
// seconds.
TEST(evicts_unverified_connections_first)
{
    struct fixture fixture;

    fixture_init(&fixture);
    fixture.connections[0].is_verified = fixture.connections[1].is_verified = fixture.connections[5].is_verified = true;
    enter(&fixture, 5, HTTP_STAGE_BODY, NOW);
    enter(&fixture, 0, HTTP_STAGE_IDLE, NOW);
    enter(&fixture, 1, HTTP_STAGE_IDLE, NOW + 1);
    enter(&fixture, 2, HTTP_STAGE_HEAD, NOW + 2);
    enter(&fixture, 3, HTTP_STAGE_IDLE, NOW + 3);
    enter(&fixture, 4, HTTP_STAGE_IDLE, NOW + 2000);

    assert_true(evict(&fixture, NULL, NOW + 2001));
    assert_states(&fixture, "oooroo"); // connection 2, which is in stage HEAD, qualifies 1 ms later
    assert_true(evict(&fixture, NULL, NOW + 2002));
    assert_states(&fixture, "oocroo");
    assert_true(evict(&fixture, NULL, NOW + 2002));
    assert_states(&fixture, "oocrro");
    assert_true(evict(&fixture, NULL, NOW + 2002));
    assert_states(&fixture, "rocrro");
    assert_true(evict(&fixture, NULL, NOW + 2002));
    assert_states(&fixture, "rrcrro");
    assert_false(evict(&fixture, NULL, NOW + 100000)); // a verified connection in stage BODY is never evicted
    assert_states(&fixture, "rrcrro");
    fixture_finish(&fixture);
}

TEST(evicts_no_connection_that_was_just_served)
{
    struct fixture fixture;

    fixture_init(&fixture);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        fixture.connections[i].is_verified = i < 3;
        enter(&fixture, i, i < 3 ? HTTP_STAGE_IDLE : i < 5 ? HTTP_STAGE_HEAD : HTTP_STAGE_HELD, NOW);
    }
    assert_false(evict(&fixture, NULL, NOW + 1999));
    assert_states(&fixture, "oooooo");
    assert_true(evict(&fixture, NULL, NOW + 2000));
    assert_states(&fixture, "ooocoo");
    fixture_finish(&fixture);
}

// At the limit per address, only connections of the same network are evicted.
TEST(evicts_within_one_network)
{
    static const struct address one = {{0x20, 1, 0xd, 0xb8}}, other = {{0x20, 2}};
    struct fixture fixture;

    fixture_init(&fixture);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        fixture.connections[i].transport.network = i < 3 ? other : one;
        enter(&fixture, i, HTTP_STAGE_IDLE, NOW);
    }
    for (size_t i = 3; i < CONNECTIONS; i++)
        assert_true(evict(&fixture, &one, NOW));
    assert_false(evict(&fixture, &one, NOW));
    assert_states(&fixture, "ooorrr");
    fixture_finish(&fixture);
}

// http_set_evict() skips the connections beyond a limit, because closing them makes no room below the limit. At the
// hard limit, http_set_evict_reserve() closes those of them that are unverified and have spent at least two seconds in
// their stage, unless that stage is HELD.
TEST(evicts_reserve_connections_separately)
{
    struct fixture fixture;

    fixture_init(&fixture);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        fixture.connections[i].exceeded_limit = i == 0   ? HTTP_LIMIT_NONE
                                                : i == 1 ? HTTP_LIMIT_PER_ADDRESS
                                                         : HTTP_LIMIT_CONNECTIONS;
        fixture.connections[i].is_verified = i == 5;
        enter(&fixture, i, i == 2 ? HTTP_STAGE_HEAD : i == 4 ? HTTP_STAGE_HELD : HTTP_STAGE_IDLE, NOW);
    }
    evict_reserve(&fixture, NOW + 1999);
    assert_states(&fixture, "oooooo");
    evict_reserve(&fixture, NOW + 2000);
    assert_states(&fixture, "orcroo");
    assert_true(evict(&fixture, NULL, NOW + 2000));
    assert_states(&fixture, "rrcroo");
    assert_false(evict(&fixture, NULL, NOW + 100000));
    fixture_finish(&fixture);
}

TEST_MAIN(NULL, NULL)
