#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../../../src/http/connection.h"
#include "../unit.h"

#define MANY 6
#define NOW  INT64_C(1000000)

static const struct http_limits limits = {.request_timeout_ms = 1000, .idle_timeout_ms = 5000};

// Connections whose other ends are in the test's hands.
struct crowd {
    struct http_connections connections;
    struct http_connection each[MANY];
    int peers[MANY];
};

static void crowd_begin(struct crowd *crowd)
{
    *crowd = (struct crowd){0};
    for (size_t i = 0; i < MANY; i++) {
        int ends[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
        crowd->each[i].fd = ends[0];
        crowd->peers[i] = ends[1];
        http_connections_add(&crowd->connections, &crowd->each[i], NOW);
    }
}

static void crowd_end(struct crowd *crowd)
{
    for (size_t i = 0; i < MANY; i++) {
        http_connections_remove(&crowd->connections, &crowd->each[i]);
        close(crowd->each[i].fd);
        close(crowd->peers[i]);
    }
    assert_null(crowd->connections.timed.first);
    assert_null(crowd->connections.idle.first);
    assert_null(crowd->connections.held.first);
    assert_null(crowd->connections.timed.last);
    assert_null(crowd->connections.idle.last);
    assert_null(crowd->connections.held.last);
}

static void enter(struct crowd *crowd, size_t index, enum http_stage stage, int64_t at_ms)
{
    http_connections_enter(&crowd->connections, &crowd->each[index], stage, at_ms);
}

// What the caller at the other end notices: 'o'pen, only 'r'eading ended, 'c'losed.
static char look(const struct crowd *crowd, size_t index)
{
    char byte;

    if (recv(crowd->peers[index], &byte, 1, 0) == 0)
        return 'c';
    assert_int_equal(errno, EAGAIN);
    return send(crowd->peers[index], "x", 1, MSG_NOSIGNAL) == 1 ? 'o' : 'r';
}

static void assert_looks(const struct crowd *crowd, const char *expected)
{
    char looks[MANY + 1] = "";

    for (size_t i = 0; i < MANY; i++)
        looks[i] = look(crowd, i);
    assert_string_equal(looks, expected);
}

static void each_stage_has_its_end(void **state)
{
    static const struct {
        enum http_stage stage;
        int64_t timeout_ms; // -1: none
        char ended;
    } rows[] = {
        {HTTP_STAGE_HANDSHAKE, 1000, 'c'}, {HTTP_STAGE_IDLE, 5000, 'r'}, {HTTP_STAGE_HEAD, 1000, 'c'},
        {HTTP_STAGE_BODY, 1000, 'c'},      {HTTP_STAGE_HELD, -1, 'o'},   {HTTP_STAGE_ANSWER, 1000, 'c'},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t timeout_ms = rows[i].timeout_ms;
        struct crowd crowd;

        crowd_begin(&crowd);
        for (size_t j = 1; j < MANY; j++)
            enter(&crowd, j, HTTP_STAGE_HELD, NOW);
        enter(&crowd, 0, rows[i].stage, NOW);
        assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW), timeout_ms);
        if (timeout_ms >= 0) {
            assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW + timeout_ms - 1), 1);
            assert_looks(&crowd, "oooooo");
        }
        assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW + timeout_ms), -1);
        assert_int_equal(look(&crowd, 0), rows[i].ended);
        crowd_end(&crowd);
    }
}

// After a pause of the whole process, what came meanwhile is read first; but not what comes while the server writes,
// and not for ever.
static void reads_before_it_judges(void **state)
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

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t due_ms = NOW + rows[i].timeout_ms;
        struct crowd crowd;

        crowd_begin(&crowd);
        for (size_t j = 0; j < MANY; j++)
            enter(&crowd, j, j < 3 ? rows[i].stage : HTTP_STAGE_HELD, NOW);
        assert_int_equal(send(crowd.peers[0], "x", 1, 0), 1);
        assert_int_equal(send(crowd.peers[2], "x", 1, 0), 1);
        assert_int_equal(http_connections_sweep(&crowd.connections, &limits, due_ms + 3000),
                         rows[i].is_read ? rows[i].timeout_ms : -1);
        assert_int_equal(look(&crowd, 0), rows[i].is_read ? 'o' : rows[i].ended);
        assert_int_equal(look(&crowd, 1), rows[i].ended);
        assert_int_equal(look(&crowd, 2), rows[i].is_read ? 'o' : rows[i].ended);
        due_ms += 3000 + rows[i].timeout_ms;
        assert_int_equal(http_connections_sweep(&crowd.connections, &limits, due_ms), -1);
        assert_int_equal(look(&crowd, 0), rows[i].ended);
        assert_int_equal(look(&crowd, 2), rows[i].ended);
        crowd_end(&crowd);
    }
}

