// Makes the calls of SQLite to the file layer fail while the state of a delivery is opened and changed, each call once
// alone and once together with all later calls. Afterwards, the state on disk is the one after the last successful
// change, or after the change that failed: a failed COMMIT may have reached the disk. In both cases, no event is
// skipped.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "directory.h"
#include "imcallbackd/store/delivery_state.h"
#include "vfs.h"

#include <cmocka.h>
#include <sqlite3.h>

#define ROUNDS  6
#define TAKEN   40 // events that each round takes over; the next round accepts all but one of them
#define RETRIES 3

static const struct fault_row {
    const char *name;
    struct vfs_fault fault;
} fault_rows[] = {
    {"open", {.call = VFS_OPEN, .code = SQLITE_CANTOPEN, .cause = EMFILE}},
    {"read", {.call = VFS_READ, .code = SQLITE_IOERR_READ, .cause = EIO}},
    {"write", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EIO, .partial = true}},
    {"write: disk full", {.call = VFS_WRITE, .code = SQLITE_FULL, .cause = ENOSPC, .partial = true}},
    {"write: quota", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EDQUOT}},
    {"sync", {.call = VFS_SYNC, .code = SQLITE_IOERR_FSYNC, .cause = EIO}},
    {"truncate", {.call = VFS_TRUNCATE, .code = SQLITE_IOERR_TRUNCATE, .cause = EIO}},
    {"file size", {.call = VFS_FILE_SIZE, .code = SQLITE_IOERR_FSTAT, .cause = EIO}},
    {"lock: busy", {.call = VFS_LOCK, .code = SQLITE_BUSY}},
    {"index: map", {.call = VFS_SHM_MAP, .code = SQLITE_IOERR_SHMMAP, .cause = EIO}},
    {"index: busy", {.call = VFS_SHM_LOCK, .code = SQLITE_BUSY}},
    {"delete", {.call = VFS_DELETE, .code = SQLITE_IOERR_DELETE, .cause = EIO}},
    {"access", {.call = VFS_ACCESS, .code = SQLITE_IOERR_ACCESS, .cause = EIO}},
};

static char path[256];

// Round N takes over TAKEN events and accepts all events of round N - 1 except the first. Round 4 also sets event 1
// aside.
static int apply_round(struct delivery_state *state, int64_t round, struct error *error)
{
    const struct cursor position = {round * TAKEN, round};
    struct delivery_change changes[2 * TAKEN];
    size_t count = 0;

    for (int64_t id = (round - 1) * TAKEN + 1; id <= round * TAKEN; id++)
        changes[count++] = (struct delivery_change){DELIVERY_WAITS, {.id = id, .group_key = id, .received_at_ms = 1}};
    for (int64_t id = (round - 2) * TAKEN + 2; round > 1 && id <= (round - 1) * TAKEN; id++)
        changes[count++] = (struct delivery_change){DELIVERY_ACCEPTED, {.id = id}};
    if (round == 4)
        changes[count++] = (struct delivery_change){DELIVERY_SET_ASIDE, {.id = 1, .tries = 9}};
    return delivery_state_apply(state, changes, count, &position, 1, error);
}

static int64_t expected_waiting(int64_t round)
{
    return round == 0 ? 0 : TAKEN + round - 1 - (round >= 4);
}

// Returns the last round that succeeded. Sets *ret_failed to true if the next round was tried and failed.
static int64_t run(bool *ret_failed)
{
    struct delivery_state *state = NULL;
    struct error error;
    int64_t round = 0;
    int r = delivery_state_open(path, NULL, &state, &error);

    *ret_failed = false;
    while (r == 0 && round < ROUNDS) {
        for (size_t i = 0; i < RETRIES; i++) {
            r = apply_round(state, round + 1, &error);
            if (r != -EAGAIN)
                break;
            assert_int_equal(delivery_state_position(state).id, round * TAKEN);
        }
        *ret_failed = r < 0;
        round += r == 0;
    }
    if (r < 0)
        assert_true(*error.text != '\0');
    delivery_state_close(state);
    return round;
}

static void verify(int64_t round, bool failed, const struct fault_row *row, unsigned int call)
{
    struct delivery_state *state = NULL;
    struct buffer events = {0};
    struct error error;
    int64_t found, set_aside = 0;

    if (delivery_state_open(path, NULL, &state, &error) < 0)
        fail_msg("%s, call %u: %s", row->name, call, error.text);
    found = delivery_state_position(state).id / TAKEN;
    if (found != round && !(failed && found == round + 1))
        fail_msg("%s, call %u: round %d on disk after round %d", row->name, call, (int)found, (int)round);
    assert_int_equal(delivery_state_read_waiting(state, &events, &error), 0);
    assert_int_equal(events.length / sizeof(struct waiting_event), expected_waiting(found));
    assert_int_equal(delivery_state_count_set_aside(state, &set_aside, &error), 0);
    assert_int_equal(set_aside, found >= 4);
    buffer_finish(&events);
    delivery_state_close(state);
}

// Runs all rounds in a new directory, and then verifies the state on disk. Returns true if the fault has occurred.
static bool run_with_fault(const struct fault_row *row, unsigned int countdown, bool repeat)
{
    struct vfs_fault fault = row->fault;
    char *directory = directory_create();
    int64_t round;
    bool failed, fired;

    (void)snprintf(path, sizeof path, "%s/state", directory);
    fault.countdown = countdown;
    fault.repeat = repeat;
    vfs_set_fault(&fault);
    round = run(&failed);
    fired = vfs_fault_fired();
    vfs_set_fault(NULL);
    if (!fired)
        assert_int_equal(round, ROUNDS);
    verify(round, failed, row, countdown);
    directory_remove(directory);
    return fired;
}

static void keeps_a_consistent_state_whatever_call_fails(void **state)
{
    unsigned int cases = 0;

    (void)state;
    vfs_install(NULL);
    for (size_t i = 0; i < sizeof fault_rows / sizeof fault_rows[0]; i++) {
        for (unsigned int countdown = 1; run_with_fault(&fault_rows[i], countdown, false); countdown++) {
            cases++;
            (void)run_with_fault(&fault_rows[i], countdown, true);
        }
    }
    assert_true(cases > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(keeps_a_consistent_state_whatever_call_fails)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
