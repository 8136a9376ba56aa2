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

#include "event.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/store/backup.h"
#include "imcallbackd/store/store.h"
#include "onlooker.h"
#include "verify.h"

#include <sqlite3.h>

#define PATIENCE_S             120
#define CHECKPOINT_PATIENCE_MS 5000

// One life of the store. Its first batch comes from the main thread; each that follows is submitted in done(), while
// the writer takes nothing, so that it stays together.
struct life {
    struct scenario *scenario;
    struct store *store;
    struct commit commits[SCRIPT_MAX]; // by place in the script
    pthread_mutex_t mutex;             // guards what follows
    pthread_cond_t changed;
    size_t place;         // in the script: what comes next
    size_t pending;       // commits
    unsigned checkpoints; // when the last batch was submitted
    bool broken;
};

struct scenario *scenario_create(void)
{
    struct scenario *scenario = mmap(NULL, sizeof *scenario, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert(scenario != MAP_FAILED);
    log_configure(LOG_LEVEL_CRIT, LOG_FORMAT_TEXT); // the store's complaints are what is wanted here
    return scenario;
}

void scenario_destroy(struct scenario *scenario)
{
    if (scenario)
        (void)munmap(scenario, sizeof *scenario);
}

bool scenario_complain(struct scenario *scenario, const char *format, ...)
{
    va_list arguments;

    if (scenario->complaint[0])
        return false;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): clang-tidy 14 does not see the va_start behind a branch
    (void)vsnprintf(scenario->complaint, sizeof scenario->complaint, format, arguments);
    va_end(arguments);
    return false;
}

const char *scenario_database(const struct scenario *scenario)
{
    static char path[256];

    (void)snprintf(path, sizeof path, "%s/callbacks.db", scenario->directory);
    return path;
}

size_t scenario_count_lives(const char *script)
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

static enum answer answer_of(enum commit_result result)
{
    switch (result) {
    case COMMIT_RECORDED:
        return ANSWER_RECORDED;
    case COMMIT_REPEATED:
        return ANSWER_REPEATED;
    case COMMIT_CONFLICT:
        return ANSWER_CONFLICT;
    default:
        return ANSWER_FAILED;
    }
}

// Under the mutex. Submits the letters up to the next sign that is none.
static void submit_batch(struct life *life)
{
    const char *script = life->scenario->script;
    size_t first = life->place, end = first;

    while (isalnum((unsigned char)script[end])) {
        life->commits[end] = (struct commit){0};
        if (isdigit((unsigned char)script[end]))
            life->commits[end].rejected = event_rejected(script[end]);
        else
            life->commits[end].group = event_group(script[end]);
        life->commits[end].give_up_at_ms = clock_monotonic_ms() + life->scenario->patience_ms;
        end++;
    }
    life->place = end;
    life->pending = end - first;
    life->checkpoints = vfs_checkpoints();
    for (size_t i = first; i < end; i++) {
        life->scenario->submitted[i]++;
        store_submit(life->store, &life->commits[i]);
    }
}

static void finish_commit(struct life *life, const struct commit *commit)
{
    size_t place = (size_t)(commit - life->commits);
    enum answer answer = answer_of(commit->result);

    if (life->broken && answer != ANSWER_FAILED)
        (void)scenario_complain(life->scenario, "place %zu is acknowledged by a broken store", place);
    scenario_count_mark(life->scenario, (int)place * ANSWER_COUNT + (int)answer);
    if (answer != ANSWER_FAILED)
        journal_mark(life->scenario->journal, (int)place * ANSWER_COUNT + (int)answer);
    life->pending--;
}

static void on_done(void *context, struct commit *finished)
{
    struct life *life = context;

    pthread_mutex_lock(&life->mutex);
    for (struct commit *next; finished; finished = next) {
        next = finished->next;
        finish_commit(life, finished);
    }
    while (life->pending == 0 && life->scenario->script[life->place] == ' ')
        life->place++;
    if (life->pending == 0 && isalnum((unsigned char)life->scenario->script[life->place]))
        submit_batch(life);
    pthread_cond_signal(&life->changed);
    pthread_mutex_unlock(&life->mutex);
}

