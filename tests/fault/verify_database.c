// The script and the counted answers decide which rows the database must or may contain. Of two events with the same
// identity, the row itself shows which one the store kept.
#include "verify_database.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "script_events.h"

#include <sqlite3.h>

struct verification {
    struct scenario *scenario;
    sqlite3 *connection;
    int64_t groups, members, rejected; // number of rows that were found and are correct
};

// The store's answers to the submissions of one event.
struct tally {
    int64_t submitted, recorded, conflicts; // recorded: as new or as a repeat
};

static struct tally tally_of(const struct scenario *scenario, char letter)
{
    struct tally tally = {0};

    for (size_t i = 0; scenario->script[i]; i++) {
        if (scenario->script[i] != letter)
            continue;
        tally.submitted += scenario->submitted[i];
        tally.recorded += scenario->answers[i][COMMIT_RECORDED] + scenario->answers[i][COMMIT_REPEATED];
        tally.conflicts += scenario->answers[i][COMMIT_CONFLICT];
    }
    return tally;
}

static sqlite3_stmt *prepare(const struct verification *verification, const char *sql)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(verification->connection, sql, -1, &statement, NULL) != SQLITE_OK)
        (void)scenario_report(verification->scenario, "%s: %s", sql, sqlite3_errmsg(verification->connection));
    return statement;
}

static bool finalize(const struct verification *verification, sqlite3_stmt *statement)
{
    if (sqlite3_finalize(statement) == SQLITE_OK)
        return true;
    return scenario_report(verification->scenario, "%s", sqlite3_errmsg(verification->connection));
}

// Checks that the first column of the first row is the expected text.
static bool expect(const struct verification *verification, const char *sql, const char *expected)
{
    sqlite3_stmt *statement = prepare(verification, sql);
    const char *found;

    (void)sqlite3_step(statement);
    found = (const char *)sqlite3_column_text(statement, 0);
    if (!found || strcmp(found, expected) != 0)
        (void)scenario_report(verification->scenario, "%s: %s instead of %s", sql, found ? found : "nothing", expected);
    return finalize(verification, statement) && !verification->scenario->problem[0];
}

static bool expect_count(const struct verification *verification, const char *sql, int64_t count)
{
    char expected[32];

    sqlite3_snprintf(sizeof expected, expected, "%lld", (long long)count);
    return expect(verification, sql, expected);
}

static bool same_text(sqlite3_stmt *row, int column, const char *expected)
{
    const char *text = (const char *)sqlite3_column_text(row, column);

    return text && strcmp(text, expected) == 0;
}

static bool same_body(sqlite3_stmt *row, int column, const struct destroyed_group *group)
{
    if (!group->keep_body)
        return sqlite3_column_type(row, column) == SQLITE_NULL;
    return (size_t)sqlite3_column_bytes(row, column) == group->body_length &&
           memcmp(sqlite3_column_blob(row, column), group->body, group->body_length) == 0;
}

static const char group_sql[] =
    "SELECT id, sdk_appid, event_time_ms, type, owner_account, operator_account, name, member_count, opt_platform,"
    " client_ip, remote_address, received_at_ms, body FROM destroyed_group WHERE group_id = ?1";

static bool same_group(sqlite3_stmt *row, const struct destroyed_group *group)
{
    return sqlite3_column_int64(row, 1) == group->sdk_appid &&
           (sqlite3_column_type(row, 2) != SQLITE_NULL) == group->has_event_time &&
           sqlite3_column_int64(row, 2) == group->event_time_ms && same_text(row, 3, group->type) &&
           same_text(row, 4, group->owner_account) && same_text(row, 5, group->operator_account) &&
           same_text(row, 6, group->name) && (sqlite3_column_type(row, 7) != SQLITE_NULL) == group->has_member_list &&
           (size_t)sqlite3_column_int64(row, 7) == group->member_count && same_text(row, 8, group->opt_platform) &&
           same_text(row, 9, group->client_ip) && same_text(row, 10, group->remote_address) &&
           sqlite3_column_int64(row, 11) == group->received_at_ms && same_body(row, 12, group);
}

static bool verify_members(struct verification *verification, int64_t id, const struct destroyed_group *group)
{
    sqlite3_stmt *row = prepare(verification, "SELECT position, member_account FROM destroyed_group_member"
                                              " WHERE destroyed_group_id = ?1 ORDER BY position");
    size_t count = 0;
    bool same = true;

    (void)sqlite3_bind_int64(row, 1, id);
    while (sqlite3_step(row) == SQLITE_ROW) {
        same = same && count < group->member_count && (size_t)sqlite3_column_int64(row, 0) == count &&
               same_text(row, 1, group->members[count]);
        count++;
    }
    if (!same || count != group->member_count)
        (void)scenario_report(verification->scenario, "%s has %zu members, of which some are wrong or missing",
                              group->group_id, count);
    verification->members += (int64_t)count;
    return finalize(verification, row) && !verification->scenario->problem[0];
}