static void ends_at_the_very_millisecond(void **state)
{
    struct crowd crowd;

    (void)state;
    crowd_begin(&crowd);
    for (size_t i = 0; i < MANY; i++)
        enter(&crowd, i, i < 4 ? HTTP_STAGE_HEAD : HTTP_STAGE_IDLE, NOW + (int64_t)i * 100);
    assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW + 1100), 100);
    assert_looks(&crowd, "ccoooo");
    assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW + 1300), 4100);
    assert_looks(&crowd, "ccccoo");
    assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW + 5400), 100);
    assert_looks(&crowd, "ccccro");
    crowd_end(&crowd);
}

// A stage begins anew each time that it is entered, and puts the connection behind the others.
static void entering_begins_anew(void **state)
{
    struct crowd crowd;

    (void)state;
    crowd_begin(&crowd);
    for (size_t i = 0; i < MANY; i++)
        enter(&crowd, i, HTTP_STAGE_HEAD, NOW);
    enter(&crowd, 0, HTTP_STAGE_BODY, NOW + 500);
    enter(&crowd, 3, HTTP_STAGE_HEAD, NOW + 600);
    assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW + 1000), 500);
    assert_looks(&crowd, "occocc");
    assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW + 1500), 100);
    assert_looks(&crowd, "cccocc");
    crowd_end(&crowd);
}

// A request that was in the kernel's buffer when its idle connection was ended has its deadlines like any other.
static void ends_what_was_idle_a_second_time(void **state)
{
    struct crowd crowd;

    (void)state;
    crowd_begin(&crowd);
    for (size_t i = 1; i < MANY; i++)
        enter(&crowd, i, HTTP_STAGE_HELD, NOW);
    enter(&crowd, 0, HTTP_STAGE_IDLE, NOW);
    http_connections_end_idle(&crowd.connections);
    assert_looks(&crowd, "rooooo");
    assert_true(crowd.each[0].reading_ended);
    enter(&crowd, 0, HTTP_STAGE_HEAD, NOW + 1);
    assert_true(crowd.each[0].reading_ended);
    assert_int_equal(http_connections_sweep(&crowd.connections, &limits, NOW + 1001), -1);
    assert_looks(&crowd, "cooooo");
    crowd_end(&crowd);
}

static void ends_those_without_a_request_in_a_drain(void **state)
{
    static const enum http_stage stages[MANY] = {HTTP_STAGE_HANDSHAKE, HTTP_STAGE_IDLE, HTTP_STAGE_HEAD,
                                                 HTTP_STAGE_BODY,      HTTP_STAGE_HELD, HTTP_STAGE_ANSWER};
    struct crowd crowd;

    (void)state;
    crowd_begin(&crowd);
    for (size_t i = 0; i < MANY; i++)
        enter(&crowd, i, stages[i], NOW);
    http_connections_end_idle(&crowd.connections);
    assert_looks(&crowd, "croooo");
    crowd_end(&crowd);
}

// In the order in which they go: silent in the middle of something for over two seconds; idle without ever a call;
// idle for over two seconds.
static void sheds_the_least_proven_first(void **state)
{
    struct crowd crowd;

    (void)state;
    crowd_begin(&crowd);
    crowd.each[0].proven = crowd.each[1].proven = crowd.each[5].proven = true;
    enter(&crowd, 5, HTTP_STAGE_BODY, NOW);
    enter(&crowd, 0, HTTP_STAGE_IDLE, NOW);
    enter(&crowd, 1, HTTP_STAGE_IDLE, NOW + 1);
    enter(&crowd, 2, HTTP_STAGE_HEAD, NOW + 2);
    enter(&crowd, 3, HTTP_STAGE_IDLE, NOW + 3);
    enter(&crowd, 4, HTTP_STAGE_IDLE, NOW + 2000);

    assert_true(http_connections_shed(&crowd.connections, NULL, NOW + 2001));
    assert_looks(&crowd, "oooroo"); // the one in its head has 1 ms left
    assert_true(http_connections_shed(&crowd.connections, NULL, NOW + 2002));
    assert_looks(&crowd, "oocroo");
    assert_true(http_connections_shed(&crowd.connections, NULL, NOW + 2002));
    assert_looks(&crowd, "oocrro");
    assert_true(http_connections_shed(&crowd.connections, NULL, NOW + 2002));
    assert_looks(&crowd, "rocrro");
    assert_true(http_connections_shed(&crowd.connections, NULL, NOW + 2002));
    assert_looks(&crowd, "rrcrro");
    assert_false(http_connections_shed(&crowd.connections, NULL, NOW + 100000)); // a verified call is never shed
    assert_looks(&crowd, "rrcrro");
    crowd_end(&crowd);
}

