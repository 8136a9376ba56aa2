// Tests the result of a commit and the rows that the commit leaves.
#include <inttypes.h>

#include "../../../src/store/recorder.h"
#include "store_fixture.h"

#define MINUTE_MS INT64_C(60000)

STORE_TEST(records_every_field)
{
    struct destroyed_group group = example_group(), community = example_group(), empty = example_group();

    assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    community.group_id = "@TGS#_community'; DROP TABLE destroyed_group; --";
    community.has_member_list = false;
    community.member_count = 0;
    community.keep_body = true;
    community.owner_account = "";
    assert_int_equal(fixture_record(fixture, &community), COMMIT_RECORDED);
    empty.group_id = "empty";
    empty.member_count = 0;
    assert_int_equal(fixture_record(fixture, &empty), COMMIT_RECORDED);

    assert_query(fixture,
                 "SELECT id || '|' || sdk_appid || '|' || group_id || '|' || event_time_ms || '|' ||"
                 " type || '|' || owner_account || '|' || operator_account || '|' || name || '|' || member_count || '|'"
                 " || opt_platform || '|' || client_ip || '|' || remote_address || '|' || received_at_ms || '|' ||"
                 " (body IS NULL) FROM destroyed_group WHERE id = 1",
                 "1|1400000000|@TGS#2J4SZEAEL|1699999999983|Public|leckie|admin|MyFirstGroup|3|RESTAPI|198.51.100.7|"
                 "192.0.2.1|1700000000000|1");
    assert_query(fixture,
                 "SELECT group_concat(position || ' ' || member_account) FROM"
                 " (SELECT * FROM destroyed_group_member WHERE destroyed_group_id = 1 ORDER BY position)",
                 "0 jared,1 tom,2 \xe5\xbc\xa0\xe4\xb8\x89");
    assert_query(fixture, "SELECT event_time || ' ' || received_at FROM destroyed_group_log WHERE id = 1",
                 "2023-11-14T22:13:19.983Z 2023-11-14T22:13:20.000Z");
    assert_query(fixture, "SELECT group_id FROM destroyed_group WHERE id = 2", community.group_id);
    assert_query(fixture, "SELECT member_count IS NULL AND owner_account = '' FROM destroyed_group WHERE id = 2", "1");
    assert_query(fixture, "SELECT CAST(body AS TEXT) FROM destroyed_group WHERE id = 2", community.body);
    assert_query(fixture, "SELECT member_count FROM destroyed_group WHERE id = 3", "0");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group_member", "3");
}

// Each row has an event, its result, and the difference from example_group() that a conflict reports.
STORE_TEST(tells_repeats_from_conflicts)
{
    static const char *const other_member[] = {"jared", "tom", "tommy"};
    static const char *const other_order[] = {"tom", "jared", "\xe5\xbc\xa0\xe4\xb8\x89"};
    static const char *const fourth[] = {"jared", "tom", "\xe5\xbc\xa0\xe4\xb8\x89", "eve"};
    struct destroyed_group same = example_group();
    enum { ROWS = 15 };
    struct {
        struct destroyed_group group;
        enum commit_result result;
        const char *difference;
    } rows[ROWS];

    for (size_t i = 0; i < ROWS; i++) {
        rows[i].group = same;
        rows[i].result = i < 2 ? COMMIT_REPEATED : i < 11 ? COMMIT_CONFLICT : COMMIT_RECORDED;
        rows[i].difference = NULL;
    }
    rows[1].group.client_ip = "203.0.113.9"; // these fields describe the reception, not the event
    rows[1].group.opt_platform = "Web";
    rows[1].group.remote_address = "::1";
    rows[1].group.received_at_ms += 3600000;
    rows[1].group.keep_body = true;
    rows[2].group.type = "ChatRoom", rows[2].difference = "type";
    rows[3].group.owner_account = "", rows[3].difference = "owner_account";
    rows[4].group.operator_account = "root", rows[4].difference = "operator_account";
    rows[5].group.name = "MyFirstGrou", rows[5].difference = "name";
    rows[6].group.has_member_list = false, rows[6].group.member_count = 0, rows[6].difference = "member_count";
    rows[7].group.member_count = 2, rows[7].difference = "member_count";
    rows[8].group.members = other_member, rows[8].difference = "member list";
    rows[9].group.members = other_order, rows[9].difference = "member list";
    rows[10].group.members = fourth, rows[10].group.member_count = 4, rows[10].difference = "member_count";
    rows[11].group.sdk_appid++;
    rows[12].group.group_id = "@TGS#2J4SZEAEl";
    rows[13].group.event_time_ms++; // the service reused the id
    rows[14].group.event_time_ms = INT64_MIN;

    assert_int_equal(fixture_record(fixture, &same), COMMIT_RECORDED);
    for (size_t i = 0; i < ROWS; i++) {
        char reason[128];

        if (fixture_record(fixture, &rows[i].group) != rows[i].result)
            fail_msg("row %zu", i);
        if (!rows[i].difference)
            continue;
        (void)snprintf(reason, sizeof reason, "conflict: recorded as destroyed_group 1 with another %s",
                       rows[i].difference);
        assert_query(fixture, "SELECT reason FROM rejected_callback ORDER BY id DESC", reason);
    }
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "5");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group_member", "15");
    assert_query(fixture,
                 "SELECT count(*) || ' ' || min(callback_command) || ' ' || min(sdk_appid) FROM rejected_callback",
                 "9 Group.CallbackAfterGroupDestroyed 1400000000");
    assert_query(fixture, "SELECT CAST(body AS TEXT) FROM rejected_callback", same.body);
}

