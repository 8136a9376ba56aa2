// Makes the calls of SQLite and of the store to the file layer fail, each once alone and once together with all later
// calls. Afterwards, the store's answers must agree with the database. With the argument `campaign`, the test covers
// every call; otherwise, it samples later calls more sparsely. The test prints its seed. In the environment, SHARE=n
// runs about an n-th of the pairs of script and fault, chosen at random, and SEED=n repeats a run.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "directory.h"
#include "scenario.h"
#include "script_events.h"

#include <cmocka.h>
#include <sqlite3.h>

// The last run of each script is the one with the faults; the runs before it prepare the database. If retry_ms is not
// 0, the store retries a commit for this long after a shortage.
static const struct row {
    const char *name, *script;
    int64_t retry_ms;
} rows[] = {
    {"first start", "a", 0},
    {"start with an existing database", "a bcd;h", 0},
    {"batches", "a bcd aBe1 fgh2c ij bJ", 0},
    {"checkpoint", "z ~ a bAc 1d", 0},
    {"recovery", "a bcd efg1 y h!j aBc", 0},
    {"close after a long log", "a y bcd", 0},
    {"retention", "p qrst1 ab - c", 0},
    {"backup", "a bcd;e fg2 > h", 0},
    {"retry", "a bcd;h", 50}, // a short script, because each shortage takes retry_ms and a pause of the writer thread
};

static const struct fault_row {
    const char *name;
    struct vfs_fault fault;
} fault_rows[] = {
    {"open: I/O error", {.call = VFS_OPEN, .code = SQLITE_IOERR, .cause = EIO}},
    {"open: out of descriptors", {.call = VFS_OPEN, .code = SQLITE_CANTOPEN, .cause = EMFILE}},
    {"read", {.call = VFS_READ, .code = SQLITE_IOERR_READ, .cause = EIO}},
    {"write", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EIO}},
    {"write: half", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EIO, .partial = true}},
    {"write: disk full", {.call = VFS_WRITE, .code = SQLITE_FULL, .cause = ENOSPC}},
    {"write: half, disk full", {.call = VFS_WRITE, .code = SQLITE_FULL, .cause = ENOSPC, .partial = true}},
    {"write: quota", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EDQUOT, .partial = true}},
    {"write: read-only", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EROFS}},
    {"sync", {.call = VFS_SYNC, .code = SQLITE_IOERR_FSYNC, .cause = EIO}},
    {"sync: disk full", {.call = VFS_SYNC, .code = SQLITE_IOERR_FSYNC, .cause = ENOSPC}},
    {"sync: quota", {.call = VFS_SYNC, .code = SQLITE_IOERR_FSYNC, .cause = EDQUOT}},
    {"truncate", {.call = VFS_TRUNCATE, .code = SQLITE_IOERR_TRUNCATE, .cause = EIO}},
    {"file size", {.call = VFS_FILE_SIZE, .code = SQLITE_IOERR_FSTAT, .cause = EIO}},
    {"lock", {.call = VFS_LOCK, .code = SQLITE_IOERR_LOCK, .cause = EIO}},
    {"lock: busy", {.call = VFS_LOCK, .code = SQLITE_BUSY}},
    {"index: map", {.call = VFS_SHM_MAP, .code = SQLITE_IOERR_SHMMAP, .cause = EIO}},
    {"index: disk full", {.call = VFS_SHM_MAP, .code = SQLITE_IOERR_SHMSIZE, .cause = ENOSPC}},
    {"index: out of memory", {.call = VFS_SHM_MAP, .code = SQLITE_IOERR_NOMEM, .cause = ENOMEM}},
    {"index: lock", {.call = VFS_SHM_LOCK, .code = SQLITE_IOERR_SHMLOCK, .cause = EIO}},
    {"index: busy", {.call = VFS_SHM_LOCK, .code = SQLITE_BUSY}},
    {"delete", {.call = VFS_DELETE, .code = SQLITE_IOERR_DELETE, .cause = EIO}},
    {"access", {.call = VFS_ACCESS, .code = SQLITE_IOERR_ACCESS, .cause = EIO}},
    {"own write", {.call = VFS_OWN_WRITE, .cause = EIO}},
    {"own write: disk full", {.call = VFS_OWN_WRITE, .cause = ENOSPC}},
    {"own sync", {.call = VFS_OWN_SYNC, .cause = EIO}},
};

static bool campaign;
static unsigned share;
static uint64_t seed;

struct trial {
    struct scenario *scenario, *prepared; // prepared: state before the last run
    char *work, *template;                // directories; template: contents before the last run
    unsigned cases, problems;
};

static void setup(struct trial *trial, const struct row *row)
{
    *trial = (struct trial){.scenario = scenario_create(), .prepared = scenario_create()};
    trial->work = directory_create();
    trial->template = directory_create();
    *trial->prepared =
        (struct scenario){.directory = trial->template, .script = row->script, .retry_ms = row->retry_ms};
    for (size_t run = 0; run + 1 < scenario_count_runs(row->script); run++) {
        if (!scenario_run(trial->prepared, run, NULL))
            fail_msg("%s: %s", row->name, trial->prepared->problem);
    }
    trial->prepared->directory = trial->work;
}

static void teardown(struct trial *trial)
{
    directory_remove(trial->template);
    directory_remove(trial->work);
    scenario_destroy(trial->prepared);
    scenario_destroy(trial->scenario);
}

// Executes the last run with the fault and verifies the database. Returns true if the fault has occurred.
static bool run_with_fault(struct trial *trial, const struct row *row, const struct fault_row *fault_row,
                           const struct vfs_fault *fault)
{
    struct scenario *scenario = trial->scenario;

    *scenario = *trial->prepared;
    directory_copy(trial->template, trial->work);
    if (!scenario_run(scenario, scenario_count_runs(row->script) - 1, fault) || !scenario_verify(scenario)) {
        print_error("%s; %s, call %u%s: %s\n", row->name, fault_row->name, fault->countdown,
                    fault->repeat ? " and all later ones" : "", scenario->problem);
        trial->problems++;
    }
    trial->cases += scenario->fired;
    return scenario->fired;
}

static void test_row(void **state)
{
    const struct row *row = *state;
    struct trial trial;

    setup(&trial, row);
    for (size_t i = 0; i < 2 * sizeof fault_rows / sizeof fault_rows[0]; i++) {
        struct vfs_fault fault = fault_rows[i / 2].fault;

        if (random_below(&seed, share) > 0)
            continue;
        fault.repeat = i % 2;
        for (fault.countdown = 1; run_with_fault(&trial, row, &fault_rows[i / 2], &fault);)
            fault.countdown += campaign ? 1 : 1 + 3 * fault.countdown / 4;
    }
    print_message("%s: %u faults struck, %u problems\n", row->name, trial.cases, trial.problems);
    teardown(&trial);
    assert_int_equal(trial.problems, 0);
    assert_true(trial.cases > (share == 1 ? 100 : 0));
}

int main(int count, char **arguments)
{
    struct CMUnitTest tests[sizeof rows / sizeof rows[0]];

    share = (unsigned)number_from_environment("SHARE", 1);
    seed = number_from_environment("SEED", (uint64_t)time(NULL));
    print_message("SEED=%ju\n", (uintmax_t)seed);
    campaign = count > 1 && strcmp(arguments[1], "campaign") == 0;
    event_create_all();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        tests[i] = (struct CMUnitTest){rows[i].name, test_row, NULL, NULL, (void *)&rows[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
