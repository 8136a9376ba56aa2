// The index of the write-ahead log over two lives of the store, kept by a process that outlives the first.
#include "peer_process.h"

// In SQLite's "WAL-mode File Format".
#define FRAMES          16 // in the first of two headers
#define WRITTEN_BACK    96
#define CHECKPOINT_LOCK 121

static const char look[] = "BEGIN; SELECT count(*) FROM destroyed_group";

static int open_index(const struct fixture *fixture)
{
    char path[192];

    (void)snprintf(path, sizeof path, "%s-shm", fixture->database);
    return open(path, O_RDWR | O_CLOEXEC);
}

// Has it that all of the log was written back, as a checkpoint does at its end.
static bool say_all_is_back(int fd)
{
    uint32_t frames;

    return pread(fd, &frames, sizeof frames, FRAMES) == sizeof frames &&
           pwrite(fd, &frames, sizeof frames, WRITTEN_BACK) == sizeof frames;
}

// As a checkpoint that is under way: at first it has its lock, and a moment later it ends.
static void check_point(struct fixture *fixture, const char *message)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = CHECKPOINT_LOCK, .l_len = 1};
    static int fd;

    if (strcmp(message, "begin") == 0) {
        fd = open_index(fixture);
        peer_check(fcntl(fd, F_SETLK, &lock) == 0, "the lock is not free");
        return;
    }
    (void)usleep(200000);
    peer_check(say_all_is_back(fd), "the index cannot be written");
    close(fd);
}

static void record(struct fixture *fixture, int count)
{
    for (int i = 0; i < count; i++) {
        struct destroyed_group group = example_group();

        group.event_time_ms = RECEIVED_MS + (int64_t)fixture_done_count(fixture);
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
    }
}

// The reader's look at the first event holds the log, so that what comes after it stays there alone. The reader stays,
// and so does the index. headers: the beginning of it as it was with the first event.
static struct peer end_first_life(struct fixture *fixture, void *headers)
{
    struct peer reader = peer_start(fixture, peer_executes_sql);
    int fd;

    fixture_open(fixture);
    record(fixture, 1);
    peer_call(&reader, look);
    fd = open_index(fixture);
    assert_int_equal(pread(fd, headers, WRITTEN_BACK, 0), WRITTEN_BACK);
    record(fixture, 5);
    fixture_close(fixture);
    close(fd); // only now, as that drops the store's locks
    peer_call(&reader, "ROLLBACK");
    return reader;
}

static void assert_all_is_there(struct fixture *fixture, const struct peer *reader)
{
    record(fixture, 2);
    fixture_close(fixture);
    peer_stop(reader);
    assert_query(fixture, "PRAGMA integrity_check", "ok");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "8");
}

static void what_it_says_was_written_back_is_not_believed(void **state)
{
    struct fixture *fixture = *state;
    unsigned char headers[WRITTEN_BACK];
    struct peer reader = end_first_life(fixture, headers);
    int fd = open_index(fixture);

    assert_true(say_all_is_back(fd));
    close(fd);
    fixture_open(fixture);
    assert_all_is_there(fixture, &reader);
}

static void a_checkpoint_that_is_under_way_is_waited_for(void **state)
{
    struct fixture *fixture = *state;
    unsigned char headers[WRITTEN_BACK];
    struct peer other = peer_start(fixture, check_point), reader = end_first_life(fixture, headers);

    peer_call(&other, "begin");
    peer_send(&other, "end");
    fixture_open(fixture);
    peer_await(&other);
    peer_stop(&other);
    assert_all_is_there(fixture, &reader);
}

// Whoever writes for long keeps nobody from starting.
static void it_is_not_believed_while_somebody_writes(void **state)
{
    struct fixture *fixture = *state;
    unsigned char headers[WRITTEN_BACK];
    struct peer writer = end_first_life(fixture, headers);
    int fd = open_index(fixture);

    assert_true(say_all_is_back(fd));
    close(fd);
    peer_call(&writer, "BEGIN IMMEDIATE");
    fixture_open(fixture);
    peer_call(&writer, "ROLLBACK");
    assert_all_is_there(fixture, &writer);
}

// As it is left when the index was deleted, and others made one of their own meanwhile.
static void an_index_that_lags_behind_its_log_is_not_believed(void **state)
{
    struct fixture *fixture = *state;
    unsigned char headers[WRITTEN_BACK];
    struct peer reader = end_first_life(fixture, headers);
    int fd = open_index(fixture);

    assert_int_equal(pwrite(fd, headers, sizeof headers, 0), sizeof headers);
    close(fd);
    fixture_open(fixture);
    assert_all_is_there(fixture, &reader);
}

static void what_is_no_index_is_refused(void **state)
{
    struct fixture *fixture = *state;
    char path[192], log[192], target[192];

    (void)snprintf(path, sizeof path, "%s-shm", fixture->database);
    (void)snprintf(log, sizeof log, "%s-wal", fixture->database);
    (void)snprintf(target, sizeof target, "%s/target", fixture->directory);
    fixture_open(fixture);
    record(fixture, 1);
    fixture_close(fixture);
    assert_int_equal(rename(path, target), 0);
    assert_int_equal(remove(log), 0); // with it SQLite is there first
    for (int kind = 0; kind < 3; kind++) {
        struct error error = {""};
        int made = kind == 0 ? mkfifo(path, 0600) : kind == 1 ? mkdir(path, 0700) : symlink(target, path);

        assert_int_equal(made, 0);
        assert_true(fixture_try_open(fixture, &error) < 0);
        if (!strstr(error.text, "-shm"))
            fail_msg("%s", error.text);
        assert_int_equal(remove(path), 0);
    }
    fixture_open(fixture);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_it_says_was_written_back_is_not_believed, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(a_checkpoint_that_is_under_way_is_waited_for, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(it_is_not_believed_while_somebody_writes, fixture_setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(an_index_that_lags_behind_its_log_is_not_believed, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test_setup_teardown(what_is_no_index_is_refused, fixture_setup, fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