// Checks that the row is complete, that it is one of the two events with its identity, and that no answer contradicts
// it.
static bool verify_group(struct verification *verification, char letter, sqlite3_stmt *row)
{
    struct scenario *scenario = verification->scenario;
    char found = letter, other = (char)toupper((unsigned char)letter);

    if (!same_group(row, event_group(letter))) {
        found = other;
        other = letter;
    }
    if (!same_group(row, event_group(found)))
        return scenario_report(scenario, "%c is recorded with other values than submitted", letter);
    if (tally_of(scenario, found).submitted == 0)
        return scenario_report(scenario, "%c is recorded but was never submitted", found);
    if (tally_of(scenario, other).recorded > 0 || tally_of(scenario, found).conflicts > 0)
        return scenario_report(scenario, "%c is recorded although %c was acknowledged", found, other);
    verification->groups++;
    return verify_members(verification, sqlite3_column_int64(row, 0), event_group(found));
}

static bool verify_event(struct verification *verification, char letter)
{
    struct scenario *scenario = verification->scenario;
    struct tally small = tally_of(scenario, letter);
    struct tally capital = tally_of(scenario, (char)toupper((unsigned char)letter));
    sqlite3_stmt *row = prepare(verification, group_sql);
    int64_t rows = 0;
    bool right = true;

    (void)sqlite3_bind_text(row, 1, event_group(letter)->group_id, -1, SQLITE_STATIC);
    while (right && sqlite3_step(row) == SQLITE_ROW) {
        right = verify_group(verification, letter, row);
        rows++;
    }
    if (right && rows > 1)
        right = scenario_report(scenario, "%c is recorded %lld times", letter, (long long)rows);
    if (right && rows == 0 && event_is_old(letter) && strchr(scenario->script, '-'))
        return finalize(verification, row); // the retention may have deleted the row
    if (right && rows == 0 && small.recorded + small.conflicts + capital.recorded + capital.conflicts > 0)
        right = scenario_report(scenario, "%c is lost", letter);
    return finalize(verification, row) && right;
}

// Checks that rejected_callback contains this body at least `at_least` times, and at most as often as it was submitted.
static bool verify_rejected(struct verification *verification, char letter, const char *body, size_t length,
                            int64_t at_least)
{
    sqlite3_stmt *row = prepare(verification, "SELECT count(*) FROM rejected_callback WHERE body = ?1");
    int64_t count;
    bool right = true;

    (void)sqlite3_bind_blob64(row, 1, body, length, SQLITE_STATIC);
    (void)sqlite3_step(row);
    count = sqlite3_column_int64(row, 0);
    verification->rejected += count;
    if (count < at_least || count > tally_of(verification->scenario, letter).submitted)
        right = scenario_report(verification->scenario, "%c is in rejected_callback %lld times instead of %lld", letter,
                                (long long)count, (long long)at_least);
    return finalize(verification, row) && right;
}

static bool verify_events(struct verification *verification)
{
    const struct scenario *scenario = verification->scenario;
    bool right = true;

    for (char letter = 'a'; letter <= 'z' && right; letter++) {
        char capital = (char)toupper((unsigned char)letter);
        const struct destroyed_group *small_group = event_group(letter), *capital_group = event_group(capital);

        if (strchr(scenario->script, letter) || strchr(scenario->script, capital))
            right = verify_event(verification, letter) &&
                    verify_rejected(verification, letter, small_group->body, small_group->body_length,
                                    tally_of(scenario, letter).conflicts) &&
                    verify_rejected(verification, capital, capital_group->body, capital_group->body_length,
                                    tally_of(scenario, capital).conflicts);
    }
    for (char digit = '0'; digit <= '9' && right; digit++) {
        if (strchr(scenario->script, digit))
            right = verify_rejected(verification, digit, event_rejected(digit)->body,
                                    event_rejected(digit)->body_length, tally_of(scenario, digit).recorded);
    }
    return right;
}

bool verify_database(struct scenario *scenario)
{
    struct verification verification = {.scenario = scenario};
    bool right;

    right = sqlite3_open_v2(scenario_database(scenario), &verification.connection, SQLITE_OPEN_READWRITE, NULL) ==
            SQLITE_OK;
    if (!right)
        (void)scenario_report(scenario, "the database cannot be opened");
    (void)sqlite3_db_config(verification.connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    right = right && expect(&verification, "PRAGMA integrity_check", "ok") && verify_events(&verification) &&
            expect_count(&verification, "SELECT count(*) FROM destroyed_group", verification.groups) &&
            expect_count(&verification, "SELECT count(*) FROM destroyed_group_member", verification.members) &&
            expect_count(&verification, "SELECT count(*) FROM rejected_callback", verification.rejected);
    sqlite3_close(verification.connection);
    return right;
}
