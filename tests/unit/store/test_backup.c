// The copy beside the store that records: of one instant, whole or not there at all.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "imcallbackd/store/backup.h"
#include "store_fixture.h"

#define BODY_BYTES 4000000

struct copying {
    struct fixture *fixture;
    char target[128];
    bool (*during)(struct copying *copying);
    size_t calls;      // since the first page was copied
    size_t last_calls; // those after the last page was copied
};

static bool go_on(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct copying *copying = context;

    assert_true(done_bytes <= total_bytes && total_bytes > 0);
    copying->calls += done_bytes > 0;
    copying->last_calls += done_bytes == total_bytes;
    return !copying->during || copying->during(copying);
}

// A store of some MiB, so that copying takes several steps.
static struct copying begin(struct fixture *fixture, bool (*during)(struct copying *copying))
{
    struct destroyed_group group = example_group();
    struct copying copying = {.fixture = fixture, .during = during};
    char *body = malloc(BODY_BYTES);

    assert_non_null(body);
    memset(body, 'x', BODY_BYTES);
    group.body = body;
    group.body_length = BODY_BYTES;
    group.keep_body = true;
    (void)snprintf(copying.target, sizeof copying.target, "%s/copy.db", fixture->directory);
    fixture_open(fixture);
    for (group.event_time_ms = 1; group.event_time_ms <= 3; group.event_time_ms++)
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    free(body);
    return copying;
}

static int make(struct copying *copying, struct error *error)
{
    struct backup_callbacks callbacks = {go_on, copying};

    return backup_make(copying->fixture->database, copying->target, &callbacks, error);
}

static void assert_copy(const struct copying *copying, const char *sql, const char *expected)
{
    struct fixture copy = {0};

    (void)snprintf(copy.database, sizeof copy.database, "%s", copying->target);
    assert_query(&copy, sql, expected);
}

// How many files there are that have the target's name in theirs.
static size_t targets(const struct copying *copying)
{
    DIR *directory = opendir(copying->fixture->directory);
    const struct dirent *entry;
    size_t count = 0;

    assert_non_null(directory);
    while ((entry = readdir(directory)))
        count += strncmp(entry->d_name, "copy.db", 7) == 0;
    closedir(directory);
    return count;
}

static void name_partial(const struct copying *copying, char partial[static 256])
{
    (void)snprintf(partial, 256, "%s.partial-%d", copying->target, (int)getpid());
}

static bool record_one(struct copying *copying)
{
    struct destroyed_group group = example_group();

    group.event_time_ms = 1000 + (int64_t)copying->calls;
    assert_int_equal(fixture_record(copying->fixture, &group), COMMIT_RECORDED);
    return copying->calls < 100; // it does not begin anew with each commit
}

