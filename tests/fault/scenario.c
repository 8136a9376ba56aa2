// Each run is a child process; only struct scenario and the journal are shared with the parent.
#include "scenario.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/store/backup.h"
#include "imcallbackd/store/store.h"
#include "reader_process.h"
#include "script_events.h"
#include "verify_database.h"

#include <sqlite3.h>

#define RUN_TIMEOUT_S   120
#define WAIT_TIMEOUT_MS 5000

// One run of the store. The main thread submits the first batch and each batch after an action. on_done() submits all
// other batches from the writer thread, which takes no commits in the meantime, so that a batch is not split.
struct run {
    struct scenario *scenario;
    struct store *store;
    struct commit commits[SCRIPT_MAX]; // indexed by the place in the script
    pthread_mutex_t mutex;             // guards the fields below
    pthread_cond_t changed;
    size_t place;         // place of the next character in the script
    size_t pending;       // number of commits that are not done
    unsigned checkpoints; // vfs_checkpoints() when the last batch was submitted
    bool broken;
};

struct scenario *scenario_create(void)
{
    struct scenario *scenario = mmap(NULL, sizeof *scenario, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert(scenario != MAP_FAILED);
    log_configure(LOG_LEVEL_CRIT, LOG_FORMAT_TEXT); // the tests provoke what the store logs as errors
    return scenario;
}

void scenario_destroy(struct scenario *scenario)
{
    if (scenario)
        (void)munmap(scenario, sizeof *scenario);
}

bool scenario_report(struct scenario *scenario, const char *format, ...)
{
    va_list arguments;

    if (scenario->problem[0])
        return false;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 does not see the va_start behind a branch
    (void)vsnprintf(scenario->problem, sizeof scenario->problem, format, arguments);
    va_end(arguments);
    return false;
}

const char *scenario_database(const struct scenario *scenario)
{
    static char path[256];

    (void)snprintf(path, sizeof path, "%s/callbacks.db", scenario->directory);
    return path;
}

uint64_t number_from_environment(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 10) : fallback;
}

size_t scenario_count_runs(const char *script)
{
    size_t count = 1;

    for (const char *end = script; (end = strpbrk(end, ";!")); end++)
        count++;
    return count;
}

void scenario_count_mark(struct scenario *scenario, int mark)
{
    scenario->answers[mark / ANSWER_COUNT][mark % ANSWER_COUNT]++;
}

// Submits the letters and digits up to the next other character as one batch. The caller holds the mutex.
static void submit_batch(struct run *run)
{
    const char *script = run->scenario->script;
    size_t first = run->place, end = first;

    while (isalnum((unsigned char)script[end])) {
        run->commits[end] = (struct commit){0};
        if (isdigit((unsigned char)script[end]))
            run->commits[end].rejected = event_rejected(script[end]);
        else
            run->commits[end].group = event_group(script[end]);
        run->commits[end].give_up_at_ms = clock_monotonic_ms() + run->scenario->retry_ms;
        end++;
    }
    run->place = end;
    run->pending = end - first;
    run->checkpoints = vfs_checkpoints();
    for (size_t i = first; i < end; i++) {
        run->scenario->submitted[i]++;
        store_submit(run->store, &run->commits[i]);
    }
}

static void finish_commit(struct run *run, const struct commit *commit)
{
    size_t place = (size_t)(commit - run->commits);

    if (run->broken && commit->result != COMMIT_FAILED)
        (void)scenario_report(run->scenario, "a broken store acknowledges place %zu", place);
    scenario_count_mark(run->scenario, (int)place * ANSWER_COUNT + (int)commit->result);
    if (commit->result != COMMIT_FAILED)
        journal_mark(run->scenario->journal, (int)place * ANSWER_COUNT + (int)commit->result);
    run->pending--;
}

static void on_done(void *context, struct commit *finished)
{
    struct run *run = context;

    pthread_mutex_lock(&run->mutex);
    for (struct commit *next; finished; finished = next) {
        next = finished->next;
        finish_commit(run, finished);
    }
    while (run->pending == 0 && run->scenario->script[run->place] == ' ')
        run->place++;
    if (run->pending == 0 && isalnum((unsigned char)run->scenario->script[run->place]))
        submit_batch(run);
    pthread_cond_signal(&run->changed);
    pthread_mutex_unlock(&run->mutex);
}

