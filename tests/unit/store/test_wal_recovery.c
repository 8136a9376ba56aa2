// Tests how a start recovers a write-ahead log and an index that cannot be trusted. A process that stays connected
// across the restart keeps the index alive. tests/fault/test_power_loss.c tests that events survive if the recovery has
// to rewrite the log.
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
    return open(path_with(fixture->database, "-shm").text, O_RDWR | O_CLOEXEC);
}

// Makes the index claim, as a checkpoint does at its end, that all frames are copied into the database.
static bool claim_all_frames_copied(int fd, const unsigned char *headers)
{
    uint32_t frames;

    (void)headers;
    return pread(fd, &frames, sizeof frames, FRAMES_OFFSET) == sizeof frames &&
           pwrite(fd, &frames, sizeof frames, COPIED_FRAMES_OFFSET) == sizeof frames;
}

// This peer_handler acts like a checkpoint: "begin" takes the checkpoint lock, and "end" completes the checkpoint after
// 0.2 s, which releases the lock.
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
    peer_check(claim_all_frames_copied(fd, NULL), "the index cannot be written");
    close(fd);
}

// Opens a store, records six events and closes it. A reader that has seen the first event blocks the checkpoints, so
// that the other events are only in the log. The returned reader stays connected, so that SQLite keeps the index. Sets
// headers to the start of the index as it was after the first event.
static struct peer leave_log(struct fixture *fixture, void *headers)
{
    struct peer reader = peer_start(fixture, peer_executes_sql);
    int fd;

    fixture_open(fixture);
    fixture_record_times(fixture, 1, 1);
    peer_call(&reader, "BEGIN; SELECT count(*) FROM destroyed_group");
    fd = open_index(fixture);
    assert_int_equal(pread(fd, headers, COPIED_FRAMES_OFFSET, 0), COPIED_FRAMES_OFFSET);
    fixture_record_times(fixture, 2, 6);
    fixture_close(fixture);
    close(fd); // last, because close() drops SQLite's locks on the index
    peer_call(&reader, "ROLLBACK");
    return reader;
}

static void assert_nothing_lost(struct fixture *fixture, const struct peer *reader)
{
    fixture_record_times(fixture, 7, 8);
    fixture_close(fixture);
    peer_stop(reader);
    assert_query(fixture, "PRAGMA integrity_check", "ok");
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "8");
}

// The index can lack frames if it was deleted and other processes have created a new one.
static bool forget_frames(int fd, const unsigned char *headers)
{
    return pwrite(fd, headers, COPIED_FRAMES_OFFSET, 0) == COPIED_FRAMES_OFFSET;
}

static bool zero_headers(int fd, const unsigned char *headers)
{
    static const unsigned char zeros[COPIED_FRAMES_OFFSET];

    (void)headers;
    return pwrite(fd, zeros, sizeof zeros, 0) == sizeof zeros;
}

// If is_locked, another process holds the write lock during the start, which must not prevent the start.
static void recover_with_index(struct fixture *fixture, bool (*change)(int fd, const unsigned char *headers),
                               bool is_locked)
{
    unsigned char headers[COPIED_FRAMES_OFFSET];
    struct peer reader = leave_log(fixture, headers);
    int fd = open_index(fixture);

    assert_true(change(fd, headers));
    close(fd);
    if (is_locked)
        peer_call(&reader, "BEGIN IMMEDIATE");
    fixture_open(fixture);
    if (is_locked)
        peer_call(&reader, "ROLLBACK");
    assert_nothing_lost(fixture, &reader);
}

FIXTURE_TEST(ignores_the_count_of_copied_frames)
{
    recover_with_index(fixture, claim_all_frames_copied, false);
}

FIXTURE_TEST(ignores_the_count_of_copied_frames_under_a_write_lock)
{
    recover_with_index(fixture, claim_all_frames_copied, true);
}

FIXTURE_TEST(finds_frames_that_the_index_lacks)
{
    recover_with_index(fixture, forget_frames, false);
}

FIXTURE_TEST(accepts_an_index_of_zeros)
{
    recover_with_index(fixture, zero_headers, false);
}

FIXTURE_TEST(waits_for_a_running_checkpoint)
{
    unsigned char headers[COPIED_FRAMES_OFFSET];
    struct peer other = peer_start(fixture, simulate_checkpoint), reader = leave_log(fixture, headers);

    peer_call(&other, "begin");
    peer_send(&other, "end");
    fixture_open(fixture);
    peer_await(&other);
    peer_stop(&other);
    assert_nothing_lost(fixture, &reader);
}

// Another version of SQLite could lay out the index differently, and zeros at the known offsets could destroy it.
FIXTURE_TEST(refuses_an_index_of_an_unknown_version)
{
    static const uint32_t unknown[] = {1, 3006999, 3007001, UINT32_MAX};
    unsigned char headers[COPIED_FRAMES_OFFSET], before[COPIED_FRAMES_OFFSET], after[COPIED_FRAMES_OFFSET];
    struct peer reader = leave_log(fixture, headers);

    for (size_t i = 0; i < 2 * COUNT(unknown); i++) {
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

STORE_TEST(refuses_an_index_that_is_not_a_regular_file)
{
    const struct path index = path_with(fixture->database, "-shm");
    const struct path target = path_with(fixture->directory, "/target");

    fixture_record_times(fixture, 1, 1);
    fixture_close(fixture);
    assert_int_equal(rename(index.text, target.text), 0);
    assert_int_equal(remove(path_with(fixture->database, "-wal").text),
                     0); // nothing is lost: the last checkpoint has emptied the log
    for (int kind = 0; kind < 3; kind++) {
        struct error error = {""};
        int made = kind == 0   ? mkfifo(index.text, 0600)
                   : kind == 1 ? mkdir(index.text, 0700)
                               : symlink(target.text, index.text);

        assert_int_equal(made, 0);
        assert_true(fixture_try_open(fixture, &error) < 0);
        if (!strstr(error.text, "-shm"))
            fail_msg("%s", error.text);
        assert_int_equal(remove(index.text), 0);
    }
    fixture_open(fixture);
    assert_query(fixture, "SELECT count(*) FROM destroyed_group", "1");
}

FIXTURE_TEST(rewriting_accepts_a_missing_file)
{
    struct error error = {""};

    assert_int_equal(wal_recovery_rewrite_file(fixture->database, &error), 0);
}

FIXTURE_TEST(rewriting_reports_failures_with_the_path)
{
    static const struct {
        const char *path;
        int code;
    } rows[] = {{"/tmp", -EISDIR}, {"/dev/full", -ENOSPC}, {"/proc/self/mem", -EIO}};

    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error error = {""};

        assert_int_equal(wal_recovery_rewrite_file(rows[i].path, &error), rows[i].code);
        assert_non_null(strstr(error.text, rows[i].path));
    }
}

TEST_MAIN(NULL, NULL)
