// Every call to the file layer fails once, and from some point on: whatever the store makes of it, what it answered is
// in the database afterwards. With the argument `campaign` it
// is each n-th call; otherwise they get sparser the later they come.
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "directory.h"
#include "event.h"
#include "scenario.h"

#include <cmocka.h>
#include <sqlite3.h>

// The faults strike in the last life. Patience makes the store try again what failed for want of room.
static const struct row {
    const char *name, *script;
    int64_t patience_ms;
} rows[] = {
    {"first start", "a", 0},
    {"start on what is there", "a bcd;h", 0},
    {"batches", "a bcd aBe1 fgh2c ij bJ", 0},
    {"checkpoint", "z ~ a bAc 1d", 0},
    {"recovery", "a bcd efg1 y h!j aBc", 0},
    {"close after a long log", "a y bcd", 0},
    {"retention", "p qrst1 ab - c", 0},
    {"backup", "a bcd;e fg2 > h", 0},
    {"tried again", "a bcd;h", 50}, // a shortage costs its patience and a pause of the writer
};

static const struct trouble {
    const char *name;
    struct vfs_fault fault;
} troubles[] = {
    {"open: I/O error", {.call = VFS_OPEN, .code = SQLITE_IOERR, .cause = EIO}},
    {"open: no descriptor", {.call = VFS_OPEN, .code = SQLITE_CANTOPEN, .cause = EMFILE}},
    {"read", {.call = VFS_READ, .code = SQLITE_IOERR_READ, .cause = EIO}},
    {"write", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EIO}},
    {"write: half", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EIO, .partial = true}},
    {"write: no room", {.call = VFS_WRITE, .code = SQLITE_FULL, .cause = ENOSPC}},
    {"write: half, no room", {.call = VFS_WRITE, .code = SQLITE_FULL, .cause = ENOSPC, .partial = true}},
    {"write: quota", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EDQUOT, .partial = true}},
    {"write: read-only", {.call = VFS_WRITE, .code = SQLITE_IOERR_WRITE, .cause = EROFS}},
    {"sync", {.call = VFS_SYNC, .code = SQLITE_IOERR_FSYNC, .cause = EIO}},
    {"sync: no room", {.call = VFS_SYNC, .code = SQLITE_IOERR_FSYNC, .cause = ENOSPC}},
    {"sync: quota", {.call = VFS_SYNC, .code = SQLITE_IOERR_FSYNC, .cause = EDQUOT}},
    {"truncate", {.call = VFS_TRUNCATE, .code = SQLITE_IOERR_TRUNCATE, .cause = EIO}},
    {"file size", {.call = VFS_FILE_SIZE, .code = SQLITE_IOERR_FSTAT, .cause = EIO}},
    {"lock", {.call = VFS_LOCK, .code = SQLITE_IOERR_LOCK, .cause = EIO}},
    {"lock: busy", {.call = VFS_LOCK, .code = SQLITE_BUSY}},
    {"index: map", {.call = VFS_SHM_MAP, .code = SQLITE_IOERR_SHMMAP, .cause = EIO}},
    {"index: no room", {.call = VFS_SHM_MAP, .code = SQLITE_IOERR_SHMSIZE, .cause = ENOSPC}},
    {"index: no memory", {.call = VFS_SHM_MAP, .code = SQLITE_IOERR_NOMEM, .cause = ENOMEM}},
    {"index: lock", {.call = VFS_SHM_LOCK, .code = SQLITE_IOERR_SHMLOCK, .cause = EIO}},
    {"index: busy", {.call = VFS_SHM_LOCK, .code = SQLITE_BUSY}},
    {"delete", {.call = VFS_DELETE, .code = SQLITE_IOERR_DELETE, .cause = EIO}},
    {"access", {.call = VFS_ACCESS, .code = SQLITE_IOERR_ACCESS, .cause = EIO}},
    {"own write", {.call = VFS_OWN_WRITE, .cause = EIO}},
    {"own write: no room", {.call = VFS_OWN_WRITE, .cause = ENOSPC}},
    {"own sync", {.call = VFS_OWN_SYNC, .cause = EIO}},
};

static bool campaign;

struct bench {
    struct scenario *scenario, *prepared; // prepared: as it was before the last life
    char *work, *template;
    unsigned cases, complaints;
};

static void setup(struct bench *bench, const struct row *row)
{
    *bench = (struct bench){.scenario = scenario_create(), .prepared = scenario_create()};
    bench->work = directory_create();
    bench->template = directory_create();
    *bench->prepared =
        (struct scenario){.directory = bench->template, .script = row->script, .patience_ms = row->patience_ms};
    for (size_t life = 0; life + 1 < scenario_count_lives(row->script); life++) {
        if (!scenario_live(bench->prepared, life, NULL))
            fail_msg("%s: %s", row->name, bench->prepared->complaint);
    }
    bench->prepared->directory = bench->work;
}

static void teardown(struct bench *bench)
{
    directory_remove(bench->template);
    directory_remove(bench->work);
    scenario_destroy(bench->prepared);
    scenario_destroy(bench->scenario);
}

// Has the fault struck?
static bool try(struct bench *bench, const struct row *row, const struct trouble *trouble,
                const struct vfs_fault *fault)
{
    struct scenario *scenario = bench->scenario;

    *scenario = *bench->prepared;
    directory_copy(bench->template, bench->work);
    if (!scenario_live(scenario, scenario_count_lives(row->script) - 1, fault) || !scenario_verify(scenario)) {
        print_error("%s; %s, call %u%s: %s\n", row->name, trouble->name, fault->countdown,
                    fault->repeat ? " and all that follow" : "", scenario->complaint);
        bench->complaints++;
    }
    bench->cases += scenario->fired;
    return scenario->fired;
}

static void test_row(void **state)
{
    const struct row *row = *state;
    struct bench bench;

    setup(&bench, row);
    for (size_t i = 0; i < 2 * sizeof troubles / sizeof troubles[0]; i++) {
        struct vfs_fault fault = troubles[i / 2].fault;

        fault.repeat = i % 2;
        for (fault.countdown = 1; try(&bench, row, &troubles[i / 2], &fault);)
            fault.countdown += campaign ? 1 : 1 + 3 * fault.countdown / 4;
    }
    print_message("%s: %u faults struck, %u complaints\n", row->name, bench.cases, bench.complaints);
    teardown(&bench);
    assert_int_equal(bench.complaints, 0);
    assert_true(bench.cases > 100);
}

int main(int count, char **arguments)
{
    struct CMUnitTest tests[sizeof rows / sizeof rows[0]];

    campaign = count > 1 && strcmp(arguments[1], "campaign") == 0;
    event_create_all();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        tests[i] = (struct CMUnitTest){rows[i].name, test_row, NULL, NULL, (void *)&rows[i]};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