static void on_broken(void *context, const struct error *error)
{
    struct run *run = context;

    (void)error;
    pthread_mutex_lock(&run->mutex);
    if (run->broken)
        (void)scenario_report(run->scenario, "the store calls broken() twice");
    run->broken = true;
    pthread_mutex_unlock(&run->mutex);
}

static void await_checkpoint(const struct run *run)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_TIMEOUT_MS;

    // If the event of the previous batch was not recorded, no checkpoint is due.
    if (run->scenario->answers[run->place - 2][COMMIT_RECORDED] == 0)
        return;
    while (vfs_checkpoints() == run->checkpoints && clock_monotonic_ms() < deadline_ms)
        (void)nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

// Returns the number that the SQL selects, or -1 on failure. Bypasses the shim, so that no fault affects the query.
static int64_t query_number(const char *path, const char *sql)
{
    sqlite3 *connection;
    sqlite3_stmt *statement = NULL;
    int64_t number = -1;

    if (sqlite3_open_v2(path, &connection, SQLITE_OPEN_READONLY, "unix") == SQLITE_OK &&
        sqlite3_prepare_v2(connection, sql, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
        number = sqlite3_column_int64(statement, 0);
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(connection);
    return number;
}

static void delete_old(const struct run *run)
{
    int64_t deadline_ms = clock_monotonic_ms() + WAIT_TIMEOUT_MS;
    char sql[128];

    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM destroyed_group WHERE received_at_ms < %lld",
                   (long long)event_old_before_ms);
    store_set_retention(run->store, EVENT_KEEP_MS);
    while (!vfs_fault_fired() && query_number(scenario_database(run->scenario), sql) != 0 &&
           clock_monotonic_ms() < deadline_ms)
        (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); // a query blocks the checkpoint for a moment
}

// Makes a backup and checks that it is complete or, if it failed, that it left no target.
static void make_backup(const struct run *run)
{
    static const char count_sql[] = "SELECT count(*) FROM destroyed_group_member";
    struct scenario *scenario = run->scenario;
    char target[sizeof "/copy.db" + 256];
    struct error error;

    (void)snprintf(target, sizeof target, "%s/copy.db", scenario->directory);
    if (backup_make(scenario_database(scenario), target, NULL, &error) < 0) {
        if (access(target, F_OK) == 0)
            (void)scenario_report(scenario, "a backup failed and left its target");
    } else if (query_number(target, count_sql) != query_number(scenario_database(scenario), count_sql) ||
               query_number(target, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") != 1) {
        (void)scenario_report(scenario, "the backup differs from the database");
    }
    (void)unlink(target);
}

static void do_action(const struct run *run, char sign)
{
    struct scenario *scenario = run->scenario;

    if (sign == '~')
        await_checkpoint(run);
    else if (sign == '-')
        delete_old(run);
    else if (sign == '>')
        make_backup(run);
    else if (!reader_process_send(scenario->reader_fd, sign))
        (void)scenario_report(scenario, "the reader process cannot %s its transaction", sign == '(' ? "start" : "end");
}

// Submits batches and performs actions up to the character that ends the run.
static void submit_batches(struct run *run)
{
    const struct scenario *scenario = run->scenario;

    pthread_mutex_lock(&run->mutex);
    while (scenario->script[run->place] && !strchr(";!", scenario->script[run->place])) {
        if (strchr("~->()", scenario->script[run->place])) {
            pthread_mutex_unlock(&run->mutex);
            do_action(run, scenario->script[run->place]);
            pthread_mutex_lock(&run->mutex);
            run->place++;
        } else if (scenario->script[run->place] == ' ') {
            run->place++;
        } else {
            submit_batch(run);
        }
        while (run->pending > 0)
            pthread_cond_wait(&run->changed, &run->mutex);
    }
    pthread_mutex_unlock(&run->mutex);
}

static int open_store(struct run *run, struct error *error)
{
    struct store_callbacks callbacks = {on_done, on_broken, run};

    pthread_mutex_init(&run->mutex, NULL);
    pthread_cond_init(&run->changed, NULL);
    return store_open(scenario_database(run->scenario), &callbacks, &run->store, error);
}

struct task {
    struct scenario *scenario;
    size_t run;
    const struct vfs_fault *fault;
};

// After an I/O error while the recovery rewrites the log, any part of the log may be lost, so the store must not open.
static bool must_not_open(const struct vfs_fault *fault)
{
    return fault && (fault->call == VFS_OWN_WRITE || fault->call == VFS_OWN_SYNC) && fault->cause == EIO &&
           vfs_fault_fired();
}

static void run_script(const struct task *task)
{
    struct scenario *scenario = task->scenario;
    struct run run = {.scenario = scenario};
    struct error error;

    for (size_t skip = task->run; skip > 0; run.place++)
        skip -= strchr(";!", scenario->script[run.place]) != NULL;
    vfs_install(scenario->journal);
    vfs_set_fault(task->fault);
    if (open_store(&run, &error) == 0) {
        if (must_not_open(task->fault))
            (void)scenario_report(scenario, "the store opens on a failed disk");
        submit_batches(&run);
        if (scenario->script[run.place] == '!') {
            scenario->fired = vfs_fault_fired();
            _exit(0);
        }
        store_close(run.store);
        if (task->fault && task->fault->call == VFS_SYNC && vfs_fault_fired() && !run.broken)
            (void)scenario_report(scenario, "a sync failed, and the store is not broken");
    }
    scenario->fired = vfs_fault_fired();
}

// Submits each event in a separate batch, so that no event can make another one fail.
static bool submit_again(struct run *run)
{
    struct scenario *scenario = run->scenario;

    for (size_t i = 0; scenario->script[i]; i++) {
        unsigned failed = scenario->answers[i][COMMIT_FAILED];

        if (!isalpha((unsigned char)scenario->script[i]))
            continue;
        pthread_mutex_lock(&run->mutex);
        run->commits[i] = (struct commit){.group = event_group(scenario->script[i])};
        scenario->submitted[i]++;
        run->pending = 1;
        run->place = strlen(scenario->script); // on_done() submits no further batch
        store_submit(run->store, &run->commits[i]);
        while (run->pending > 0)
            pthread_cond_wait(&run->changed, &run->mutex);
        pthread_mutex_unlock(&run->mutex);
        if (scenario->answers[i][COMMIT_FAILED] > failed)
            return scenario_report(scenario, "%c cannot be recorded afterwards", scenario->script[i]);
    }
    return true;
}

static void verify(const struct task *task)
{
    struct scenario *scenario = task->scenario;
    struct run run = {.scenario = scenario};
    struct error error;

    if (open_store(&run, &error) < 0) {
        (void)scenario_report(scenario, "the store cannot be opened afterwards: %s", error.text);
        return;
    }
    if (verify_database(scenario) && submit_again(&run))
        (void)verify_database(scenario);
    store_close(run.store);
}

// Runs the body in a child process. Returns false if the child crashes, hangs, fails or reports a problem.
static bool run_in_child(void (*body)(const struct task *), const struct task *task)
{
    struct scenario *scenario = task->scenario;
    pid_t child;
    int status;

    (void)fflush(NULL);
    child = fork();
    assert(child >= 0);
    if (child == 0) {
        (void)alarm(RUN_TIMEOUT_S);
        body(task);
        exit(0);
    }
    while (waitpid(child, &status, 0) < 0)
        ;
    if (WIFSIGNALED(status))
        return scenario_report(scenario, "%s",
                               WTERMSIG(status) == SIGALRM ? "the run hangs" : strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        return scenario_report(scenario, "the run exits with %d", WEXITSTATUS(status));
    return !scenario->problem[0];
}

bool scenario_run(struct scenario *scenario, size_t run, const struct vfs_fault *fault)
{
    return run_in_child(run_script, &(struct task){scenario, run, fault});
}

bool scenario_verify(struct scenario *scenario)
{
    return run_in_child(verify, &(struct task){scenario, 0, NULL});
}
