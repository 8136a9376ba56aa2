// Tests that the note on what was shipped applies only to the database that it names, and that an incomplete note is
// never used.
#include <errno.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "imcallbackd/store/shipped.h"
#include "store_fixture.h"

static char note[160];
static struct error error;

static int setup(void **state)
{
    int r = fixture_setup(state);
    struct fixture *fixture = *state;

    (void)snprintf(note, sizeof note, "%s/shipped", fixture->directory);
    write_text(fixture->database, "a database");
    return r;
}

FIXTURE_TEST_WITH(reads_what_was_written, setup, fixture_teardown)
{
    static const struct shipped rows[] = {{0, 0}, {1, 2}, {INT64_MAX, INT64_MAX}, {3, 0}};
    struct shipped read;

    assert_int_equal(shipped_read(note, fixture->database, &read, &error), -ENOENT);
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(shipped_write(note, fixture->database, &rows[i], &error), 0);
        assert_int_equal(shipped_read(note, fixture->database, &read, &error), 0);
        assert_true(read.group_id == rows[i].group_id && read.rejection_id == rows[i].rejection_id);
    }
}

FIXTURE_TEST_WITH(rejects_the_note_about_another_database, setup, fixture_teardown)
{
    const struct shipped shipped = {5, 6};
    struct shipped read;
    char other[160];

    (void)snprintf(other, sizeof other, "%s/other.db", fixture->directory);
    assert_int_equal(shipped_write(note, fixture->database, &shipped, &error), 0);
    write_text(other, "another one");
    assert_int_equal(shipped_read(note, other, &read, &error), -ESTALE);
    assert_int_equal(rename(other, fixture->database), 0);
    assert_int_equal(shipped_read(note, fixture->database, &read, &error), -ESTALE);
    assert_int_equal(unlink(fixture->database), 0);
    assert_int_equal(shipped_read(note, fixture->database, &read, &error), -ENOENT);
}

FIXTURE_TEST_WITH(rejects_a_damaged_note, setup, fixture_teardown)
{
    const struct shipped shipped = {123456, 789};
    struct shipped read;
    size_t length;
    char *text;

    assert_int_equal(shipped_write(note, fixture->database, &shipped, &error), 0);
    text = read_file(note, &length);
    text[length] = 'x';
    for (size_t cut = 0; cut <= length + 1; cut++) {
        write_file(note, text, cut);
        if (cut != length && shipped_read(note, fixture->database, &read, &error) != -ESTALE)
            fail_msg("accepts %zu bytes instead of %zu", cut, length);
    }
    free(text);
}

// Writes a note about the database that ends with this text.
static void write_note(const struct fixture *fixture, const char *end)
{
    const struct shipped shipped = {1, 1};
    char text[256];
    size_t length;
    char *valid;

    assert_int_equal(shipped_write(note, fixture->database, &shipped, &error), 0);
    valid = read_file(note, &length);
    (void)snprintf(text, sizeof text, "%.*sgroups %s\n", (int)(strstr(valid, "groups") - valid), valid, end);
    write_text(note, text);
    free(valid);
}

FIXTURE_TEST_WITH(rejects_ids_out_of_range, setup, fixture_teardown)
{
    static const char *const ids[] = {"-1 rejected 0", "0 rejected -1", "-9223372036854775808 rejected 0",
                                      "9223372036854775808 rejected 0", "0 rejected 99999999999999999999"};
    struct shipped read;

    write_note(fixture, "9223372036854775807 rejected 0");
    assert_int_equal(shipped_read(note, fixture->database, &read, &error), 0);
    for (size_t i = 0; i < COUNT(ids); i++) {
        write_note(fixture, ids[i]);
        assert_int_equal(shipped_read(note, fixture->database, &read, &error), -ESTALE);
    }
}

// The note belongs to the user of another service, who must not be able to block the threads of the daemon.
FIXTURE_TEST_WITH(rejects_a_fifo_without_waiting, setup, fixture_teardown)
{
    struct shipped read;

    assert_int_equal(mkfifo(note, 0600), 0);
    (void)alarm(20);
    assert_int_equal(shipped_read(note, fixture->database, &read, &error), -EINVAL);
    (void)alarm(0);
}

FIXTURE_TEST_WITH(reports_why_the_note_cannot_be_written, setup, fixture_teardown)
{
    const struct shipped shipped = {1, 1};
    char new_note[sizeof note + 4];

    assert_int_equal(shipped_write("/nowhere/shipped", fixture->database, &shipped, &error), -ENOENT);
    assert_non_null(strstr(error.text, "/nowhere/shipped"));
    assert_int_equal(shipped_write(note, "/nowhere/callbacks.db", &shipped, &error), -ENOENT);
    (void)snprintf(new_note, sizeof new_note, "%s.new", note);
    assert_int_equal(symlink("/dev/full", new_note), 0); // the link is not followed
    assert_int_equal(shipped_write(note, fixture->database, &shipped, &error), -ELOOP);
    assert_int_equal(unlink(new_note), 0);
    assert_int_equal(mkdir(note, 0700), 0);
    assert_int_equal(shipped_write(note, fixture->database, &shipped, &error), -EISDIR);
}

FIXTURE_TEST_WITH(partial_write_keeps_the_old_note, setup, fixture_teardown)
{
    const struct rlimit little = {10, RLIM_INFINITY}, any = {RLIM_INFINITY, RLIM_INFINITY};
    const struct shipped before = {1, 2}, after = {3, 4};
    struct shipped read;
    int r;

    assert_int_equal(shipped_write(note, fixture->database, &before, &error), 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    r = shipped_write(note, fixture->database, &after, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &any), 0);
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(shipped_read(note, fixture->database, &read, &error), 0);
    assert_int_equal(read.group_id, 1);
}

TEST_MAIN(NULL, NULL)
