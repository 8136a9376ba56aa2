// Tests bodies at the limits of size, depth, number of values and memory.
#include <pthread.h>
#include <stdio.h>

#include "callback_fixture.h"

static void print_members(size_t count, const char *name)
{
    quote(G ",'EventTime':7,'MemberList':[");
    for (size_t i = 0; i < count; i++)
        PRINT("%s{\"Member_Account\":\"%s-%025zu\"}", i > 0 ? "," : "", name, i);
    PRINT("]}");
}

// Appends the text to the body `count` times.
static void repeat(const char *text, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(buffer_append(&body, text, strlen(text)), 0);
}

TEST(accepts_ten_thousand_members)
{
    const struct destroyed_group *group = &fixture.callback.group;

    print_members(10000, "member");
    assert_true(body.length > 500000);
    assert_int_equal(read_body(&fixture_rules, ARENA_BYTES), CALLBACK_RECORD);
    assert_int_equal(group->member_count, 10000);
    for (size_t i = 0; i < group->member_count; i++) {
        char expected[64];

        (void)snprintf(expected, sizeof expected, "member-%025zu", i);
        assert_string_equal(group->members[i], expected);
    }
}

// A body that needs more than its memory limit is rejected. If the process is out of memory instead, the body is not at
// fault, so it must not become a rejected callback.
TEST(does_not_blame_the_body_for_a_lack_of_memory)
{
    print_members(1000, "member");
    assert_int_equal(read_body(&fixture_rules, 4096), CALLBACK_RECORD_REJECTION);
    assert_int_equal(fixture.callback.answer, ANSWER_BODY_TOO_COMPLEX);
    print_members(1, "member");
    fixture_finish(&fixture);
    fixture_init(&fixture, 4096);
    assert_int_equal(callback_read_query(&fixture.callback, &fixture_rules, OPEN_QUERY), CALLBACK_READ_BODY);
    while (arena_alloc(&fixture.arena, 16)) {
    }
    fixture.callback.arena->out_of_memory = true;
    assert_int_equal(callback_read_body(&fixture.callback, &fixture_rules, body.data, body.length), CALLBACK_REFUSE);
    assert_int_equal(fixture.callback.answer, ANSWER_OVERLOADED);
}

// While an event waits to be written to disk, its callback must not keep the parsed tree in memory.
TEST(frees_the_tree_after_the_body_is_read)
{
    static const char *const begins[] = {G ",'x':", "{'GroupId':'g','x':", ""};

    for (size_t i = 0; i < COUNT(begins); i++) {
        quote(begins[i]);
        PRINT("[0");
        repeat(",0", 399990);
        PRINT("]%s", *begins[i] ? "}" : "");
        assert_int_equal(read_body(&fixture_rules, ARENA_BYTES), i == 0 ? CALLBACK_RECORD : CALLBACK_RECORD_REJECTION);
        assert_true(fixture.arena.used_bytes <= 4096);
    }
}

// A large body may consist of members in their shortest form. The server allows each body 1 MiB and 16 bytes per byte
// of the maximum body size, which must be enough memory for a body of this size.
TEST(accepts_as_many_members_as_fit_into_a_body)
{
    static const char member[] = ",{\"Member_Account\":\"a\"}";
    static const size_t lengths[] = {(size_t)4 << 20, (size_t)12 << 20};

    for (size_t i = 0; i < COUNT(lengths); i++) {
        size_t count = lengths[i] / strlen(member);

        quote(G ",'EventTime':7,'MemberList':[");
        repeat(member + 1, 1);
        repeat(member, count);
        PRINT("]}");
        assert_int_equal(read_body(&fixture_rules, 16 * lengths[i] + ((size_t)1 << 20)), CALLBACK_RECORD);
        assert_int_equal(fixture.callback.group.member_count, count + 1);
    }
}

// The documentation limits ids to 48 bytes, but an event with a longer id must not be lost.
TEST(accepts_long_ids)
{
    static const size_t lengths[] = {48, 49, 500};

    for (size_t i = 0; i < COUNT(lengths); i++) {
        char id[501];

        memset(id, 'i', lengths[i]);
        id[lengths[i]] = '\0';
        quote("{" HEAD ",'GroupId':");
        PRINT("\"%s\",\"Name\":\"%s\",\"MemberList\":[{\"Member_Account\":\"%s\"}]}", id, id, id);
        assert_int_equal(read_body(&fixture_rules, ARENA_BYTES), CALLBACK_RECORD);
        assert_string_equal(fixture.callback.group.group_id, id);
        assert_string_equal(fixture.callback.group.name, id);
        assert_string_equal(fixture.callback.group.members[0], id);
    }
}

static void assert_accepted(bool is_accepted)
{
    assert_int_equal(read_body(&fixture_rules, ARENA_BYTES), is_accepted ? CALLBACK_RECORD : CALLBACK_RECORD_REJECTION);
    assert_int_equal(fixture.callback.answer, is_accepted ? ANSWER_OK : ANSWER_BODY_TOO_COMPLEX);
}

