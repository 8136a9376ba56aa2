// Tests when the note for retention is written, and when a note from an earlier run is ignored.
#include "imcallbackd/outbound/note.h"
#include "outbound_fixture.h"

static char note_path[160];

static struct note note_of(const struct fixture *fixture)
{
    (void)snprintf(note_path, sizeof note_path, "%s/note", fixture->directory);
    return (struct note){.path = note_path, .database = fixture->database, .key = "[test] key"};
}

static int64_t noted_id(const struct fixture *fixture)
{
    struct shipped shipped;
    struct error error;

    return shipped_read(note_path, fixture->database, &shipped, &error) < 0 ? -1 : shipped.group_id;
}

TEST_WITH(writes_only_changes, fixture_setup, fixture_teardown)
{
    struct fixture *fixture = *state;
    struct note note = note_of(fixture);
    struct store_reader *reader;

    record_events(fixture, 3);
    reader = open_reader(fixture);
    note_write(&note, reader, &(struct shipped){2, 0});
    assert_int_equal(noted_id(fixture), 2);
    assert_int_equal(unlink(note_path), 0);
    note_write(&note, reader, &(struct shipped){2, 0});
    assert_int_equal(noted_id(fixture), -1);
    note_write(&note, reader, &(struct shipped){3, 0});
    assert_int_equal(noted_id(fixture), 3);
    note_delete(&note);
    assert_int_equal(noted_id(fixture), -1);
    store_reader_close(reader);
}

TEST_WITH(trusts_no_note_that_is_ahead_of_the_database, fixture_setup, fixture_teardown)
{
    struct fixture *fixture = *state;
    struct note note = note_of(fixture);
    struct error error;

    record_events(fixture, 3);
    assert_int_equal(shipped_write(note_path, fixture->database, &(struct shipped){3, 7}, &error), 0);
    note_read(&note, 3);
    assert_int_equal(note.noted.group_id, 3);
    assert_int_equal(note.noted.rejection_id, 7);
    note_read(&note, 2);
    assert_int_equal(note.noted.group_id, 0);
    assert_int_equal(unlink(note_path), 0);
    note_read(&note, 3);
    assert_int_equal(note.noted.group_id, 0);
}

TEST_WITH(is_silent_about_a_database_that_was_moved_away, fixture_setup, fixture_teardown)
{
    struct fixture *fixture = *state;
    struct note note = note_of(fixture);
    struct store_reader *reader;

    record_events(fixture, 3);
    reader = open_reader(fixture);
    assert_int_equal(rename(fixture->database, path_with(fixture->database, ".old").text), 0);
    note_write(&note, reader, &(struct shipped){3, 0});
    assert_int_equal(access(note_path, F_OK), -1);
    store_reader_close(reader);
}

// If the note cannot be written, only retention stops; the service continues.
TEST_WITH(continues_after_it_could_not_be_written, fixture_setup, fixture_teardown)
{
    struct fixture *fixture = *state;
    struct note note = note_of(fixture);
    struct store_reader *reader;

    record_events(fixture, 3);
    reader = open_reader(fixture);
    note.path = "/nonexistent/note";
    note_write(&note, reader, &(struct shipped){1, 0});
    assert_true(note.failed);
    note.path = note_path;
    note_write(&note, reader, &(struct shipped){1, 0});
    assert_false(note.failed);
    assert_int_equal(noted_id(fixture), 1);
    store_reader_close(reader);
}

TEST_MAIN(NULL, NULL)
