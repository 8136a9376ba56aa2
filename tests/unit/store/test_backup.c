// Tests a backup of a store that records: the copy shows one instant, and is complete or absent.
#include <dirent.h>
#include <errno.h>

#include "imcallbackd/store/backup.h"
#include "store_fixture.h"

#define BODY_BYTES 4000000

struct copying {
    struct fixture *fixture;
    char target[128];
    void (*during)(struct copying *copying);
    size_t reports;      // reports with done_bytes > 0, in all calls of make()
    size_t last_reports; // reports with done_bytes == total_bytes, in all calls of make()
    struct error error;  // of the last call of make()
};

static void on_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct copying *copying = context;

    assert_true(done_bytes <= total_bytes && total_bytes > 0);
    copying->reports += done_bytes > 0;
    copying->last_reports += done_bytes == total_bytes;
    if (copying->during)
        copying->during(copying);
}

// Opens the store and fills it with 12 MB, so that the copy takes several steps.
static struct copying prepare(struct fixture *fixture, void (*during)(struct copying *copying))
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

static int make(struct copying *copying)
{
    struct backup_progress progress = {on_progress, copying};

    return backup_make(copying->fixture->database, copying->target, &progress, &copying->error);
}

static void assert_copy(const struct copying *copying, const char *sql, const char *expected)
{
    struct fixture copy = {0};

    (void)snprintf(copy.database, sizeof copy.database, "%s", copying->target);
    assert_query(&copy, sql, expected);
}

// Counts the files whose name starts with the name of the target.
static size_t count_targets(const struct copying *copying)
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

static struct stat target_status(const struct copying *copying)
{
    struct stat status;

    assert_int_equal(stat(copying->target, &status), 0);
    return status;
}

static void name_partial(const struct copying *copying, char partial[static 256])
{
    (void)snprintf(partial, 256, "%s.partial-%d", copying->target, (int)getpid());
}

static void record_one(struct copying *copying)
{
    struct destroyed_group group = example_group();

    group.event_time_ms = 1000 + (int64_t)copying->reports;
    assert_int_equal(fixture_record(copying->fixture, &group), COMMIT_RECORDED);
    assert_true(copying->reports < 100); // if a commit restarted the copy, the reports would not end
}

FIXTURE_TEST(copies_one_instant_while_the_store_records)
{
    struct copying copying = prepare(fixture, record_one);
    mode_t before = umask(022);

    if (make(&copying) < 0)
        fail_msg("%s", copying.error.text);
    umask(before);
    assert_true(copying.reports > 2);
    assert_int_equal(count_targets(&copying), 1);
    assert_int_equal(target_status(&copying).st_mode & 07777, 0640);
    assert_copy(&copying, "PRAGMA integrity_check", "ok");
    assert_copy(&copying, "PRAGMA journal_mode", "delete");
    assert_copy(&copying, "PRAGMA user_version", "1");
    assert_copy(&copying, "SELECT group_concat(id) FROM destroyed_group", "1,2,3");
    assert_copy(&copying, "SELECT count(*) FROM destroyed_group_member", "9");
    assert_query(fixture, "SELECT count(*) > 5 FROM destroyed_group", "1");
}

FIXTURE_TEST(store_opens_and_continues_a_copy)
{
    struct copying copying = prepare(fixture, NULL);
    struct destroyed_group group = example_group();

    assert_int_equal(make(&copying), 0);
    fixture_close(fixture);
    (void)snprintf(fixture->database, sizeof fixture->database, "%s", copying.target);
    fixture_open(fixture);
    assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    assert_query(fixture, "SELECT group_concat(id) FROM destroyed_group", "1,2,3,4");
    assert_query(fixture, "PRAGMA journal_mode", "wal");
}

FIXTURE_TEST(applies_the_umask)
{
    struct copying copying = prepare(fixture, NULL);
    mode_t before = umask(077);

    assert_int_equal(make(&copying), 0);
    umask(before);
    assert_int_equal(target_status(&copying).st_mode & 07777, 0600);
}

static void cancel_at_once(struct copying *copying)
{
    assert_int_equal(count_targets(copying), 0);
    backup_cancel();
}

static void cancel_in_the_middle(struct copying *copying)
{
    assert_int_equal(count_targets(copying), copying->reports > 0); // the partial copy
    if (copying->reports == 2)
        backup_cancel();
}

static void cancel_during_check(struct copying *copying)
{
    if (copying->last_reports == 2) // the first report is for the last page, the second for the check
        backup_cancel();
}

FIXTURE_TEST(cancelled_backup_leaves_no_file)
{
    struct copying copying = prepare(fixture, cancel_at_once);

    assert_int_equal(make(&copying), -ECANCELED);
    assert_int_equal(copying.reports, 0);
    assert_int_equal(count_targets(&copying), 0);
    copying.during = cancel_in_the_middle;
    assert_int_equal(make(&copying), -ECANCELED);
    assert_int_equal(copying.reports, 2);
    assert_int_equal(count_targets(&copying), 0);
    copying.during = cancel_during_check;
    assert_int_equal(make(&copying), -ECANCELED);
    assert_int_equal(copying.last_reports, 2);
    assert_int_equal(count_targets(&copying), 0);
}

FIXTURE_TEST(cancelling_affects_one_backup)
{
    struct copying copying = prepare(fixture, NULL);

    backup_cancel();
    assert_int_equal(make(&copying), -ECANCELED);
    assert_int_equal(copying.reports, 0);
    assert_int_equal(make(&copying), 0);
}

FIXTURE_TEST(reports_progress_of_the_check)
{
    struct copying copying = prepare(fixture, NULL);

    free(fixture_query(fixture, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000) "
                                "INSERT INTO destroyed_group_member SELECT 1000, i, 'tom' FROM n RETURNING 1"));
    assert_int_equal(make(&copying), 0);
    assert_true(copying.last_reports > 3);
}

// After the last page was copied, replaces the copy with a directory, which SQLite cannot open.
static void put_directory_in_place(struct copying *copying)
{
    char partial[256];

    if (copying->last_reports == 1) {
        name_partial(copying, partial);
        assert_int_equal(unlink(partial), 0);
        assert_int_equal(mkdir(partial, 0700), 0);
        copying->during = NULL;
    }
}

FIXTURE_TEST(copy_that_cannot_be_read_back_fails)
{
    struct copying copying = prepare(fixture, put_directory_in_place);
    char partial[256];

    assert_true(make(&copying) < 0);
    assert_non_null(strstr(copying.error.text, copying.target));
    name_partial(&copying, partial);
    assert_int_equal(rmdir(partial), 0);
    assert_int_equal(count_targets(&copying), 0);
}

static void write_target(struct copying *copying)
{
    if (copying->reports == 1)
        write_text(copying->target, "mine");
}

// Another process may create the target during the backup, or the target may exist from the start.
FIXTURE_TEST(overwrites_nothing)
{
    struct copying copying = prepare(fixture, write_target);

    assert_int_equal(make(&copying), -EEXIST);
    copying.reports = 2;
    assert_int_equal(make(&copying), -EEXIST);
    assert_non_null(strstr(copying.error.text, "already"));
    assert_int_equal(copying.reports, 2);
    assert_int_equal(count_targets(&copying), 1);
    assert_int_equal(target_status(&copying).st_size, 4);
}

TEST_MAIN(NULL, NULL)
