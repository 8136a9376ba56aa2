// Tests which cursors match a database.
#include "imcallbackd/outbound/cursor.h"
#include "outbound_fixture.h"

TEST_WITH(recognizes_ids_that_were_given_again, fixture_setup, fixture_teardown)
{
    static const struct {
        struct cursor cursor;
        bool matches;
    } rows[] = {
        {{0, 0}, true},
        {{0, 5}, true}, // no row was taken, so the cursor matches any database
        {{2, RECEIVED_MS + 2}, true},
        {{3, RECEIVED_MS + 3}, true},
        {{2, RECEIVED_MS + 3}, false}, // another row has the id
        {{4, RECEIVED_MS + 4}, false}, // the database has never assigned the id
        {{-1, 0}, false},
    };
    struct fixture *fixture = *state;
    struct store_reader *reader;
    struct error error;

    record_events(fixture, 3);
    reader = open_reader(fixture);
    for (size_t i = 0; i < COUNT(rows); i++) {
        bool matches = !rows[i].matches;

        assert_int_equal(cursor_check(reader, STREAM_GROUPS, &rows[i].cursor, &matches, &error), 0);
        assert_int_equal(matches, rows[i].matches);
    }
    store_reader_close(reader);
}

TEST_WITH(accepts_a_cursor_whose_row_was_deleted, fixture_setup, fixture_teardown)
{
    struct fixture *fixture = *state;
    struct store_reader *reader;
    struct error error;
    bool matches = false;
    sqlite3 *writer;

    record_events(fixture, 3);
    assert_int_equal(sqlite3_open(fixture->database, &writer), SQLITE_OK);
    assert_int_equal(sqlite3_exec(writer, "DELETE FROM destroyed_group WHERE id = 2", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(writer);
    reader = open_reader(fixture);
    assert_int_equal(cursor_check(reader, STREAM_GROUPS, &(struct cursor){2, 1}, &matches, &error), 0);
    assert_true(matches);
    store_reader_close(reader);
}

TEST_MAIN(NULL, NULL)