STORE_TEST(compares_bodies_for_five_minutes_without_a_time)
{
    static const struct {
        int64_t after_ms;
        const char *body;
        int64_t sdk_appid;
        enum commit_result result;
    } rows[] = {
        {0, "{1}", 1, COMMIT_RECORDED},
        {0, "{1}", 1, COMMIT_REPEATED},
        {0, "{1} ", 1, COMMIT_RECORDED},
        {0, "{1}", 2, COMMIT_RECORDED},
        {5 * MINUTE_MS, "{1}", 1, COMMIT_REPEATED},
        {-5 * MINUTE_MS, "{1}", 1, COMMIT_REPEATED},
        {-5 * MINUTE_MS - 1, "{1}", 1, COMMIT_RECORDED},
        {5 * MINUTE_MS + 1, "{1}", 1, COMMIT_RECORDED},
        {10 * MINUTE_MS + 1, "{1}", 1, COMMIT_REPEATED}, // repeats the event of the row above
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct destroyed_group group = example_group();

        group.has_event_time = false;
        group.keep_body = true;
        group.sdk_appid = rows[i].sdk_appid;
        group.body = rows[i].body;
        group.body_length = strlen(rows[i].body);
        group.received_at_ms += rows[i].after_ms;
        if (fixture_record(fixture, &group) != rows[i].result)
            fail_msg("row %zu", i);
    }
    assert_query(fixture, "SELECT count(*) FROM destroyed_group WHERE event_time_ms IS NULL", "5");
    assert_query(fixture, "SELECT event_time FROM destroyed_group_log", "NULL");
}

STORE_TEST(sees_earlier_commits_of_the_batch)
{
    struct destroyed_group first = example_group(), other = example_group(), next = example_group();
    struct commit commits[] = {{.group = &first}, {.group = &next}, {.group = &first}, {.group = &other}};

    other.name = "another";
    next.event_time_ms++;
    fixture_commit(fixture, commits, 4);
    assert_int_equal(commits[0].result, COMMIT_RECORDED);
    assert_int_equal(commits[1].result, COMMIT_RECORDED);
    assert_int_equal(commits[2].result, COMMIT_REPEATED);
    assert_int_equal(commits[3].result, COMMIT_CONFLICT);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "2");
}

static void expect_newest_id(const struct fixture *fixture, const char *expected)
{
    char newest[24];

    (void)snprintf(newest, sizeof newest, "%" PRId64, store_newest_event_id(fixture->store));
    assert_string_equal(newest, expected);
    assert_query(fixture, "SELECT coalesce(max(id), 0) FROM destroyed_group", expected);
}

STORE_TEST(knows_the_newest_id)
{
    struct destroyed_group first = example_group(), other = example_group(), repeated = example_group();
    struct commit commits[] = {{.group = &first}, {.group = &other}, {.group = &repeated}};

    expect_newest_id(fixture, "0");
    other.event_time_ms++;
    fixture_commit(fixture, commits, 3);
    expect_newest_id(fixture, "2");
    fixture_close(fixture);
    fixture_open(fixture);
    expect_newest_id(fixture, "2"); // although the repeat has used up the id 3
    first.event_time_ms += 2;
    assert_int_equal(fixture_record(fixture, &first), COMMIT_RECORDED);
    expect_newest_id(fixture, "4");
}