static void a_copy_is_of_one_instant_while_the_store_records(void **state)
{
    struct copying copying = begin(*state, record_one);
    struct error error = {""};
    mode_t before = umask(022);
    struct stat status;

    if (make(&copying, &error) < 0)
        fail_msg("%s", error.text);
    umask(before);
    assert_true(copying.calls > 2);
    assert_int_equal(targets(&copying), 1);
    assert_int_equal(stat(copying.target, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_copy(&copying, "PRAGMA integrity_check", "ok");
    assert_copy(&copying, "PRAGMA journal_mode", "delete");
    assert_copy(&copying, "PRAGMA user_version", "1");
    assert_copy(&copying, "SELECT group_concat(id) FROM destroyed_group", "1,2,3");
    assert_copy(&copying, "SELECT count(*) FROM destroyed_group_member", "9");
    assert_query(*state, "SELECT count(*) > 5 FROM destroyed_group", "1");
}

static void a_copy_takes_the_databases_place(void **state)
{
    struct fixture *fixture = *state;
    struct copying copying = begin(fixture, NULL);
    struct destroyed_group group = example_group();
    struct error error = {""};

    assert_int_equal(make(&copying, &error), 0);
    fixture_close(fixture);
    (void)snprintf(fixture->database, sizeof fixture->database, "%s", copying.target);
    fixture_open(fixture);
    assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    assert_query(fixture, "SELECT group_concat(id) FROM destroyed_group", "1,2,3,4");
    assert_query(fixture, "PRAGMA journal_mode", "wal");
}

static void the_umask_counts(void **state)
{
    struct copying copying = begin(*state, NULL);
    mode_t before = umask(077);
    struct error error = {""};
    struct stat status;

    assert_int_equal(make(&copying, &error), 0);
    umask(before);
    assert_int_equal(stat(copying.target, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

static bool give_up_in_the_middle(struct copying *copying)
{
    assert_int_equal(targets(copying), copying->calls > 0); // the partial one
    return copying->calls < 2;
}

static void what_was_given_up_leaves_nothing(void **state)
{
    struct copying copying = begin(*state, give_up_in_the_middle);
    struct error error = {""};

    assert_int_equal(make(&copying, &error), -ECANCELED);
    assert_int_equal(copying.calls, 2);
    assert_int_equal(targets(&copying), 0);
}

static bool give_up_counting(struct copying *copying)
{
    assert_int_equal(targets(copying), 0);
    return false;
}

static void counting_can_be_given_up(void **state)
{
    struct copying copying = begin(*state, give_up_counting);
    struct error error = {""};

    assert_int_equal(make(&copying, &error), -ECANCELED);
    assert_int_equal(copying.calls, 0);
    assert_int_equal(targets(&copying), 0);
}

static bool give_up_checking(struct copying *copying)
{
    return copying->last_calls < 2; // the first is that of the last page
}

static void checking_can_be_given_up(void **state)
{
    struct copying copying = begin(*state, give_up_checking);
    struct error error = {""};

    assert_int_equal(make(&copying, &error), -ECANCELED);
    assert_int_equal(copying.last_calls, 2);
    assert_int_equal(targets(&copying), 0);
}

// Once the last page is copied, something that nobody can read takes the copy's place.
static bool put_directory_in_place(struct copying *copying)
{
    char partial[256];

    if (copying->last_calls == 1) {
        name_partial(copying, partial);
        assert_int_equal(unlink(partial), 0);
        assert_int_equal(mkdir(partial, 0700), 0);
        copying->during = NULL;
    }
    return true;
}

static void what_cannot_be_read_back_is_no_copy(void **state)
{
    struct copying copying = begin(*state, put_directory_in_place);
    struct error error = {""};
    char partial[256];

    assert_true(make(&copying, &error) < 0);
    assert_non_null(strstr(error.text, copying.target));
    name_partial(&copying, partial);
    assert_int_equal(rmdir(partial), 0);
    assert_int_equal(targets(&copying), 0);
}

static void write_target(const struct copying *copying)
{
    int fd = open(copying->target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "mine", 4), 4);
    close(fd);
}

static bool write_target_in_the_middle(struct copying *copying)
{
    if (copying->calls == 1)
        write_target(copying);
    return true;
}

// There from the start, or made by somebody else meanwhile.
static void nothing_is_overwritten(void **state)
{
    struct copying copying = begin(*state, write_target_in_the_middle);
    struct error error = {""};
    struct stat status;

    assert_int_equal(make(&copying, &error), -EEXIST);
    copying.calls = 2;
    assert_int_equal(make(&copying, &error), -EEXIST);
    assert_non_null(strstr(error.text, "already"));
    assert_int_equal(copying.calls, 2);
    assert_int_equal(targets(&copying), 1);
    assert_int_equal(stat(copying.target, &status), 0);
    assert_int_equal(status.st_size, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_is_of_one_instant_while_the_store_records, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(a_copy_takes_the_databases_place, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(the_umask_counts, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_was_given_up_leaves_nothing, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(counting_can_be_given_up, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(checking_can_be_given_up, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_back_is_no_copy, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(nothing_is_overwritten, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
