// Tests how a start recovers a write-ahead log and an index that cannot be trusted. A process that reads over the
// restart keeps the index alive. test_power_loss.c tests that the rewritten log has the same bytes.
#include <errno.h>

#include "../../../src/store/wal_recovery.h"
#include "peer_process.h"

// Offsets in the index, from SQLite's "WAL-mode File Format".
#define HEADER_BYTES           48 // size of each of the two copies
#define FRAMES_OFFSET          16 // offset in a header
#define COPIED_FRAMES_OFFSET   96
#define CHECKPOINT_LOCK_OFFSET 121

static int open_index(const struct fixture *fixture)
{
    char path[192];

    (void)snprintf(path, sizeof path, "%s-shm", fixture->database);
    return open(path, O_RDWR | O_CLOEXEC);
}

// Makes the index claim, as a checkpoint does at its end, that all frames are copied into the database.
static bool claim_all_frames_copied(int fd)
{
    uint32_t frames;

    return pread(fd, &frames, sizeof frames, FRAMES_OFFSET) == sizeof frames &&
           pwrite(fd, &frames, sizeof frames, COPIED_FRAMES_OFFSET) == sizeof frames;
}

// A peer_handler that acts like a checkpoint: "begin" takes the lock, "end" finishes a moment later.
static void simulate_checkpoint(struct fixture *fixture, const char *message)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = CHECKPOINT_LOCK_OFFSET, .l_len = 1};
    static int fd;

    if (strcmp(message, "begin") == 0) {
        fd = open_index(fixture);
        peer_check(fcntl(fd, F_SETLK, &lock) == 0, "the lock is taken");
        return;
    }
    (void)usleep(200000);
    peer_check(claim_all_frames_copied(fd), "the index cannot be written");
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

// Opens a store, records six events and closes it. A reader that has seen the first event blocks the checkpoints, so
// that the other events are only in the log. The returned reader stays connected, and so the index stays. headers: the
// start of the index as it was after the first event.
static struct peer leave_log(struct fixture *fixture, void *headers)
{
    struct peer reader = peer_start(fixture, peer_executes_sql);
    int fd;

    fixture_open(fixture);
    record(fixture, 1);
    peer_call(&reader, "BEGIN; SELECT count(*) FROM destroyed_group");
    fd = open_index(fixture);
    assert_int_equal(pread(fd, headers, COPIED_FRAMES_OFFSET, 0), COPIED_FRAMES_OFFSET);
    record(fixture, 5);
    fixture_close(fixture);
    close(fd); // last, because close() drops the store's locks
    peer_call(&reader, "ROLLBACK");
    return reader;
}

static void assert_nothing_lost(struct fixture *fixture, const struct peer *reader)
{
    record(fixture, 2);
    fixture_close(fixture);
    peer_stop(reader);
    assert_query(fixture, "PRAGMA integrity_check", "ok");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "8");
}

FIXTURE_TEST(ignores_the_count_of_copied_frames)
{
    struct fixture *fixture = *state;
    unsigned char headers[COPIED_FRAMES_OFFSET];
    struct peer reader = leave_log(fixture, headers);
    int fd = open_index(fixture);

    assert_true(claim_all_frames_copied(fd));
    close(fd);
    fixture_open(fixture);
    assert_nothing_lost(fixture, &reader);
}

FIXTURE_TEST(waits_for_a_running_checkpoint)
{
    struct fixture *fixture = *state;
    unsigned char headers[COPIED_FRAMES_OFFSET];
    struct peer other = peer_start(fixture, simulate_checkpoint), reader = leave_log(fixture, headers);

    peer_call(&other, "begin");
    peer_send(&other, "end");
    fixture_open(fixture);
    peer_await(&other);
    peer_stop(&other);
    assert_nothing_lost(fixture, &reader);
}