static void sheds_nobody_who_was_just_served(void **state)
{
    struct crowd crowd;

    (void)state;
    crowd_begin(&crowd);
    for (size_t i = 0; i < MANY; i++) {
        crowd.each[i].proven = i < 3;
        enter(&crowd, i, i < 3 ? HTTP_STAGE_IDLE : i < 5 ? HTTP_STAGE_HEAD : HTTP_STAGE_HELD, NOW);
    }
    assert_false(http_connections_shed(&crowd.connections, NULL, NOW + 1999));
    assert_looks(&crowd, "oooooo");
    assert_true(http_connections_shed(&crowd.connections, NULL, NOW + 2000));
    assert_looks(&crowd, "ooocoo");
    crowd_end(&crowd);
}

// At the limit of one caller the others are left alone; of an IPv6 caller the /64 counts.
static void sheds_among_one_caller(void **state)
{
    static const unsigned char one[16] = {0x20, 1, 0xd, 0xb8, [15] = 1}, other[16] = {0x20, 2};
    struct address caller;
    struct crowd crowd;

    (void)state;
    crowd_begin(&crowd);
    for (size_t i = 0; i < MANY; i++) {
        memcpy(crowd.each[i].address.bytes, i < 3 ? other : one, sizeof one);
        crowd.each[i].address.bytes[14] = (unsigned char)i;
        enter(&crowd, i, HTTP_STAGE_IDLE, NOW);
    }
    caller = address_client_network(&crowd.each[3].address);
    for (size_t i = 3; i < MANY; i++)
        assert_true(http_connections_shed(&crowd.connections, &caller, NOW));
    assert_false(http_connections_shed(&crowd.connections, &caller, NOW));
    assert_looks(&crowd, "ooorrr");
    crowd_end(&crowd);
}

// One that came beyond a limit makes no room below it. Where there is no room even beyond, those go that say nothing.
static void sheds_beyond_the_limit_apart(void **state)
{
    struct crowd crowd;

    (void)state;
    crowd_begin(&crowd);
    for (size_t i = 0; i < MANY; i++) {
        crowd.each[i].limit_reached = i == 0   ? HTTP_LIMIT_NONE
                                      : i == 1 ? HTTP_LIMIT_PER_ADDRESS
                                               : HTTP_LIMIT_CONNECTIONS;
        crowd.each[i].proven = i == 5;
        enter(&crowd, i, i == 2 ? HTTP_STAGE_HEAD : i == 4 ? HTTP_STAGE_HELD : HTTP_STAGE_IDLE, NOW);
    }
    http_connections_shed_beyond_limit(&crowd.connections, NOW + 1999);
    assert_looks(&crowd, "oooooo");
    http_connections_shed_beyond_limit(&crowd.connections, NOW + 2000);
    assert_looks(&crowd, "orcroo");
    assert_true(http_connections_shed(&crowd.connections, NULL, NOW + 2000));
    assert_looks(&crowd, "rrcroo");
    assert_false(http_connections_shed(&crowd.connections, NULL, NOW + 100000));
    crowd_end(&crowd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_stage_has_its_end),           cmocka_unit_test(reads_before_it_judges),
        cmocka_unit_test(ends_at_the_very_millisecond),     cmocka_unit_test(entering_begins_anew),
        cmocka_unit_test(ends_what_was_idle_a_second_time), cmocka_unit_test(ends_those_without_a_request_in_a_drain),
        cmocka_unit_test(sheds_the_least_proven_first),     cmocka_unit_test(sheds_nobody_who_was_just_served),
        cmocka_unit_test(sheds_among_one_caller),           cmocka_unit_test(sheds_beyond_the_limit_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