static void on_broken(void *context, const struct error *error)
{
    struct life *life = context;

    (void)error;
    pthread_mutex_lock(&life->mutex);
    if (life->broken)
        (void)scenario_complain(life->scenario, "the store breaks twice");
    life->broken = true;
    pthread_mutex_unlock(&life->mutex);
}

static void await_checkpoint(const struct life *life)
{
    int64_t deadline_ms = clock_monotonic_ms() + CHECKPOINT_PATIENCE_MS;

    while (vfs_checkpoints() == life->checkpoints && clock_monotonic_ms() < deadline_ms)
        (void)nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

// Past the shim, so that no fault strikes here. The number that the SQL gives; -1: none.
static int64_t look(const char *path, const char *sql)
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

static void delete_old(const struct life *life)
{
    int64_t deadline_ms = clock_monotonic_ms() + CHECKPOINT_PATIENCE_MS;
    char sql[128];

    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM destroyed_group WHERE received_at_ms < %lld",
                   (long long)event_old_before_ms);
    store_set_retention(life->store, EVENT_KEEP_MS);
    while (!vfs_fault_fired() && look(scenario_database(life->scenario), sql) != 0 &&
           clock_monotonic_ms() < deadline_ms)
        (void)nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL); // a look holds the log for a moment
}

// A backup is the whole of what is there, or it is not there.
static void make_backup(const struct life *life)
{
    static const char count_sql[] = "SELECT count(*) FROM destroyed_group_member";
    struct scenario *scenario = life->scenario;
    char target[sizeof "/copy.db" + 256];
    struct error error;

    (void)snprintf(target, sizeof target, "%s/copy.db", scenario->directory);
    if (backup_make(scenario_database(scenario), target, NULL, &error) < 0) {
        if (access(target, F_OK) == 0)
            (void)scenario_complain(scenario, "a backup that failed is there all the same");
    } else if (look(target, count_sql) != look(scenario_database(scenario), count_sql) ||
               look(target, "SELECT integrity_check = 'ok' FROM pragma_integrity_check") != 1) {
        (void)scenario_complain(scenario, "the backup is not what was there");
    }
    (void)unlink(target);
}

static void do_beside(const struct life *life, char sign)
{
    struct scenario *scenario = life->scenario;

    if (sign == '-')
        delete_old(life);
    else if (sign == '>')
        make_backup(life);
    else if (!onlooker_tell(scenario->onlooker, sign))
        (void)scenario_complain(scenario, "the onlooker cannot %s reading", sign == '(' ? "begin" : "end");
}

// Submits batches up to the sign that ends the life.
static void go_through(struct life *life)
{
    const struct scenario *scenario = life->scenario;
    bool recorded;

    pthread_mutex_lock(&life->mutex);
    while (scenario->script[life->place] && !strchr(";!", scenario->script[life->place])) {
        if (scenario->script[life->place] == '~') {
            recorded = scenario->answers[life->place - 2][ANSWER_RECORDED];
            life->place++;
            pthread_mutex_unlock(&life->mutex);
            if (recorded)
                await_checkpoint(life);
            pthread_mutex_lock(&life->mutex);
        } else if (strchr("->()", scenario->script[life->place])) {
            pthread_mutex_unlock(&life->mutex);
            do_beside(life, scenario->script[life->place]);
            pthread_mutex_lock(&life->mutex);
            life->place++;
        } else if (scenario->script[life->place] == ' ') {
            life->place++;
        } else {
            submit_batch(life);
        }
        while (life->pending > 0)
            pthread_cond_wait(&life->changed, &life->mutex);
    }
    pthread_mutex_unlock(&life->mutex);
}