FIXTURE_TEST(ignores_the_count_of_copied_frames_under_a_write_lock)
{
    struct fixture *fixture = *state;
    unsigned char headers[COPIED_FRAMES_OFFSET];
    struct peer writer = leave_log(fixture, headers);
    int fd = open_index(fixture);

    assert_true(claim_all_frames_copied(fd));
    close(fd);
    peer_call(&writer, "BEGIN IMMEDIATE");
    fixture_open(fixture); // the lock of another process does not prevent the start
    peer_call(&writer, "ROLLBACK");
    assert_nothing_lost(fixture, &writer);
}

// The index lacks frames if it was deleted and other processes have created a new one since.
FIXTURE_TEST(finds_frames_that_the_index_lacks)
{
    struct fixture *fixture = *state;
    unsigned char headers[COPIED_FRAMES_OFFSET];
    struct peer reader = leave_log(fixture, headers);
    int fd = open_index(fixture);

    assert_int_equal(pwrite(fd, headers, sizeof headers, 0), sizeof headers);
    close(fd);
    fixture_open(fixture);
    assert_nothing_lost(fixture, &reader);
}

// Another SQLite may lay out the index differently, and zeros at the known offsets would destroy it.
FIXTURE_TEST(refuses_an_index_of_an_unknown_version)
{
    static const uint32_t unknown[] = {1, 3006999, 3007001, UINT32_MAX};
    struct fixture *fixture = *state;
    unsigned char headers[COPIED_FRAMES_OFFSET], before[COPIED_FRAMES_OFFSET], after[COPIED_FRAMES_OFFSET];
    struct peer reader = leave_log(fixture, headers);

    for (size_t i = 0; i < 2 * sizeof unknown / sizeof unknown[0]; i++) {
        off_t header = i % 2 ? HEADER_BYTES : 0;
        struct error error = {""};
        char version[16];
        uint32_t known;
        int fd = open_index(fixture);

        assert_int_equal(pread(fd, &known, sizeof known, header), sizeof known);
        assert_int_equal(pwrite(fd, &unknown[i / 2], sizeof unknown[0], header), sizeof unknown[0]);
        assert_int_equal(pread(fd, before, sizeof before, 0), sizeof before);
        assert_int_equal(fixture_try_open(fixture, &error), -ENOTSUP);
        (void)snprintf(version, sizeof version, "%u", unknown[i / 2]);
        if (!strstr(error.text, "-shm") || !strstr(error.text, version) || !strstr(error.text, "delete this file"))
            fail_msg("%s", error.text);
        assert_int_equal(pread(fd, after, sizeof after, 0), sizeof after);
        assert_memory_equal(after, before, sizeof before);
        assert_int_equal(pwrite(fd, &known, sizeof known, header), sizeof known);
        close(fd);
    }
    fixture_open(fixture);
    assert_nothing_lost(fixture, &reader);
}

FIXTURE_TEST(accepts_an_index_of_zeros)
{
    static const unsigned char zeros[COPIED_FRAMES_OFFSET];
    struct fixture *fixture = *state;
    unsigned char headers[COPIED_FRAMES_OFFSET];
    struct peer reader = leave_log(fixture, headers);
    int fd = open_index(fixture);

    assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
    fixture_open(fixture);
    assert_nothing_lost(fixture, &reader);
}

FIXTURE_TEST(refuses_an_index_that_is_not_a_regular_file)
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
    assert_int_equal(remove(log), 0); // with a log, the check of the database opens the index first
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

FIXTURE_TEST(rewriting_accepts_a_missing_file)
{
    const struct fixture *fixture = *state;
    struct error error = {""};

    assert_int_equal(wal_recovery_rewrite_file(fixture->database, &error), 0);
}

FIXTURE_TEST(rewriting_reports_failures_with_the_path)
{
    static const struct {
        const char *path;
        int code;
    } rows[] = {{"/tmp", -EISDIR}, {"/dev/full", -ENOSPC}, {"/proc/self/mem", -EIO}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct error error = {""};

        assert_int_equal(wal_recovery_rewrite_file(rows[i].path, &error), rows[i].code);
        assert_non_null(strstr(error.text, rows[i].path));
    }
}

TEST_MAIN(NULL, NULL)