// The scanner must reject bodies just above the limits, and cJSON must accept bodies at the limits.
TEST(rejects_bodies_above_the_limits)
{
    for (size_t depth = 31; depth <= 33; depth++) {
        quote(G ",'x':");
        repeat("[", depth - 1);
        repeat("]", depth - 1);
        repeat("}", 1);
        assert_accepted(depth <= 32);
    }
    // The object counts as 1, its two commas as 2, the list as 1, and the commas of the list as the rest.
    for (size_t values = 399999; values <= 400001; values++) {
        quote(G ",'x':[0");
        repeat(",0", values - 4);
        repeat("]}", 1);
        assert_accepted(values <= 400000);
    }
}

// Raises the memory limit until it suffices. With every smaller limit, the answer must be "too complex", never a fault
// of the text.
TEST(reports_a_full_arena_as_too_complex)
{
    static const char *const kinds[] = {"", "// a comment to be replaced by spaces"};

    for (size_t i = 0; i < COUNT(kinds); i++) {
        enum callback_verdict verdict = CALLBACK_RECORD_REJECTION;
        size_t rejected_bodies = 0;

        print_members(50, "member");
        PRINT("%s", kinds[i]);
        for (size_t limit = 4096; verdict == CALLBACK_RECORD_REJECTION; limit += 256) {
            verdict = read_body(&fixture_rules, limit);
            if (verdict == CALLBACK_RECORD_REJECTION) {
                assert_int_equal(fixture.callback.answer, ANSWER_BODY_TOO_COMPLEX);
                assert_non_null(fixture.callback.rejected.reason);
                rejected_bodies++;
            }
        }
        assert_int_equal(verdict, CALLBACK_RECORD);
        assert_true(rejected_bodies > 10);
    }
}

// The arena may become full at any point, even while the list of members or the reason of the rejection is allocated.
TEST(survives_a_full_arena_at_any_point)
{
    size_t recorded = 0, without_reason = 0;

    quote("{" HEAD ",'GroupId':'g','MemberList':[{'Member_Account':'a'}]}");
    for (size_t taken = 0; taken <= 3968; taken += 16) {
        enum callback_verdict verdict;

        fixture_finish(&fixture);
        fixture_init(&fixture, 4096); // one block, of which less and less is left for the body
        assert_int_equal(callback_read_query(&fixture.callback, &fixture_rules, OPEN_QUERY), CALLBACK_READ_BODY);
        assert_non_null(arena_alloc(&fixture.arena, taken));
        verdict = callback_read_body(&fixture.callback, &fixture_rules, body.data, body.length);
        if (verdict == CALLBACK_RECORD) {
            assert_string_equal(fixture.callback.group.members[0], "a");
            recorded++;
        } else {
            assert_int_equal(verdict, CALLBACK_RECORD_REJECTION);
            assert_int_equal(fixture.callback.answer, ANSWER_BODY_TOO_COMPLEX);
            without_reason += strcmp(fixture.callback.rejected.reason, "body_too_complex") == 0;
        }
    }
    assert_true(recorded > 0);
    assert_true(without_reason > 0);
}

struct parser {
    pthread_t thread;
    pthread_barrier_t *start;
    struct buffer body;
    char name[8];
    size_t failures;
};

// Only the thread that runs the tests may use cmocka's assertions, so this thread counts failures.
static void *parse_often(void *argument)
{
    struct parser *parser = argument;

    pthread_barrier_wait(parser->start);
    for (size_t round = 0; round < 300; round++) {
        struct fixture own;
        const struct destroyed_group *group = &own.callback.group;
        bool good = fixture_read(&own, &fixture_rules, &parser->body, ARENA_BYTES) == CALLBACK_RECORD;

        for (size_t i = 0; good && i < group->member_count; i++)
            good = strncmp(group->members[i], parser->name, strlen(parser->name)) == 0;
        parser->failures += !good;
        fixture_finish(&own);
    }
    return NULL;
}

TEST(threads_parse_into_their_own_arenas)
{
    struct parser parsers[] = {{.name = "one"}, {.name = "two"}, {.name = "three"}, {.name = "four"}};
    pthread_barrier_t start;

    assert_int_equal(pthread_barrier_init(&start, NULL, COUNT(parsers)), 0);
    for (size_t i = 0; i < COUNT(parsers); i++) {
        parsers[i].start = &start;
        print_members(200, parsers[i].name);
        parsers[i].body = body;
        body = (struct buffer){0};
        assert_int_equal(pthread_create(&parsers[i].thread, NULL, parse_often, &parsers[i]), 0);
    }
    for (size_t i = 0; i < COUNT(parsers); i++)
        assert_int_equal(pthread_join(parsers[i].thread, NULL), 0);
    for (size_t i = 0; i < COUNT(parsers); i++) {
        assert_int_equal(parsers[i].failures, 0);
        buffer_finish(&parsers[i].body);
    }
    pthread_barrier_destroy(&start);
}

TEST_MAIN(NULL, finish_fixture)
