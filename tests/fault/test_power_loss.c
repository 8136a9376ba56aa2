// Simulates power failures at random moments: every event that was acknowledged before the failure must be in the
// database, no matter which unsynced writes reached the disk. The test prints its seed. In the environment, SEED=n
// repeats a run and IMAGES=n sets the number of images. The argument `campaign` raises the default of 1100 images to
// 100000.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "directory.h"
#include "reader_process.h"
#include "scenario.h"
#include "script_events.h"

#include <cmocka.h>
#include <sqlite3.h>

#define RUNS_MAX 3
// Half of the cuts are drawn from so many last entries, because the end of a script is its critical part.
#define LAST_ENTRIES 32

static const struct vfs_fault log_sync = {
    .call = VFS_SYNC, .file = SQLITE_OPEN_WAL, .countdown = 1, .code = SQLITE_IOERR_FSYNC, .cause = EIO};
static const struct vfs_fault log_write_half = {.call = VFS_WRITE,
                                                .file = SQLITE_OPEN_WAL,
                                                .countdown = 1,
                                                .code = SQLITE_IOERR_WRITE,
                                                .cause = EIO,
                                                .partial = true};
static const struct vfs_fault database_full = {.call = VFS_WRITE,
                                               .file = SQLITE_OPEN_MAIN_DB,
                                               .countdown = 1,
                                               .repeat = true,
                                               .code = SQLITE_FULL,
                                               .cause = ENOSPC};
static const struct vfs_fault database_sync = {
    .call = VFS_SYNC, .file = SQLITE_OPEN_MAIN_DB, .countdown = 1, .code = SQLITE_IOERR_FSYNC, .cause = EIO};
static const struct vfs_fault database_sync_at_work = { // the first three syncs occur while the store opens
    .call = VFS_SYNC,
    .file = SQLITE_OPEN_MAIN_DB,
    .countdown = 4,
    .code = SQLITE_IOERR_FSYNC,
    .cause = EIO};
static const struct vfs_fault own_full = {.call = VFS_OWN_WRITE, .countdown = 1, .repeat = true, .cause = ENOSPC};

// Each row is recorded up_to times. The n-th recording multiplies the countdown of the fault in the first run by n.
static const struct row {
    const char *name, *script;
    const struct vfs_fault *faults[RUNS_MAX]; // one for each run
    unsigned up_to;
} rows[] = {
    {"first start", "a bc", {NULL}, 1},
    {"batches", "a bcd aBe1 fgh2c ij k l m bJ", {NULL}, 1},
    {"checkpoints", "a z ~ b cde aC f x ~ g hBi;j k", {NULL}, 1},
    {"killed", "a bcd e1 y!fa bg h!ab cdefgh i", {NULL}, 1},
    {"the log cannot be synced", "a bcd ef!abcdef g aH", {&log_sync}, 6},
    {"the log cannot be written", "a bcd ef!abcdef g aH", {&log_write_half}, 6},
    {"the database cannot be synced", "a bcd ef;abcdef g aH", {&database_sync}, 2},
    {"the log cannot be synced, then the disk is full", "a bcd ef!abcdef g aH", {&log_sync, &database_full}, 6},
    {"a checkpoint is partly done and never synced", "a b c d y f g h l ( z ~ ) x ~;m", {&database_sync_at_work}, 1},
    {"a checkpoint is partly done and never synced, with a reader",
     "a b c d y f g h l ( z ~ ) x ~ (;m ) n;k",
     {&database_sync_at_work},
     1},
    {"the log cannot be synced, nor rewritten at the next start", "a bcd ef!abcdef g aH", {&log_sync, &own_full}, 6},
};

static uint64_t seed;
static size_t images_per_row;

// Executes all runs of the row and records them in the journal.
static void record(struct scenario *scenario, const struct row *row, unsigned countdown)
{
    journal_clear(scenario->journal);
    directory_empty(scenario->directory);
    scenario->reader_fd = strchr(row->script, '(') ? reader_process_start(scenario_database(scenario)) : -1;
    for (size_t run = 0; run < scenario_count_runs(row->script); run++) {
        struct vfs_fault fault = row->faults[run] ? *row->faults[run] : (struct vfs_fault){0};

        if (run == 0)
            fault.countdown *= countdown;
        if (!scenario_run(scenario, run, &fault))
            fail_msg("%s, fault %u: %s", row->name, countdown, scenario->problem);
    }
    if (scenario->reader_fd >= 0)
        reader_process_stop(scenario->reader_fd);
    assert_true(journal_agrees(scenario->journal, scenario->directory));
}

static bool survives(const struct scenario *recorded, struct scenario *after, size_t cut, uint64_t image_seed)
{
    *after = (struct scenario){.directory = after->directory, .script = recorded->script};
    memcpy(after->submitted, recorded->submitted, sizeof after->submitted);
    for (size_t i = 0; i < cut; i++) {
        if (journal_mark_at(recorded->journal, i) >= 0)
            scenario_count_mark(after, journal_mark_at(recorded->journal, i));
    }
    directory_empty(after->directory);
    journal_build(recorded->journal, cut, &image_seed, after->directory);
    return scenario_verify(after);
}

static void test_row(void **state)
{
    const struct row *row = *state;
    struct scenario *recorded = scenario_create(), *after = scenario_create();
    char *work = directory_create(), *image = directory_create();
    size_t images = 0, problems = 0, length = 0;

    recorded->journal = journal_create();
    recorded->script = row->script;
    recorded->directory = work;
    after->directory = image;
    for (unsigned countdown = 1; countdown <= row->up_to; countdown++) {
        record(recorded, row, countdown);
        length = journal_length(recorded->journal);
        for (size_t i = 0; i < images_per_row / row->up_to; i++) {
            uint64_t image_seed = seed + images++, random = image_seed;
            size_t cut = length - random_below(&random, i % 2 == 0 && length > LAST_ENTRIES ? LAST_ENTRIES : length);

            if (survives(recorded, after, cut, image_seed))
                continue;
            print_error("%s, fault %u, cut after %zu of %zu, image seed %ju: %s\n", row->name, countdown, cut, length,
                        (uintmax_t)image_seed, after->problem);
            problems++;
        }
    }
    print_message("%s: %zu images of %zu entries, %zu problems\n", row->name, images, length, problems);
    directory_remove(image);
    directory_remove(work);
    journal_destroy(recorded->journal);
    scenario_destroy(after);
    scenario_destroy(recorded);
    assert_int_equal(problems, 0);
}

int main(int count, char **arguments)
{
    bool campaign = count > 1 && strcmp(arguments[1], "campaign") == 0;
    const size_t row_count = sizeof rows / sizeof rows[0];
    struct CMUnitTest tests[sizeof rows / sizeof rows[0]];

    event_create_all();
    seed = number_from_environment("SEED", (uint64_t)time(NULL) * 1000000);
    images_per_row = number_from_environment("IMAGES", campaign ? 100000 : 1100) / row_count;
    print_message("SEED=%ju\n", (uintmax_t)seed);
    for (size_t i = 0; i < row_count; i++)
        tests[i] = (struct CMUnitTest){rows[i].name, test_row, NULL, NULL, (void *)&rows[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