// A value that the schema rejects stands for any fault of a single commit.
STORE_TEST(fails_only_the_commit_with_an_invalid_value)
{
    static const char *const broken_members[] = {"jared", NULL, "tom"};
    struct destroyed_group groups[5];
    struct commit commits[5];

    example_commits(groups, commits, 5, 1);
    groups[1].members = broken_members;
    groups[3].type = NULL;
    groups[4].event_time_ms = groups[0].event_time_ms;
    fixture_commit(fixture, commits, 5);
    assert_int_equal(commits[0].result, COMMIT_RECORDED);
    assert_int_equal(commits[1].result, COMMIT_FAILED);
    assert_int_equal(commits[2].result, COMMIT_RECORDED);
    assert_int_equal(commits[3].result, COMMIT_FAILED);
    assert_int_equal(commits[4].result, COMMIT_REPEATED);
    assert_int_equal(fixture->broken, 0);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "2");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group_member", "6");
}

STORE_TEST(keeps_the_order_of_members)
{
    static const size_t counts[] = {1, 9, 10, 11, 10000};
    static char texts[10000][16];
    static const char *members[10000];

    for (size_t i = 0; i < 10000; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "user-%zu", i);
        members[i] = texts[i];
    }
    for (size_t i = 0; i < COUNT(counts); i++) {
        struct destroyed_group group = example_group();
        char expected[32];

        group.event_time_ms += (int64_t)i;
        group.members = members;
        group.member_count = counts[i];
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
        assert_int_equal(fixture_record(fixture, &group), COMMIT_REPEATED);
        (void)snprintf(expected, sizeof expected, "%zu 0 %zu", counts[i], counts[i] - 1);
        assert_query(fixture,
                     "SELECT count(*) || ' ' || min(position) || ' ' || max(position) FROM destroyed_group_member"
                     " WHERE destroyed_group_id = (SELECT max(id) FROM destroyed_group)",
                     expected);
    }
    assert_query(fixture, "SELECT count(*) FROM destroyed_group_member WHERE member_account != 'user-' || position",
                 "0");
}

STORE_TEST(records_rejected_callbacks_byte_by_byte)
{
    static const char body[] = "{\"a\": \"\0\xff\"";
    struct rejected_callback rejected = example_rejected();

    rejected.body = body;
    rejected.body_length = sizeof body - 1;
    assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    rejected.body = NULL;
    rejected.body_length = 0;
    assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    assert_query(fixture, "SELECT hex(body) FROM rejected_callback WHERE id = 1", "7B2261223A202200FF22");
    assert_query(fixture, "SELECT typeof(body) || length(body) FROM rejected_callback WHERE id = 2", "blob0");
    assert_query(fixture, "SELECT reason || ' ' || received_at_ms || ' ' || remote_address FROM rejected_callback",
                 "not JSON at byte 7 1700000000000 192.0.2.1");
}

// Eight of these rows fit exactly, and the ninth pushes out the first. The limit also holds after the store was opened
// again, which recomputes the size of the table. A row that is one byte longer pushes out two rows.
STORE_TEST(limits_rejected_callbacks)
{
    const size_t length = (size_t)(REJECTED_MAX_BYTES / 8 - REJECTED_ROW_BYTES);
    struct rejected_callback rejected = example_rejected();
    char *body = calloc(1, length + 1);

    assert_non_null(body);
    rejected.body = body;
    rejected.body_length = length;
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    assert_query(fixture, "SELECT count(*) || ' ' || min(id) FROM rejected_callback", "8 1");
    assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    assert_query(fixture, "SELECT count(*) || ' ' || min(id) FROM rejected_callback", "8 2");
    fixture_close(fixture);
    fixture_open(fixture);
    assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    assert_query(fixture, "SELECT count(*) || ' ' || min(id) FROM rejected_callback", "8 3");
    rejected.body_length++;
    assert_int_equal(fixture_reject(fixture, &rejected), COMMIT_RECORDED);
    assert_query(fixture, "SELECT count(*) || ' ' || min(id) FROM rejected_callback", "7 5");
    free(body);
}

TEST_MAIN(NULL, NULL)