static int open_store(struct life *life, struct error *error)
{
    struct store_callbacks callbacks = {on_done, on_broken, life};

    pthread_mutex_init(&life->mutex, NULL);
    pthread_cond_init(&life->changed, NULL);
    return store_open(scenario_database(life->scenario), &callbacks, &life->store, error);
}

struct task {
    struct scenario *scenario;
    size_t life;
    const struct vfs_fault *fault;
};

// A disk that has failed while the log was made sure of may have lost any of it.
static bool must_not_open(const struct vfs_fault *fault)
{
    return fault && (fault->call == VFS_OWN_WRITE || fault->call == VFS_OWN_SYNC) && fault->cause == EIO &&
           vfs_fault_fired();
}

static void live(const struct task *task)
{
    struct scenario *scenario = task->scenario;
    struct life life = {.scenario = scenario};
    bool killed;
    struct error error;

    for (size_t lives = task->life; lives > 0; life.place++)
        lives -= strchr(";!", scenario->script[life.place]) != NULL;
    vfs_install(scenario->journal);
    vfs_set_fault(task->fault);
    if (open_store(&life, &error) == 0) {
        if (must_not_open(task->fault))
            (void)scenario_complain(scenario, "the store opens on a disk that has failed");
        go_through(&life);
        killed = scenario->script[life.place] == '!';
        if (killed) {
            scenario->fired = vfs_fault_fired();
            _exit(0);
        }
        store_close(life.store);
        if (task->fault && task->fault->call == VFS_SYNC && vfs_fault_fired() && !life.broken)
            (void)scenario_complain(scenario, "a sync has failed, and the store is not broken");
    }
    scenario->fired = vfs_fault_fired();
}

// Each event by itself: none can make another one fail.
static bool submit_again(struct life *life)
{
    struct scenario *scenario = life->scenario;

    for (size_t i = 0; scenario->script[i]; i++) {
        unsigned failed = scenario->answers[i][ANSWER_FAILED];

        if (!isalpha((unsigned char)scenario->script[i]))
            continue;
        pthread_mutex_lock(&life->mutex);
        life->commits[i] = (struct commit){.group = event_group(scenario->script[i])};
        scenario->submitted[i]++;
        life->pending = 1;
        life->place = strlen(scenario->script); // nothing comes next
        store_submit(life->store, &life->commits[i]);
        while (life->pending > 0)
            pthread_cond_wait(&life->changed, &life->mutex);
        pthread_mutex_unlock(&life->mutex);
        if (scenario->answers[i][ANSWER_FAILED] > failed)
            return scenario_complain(scenario, "%c cannot be recorded afterwards", scenario->script[i]);
    }
    return true;
}

static void verify(const struct task *task)
{
    struct scenario *scenario = task->scenario;
    struct life life = {.scenario = scenario};
    struct error error;

    if (open_store(&life, &error) < 0) {
        (void)scenario_complain(scenario, "the store cannot be opened afterwards: %s", error.text);
        return;
    }
    if (verify_database(scenario) && submit_again(&life))
        (void)verify_database(scenario);
    store_close(life.store);
}

// In a process of its own.
static bool run(void (*body)(const struct task *), const struct task *task)
{
    struct scenario *scenario = task->scenario;
    pid_t child;
    int status;

    (void)fflush(NULL);
    child = fork();
    assert(child >= 0);
    if (child == 0) {
        (void)alarm(PATIENCE_S);
        body(task);
        exit(0);
    }
    while (waitpid(child, &status, 0) < 0)
        ;
    if (WIFSIGNALED(status))
        return scenario_complain(scenario, "%s",
                                 WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        return scenario_complain(scenario, "it exits with %d", WEXITSTATUS(status));
    return !scenario->complaint[0];
}

bool scenario_live(struct scenario *scenario, size_t life, const struct vfs_fault *fault)
{
    return run(live, &(struct task){scenario, life, fault});
}

bool scenario_verify(struct scenario *scenario)
{
    return run(verify, &(struct task){scenario, 0, NULL});
}
