// Provides what the tests of the store share: a temporary directory with a store in it, example events, and queries on
// a second connection.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../files.h"
#include "../unit.h"
#include "imcallbackd/store/store.h"

#include <sqlite3.h>

#define TIMEOUT_S   60
#define RECEIVED_MS INT64_C(1700000000000)

// Waits until another thread or process has made the condition true. Fails the test after TIMEOUT_S seconds.
#define AWAIT(condition)                                                                                               \
    do {                                                                                                               \
        time_t give_up_at = time(NULL) + TIMEOUT_S;                                                                    \
        while (!(condition)) {                                                                                         \
            assert_true(time(NULL) < give_up_at);                                                                      \
            sched_yield();                                                                                             \
        }                                                                                                              \
    } while (0)

struct path {
    char text[192];
};

static inline struct path path_with(const char *path, const char *suffix)
{
    struct path whole;

    (void)snprintf(whole.text, sizeof whole.text, "%s%s", path, suffix);
    return whole;
}

struct fixture {
    char directory[64];
    char database[128];
    struct store *store;
    pthread_mutex_t mutex; // guards the fields below
    pthread_cond_t changed;
    size_t done, broken;
    struct error error; // the argument of the last call of broken()
};

static inline void fixture_done(void *context, struct commit *finished)
{
    struct fixture *fixture = context;
    size_t finished_count = 0;

    while (finished) {
        finished = finished->next;
        finished_count++;
    }
    pthread_mutex_lock(&fixture->mutex);
    fixture->done += finished_count;
    pthread_cond_signal(&fixture->changed);
    pthread_mutex_unlock(&fixture->mutex);
}

static inline void fixture_broken(void *context, const struct error *error)
{
    struct fixture *fixture = context;

    pthread_mutex_lock(&fixture->mutex);
    fixture->broken++;
    fixture->error = *error;
    pthread_mutex_unlock(&fixture->mutex);
}

static inline int fixture_try_open(struct fixture *fixture, struct error *error)
{
    struct store_callbacks callbacks = {fixture_done, fixture_broken, fixture};

    return store_open(fixture->database, &callbacks, &fixture->store, error);
}

static inline void fixture_open(struct fixture *fixture)
{
    struct error why = {""};

    if (fixture_try_open(fixture, &why) < 0)
        fail_msg("%s", why.text);
}

// Does nothing if no store is open.
static inline void fixture_close(struct fixture *fixture)
{
    store_close(fixture->store);
    fixture->store = NULL;
}

static inline int fixture_setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    pthread_mutex_init(&fixture->mutex, NULL);
    pthread_cond_init(&fixture->changed, NULL);
    make_directory(fixture->directory, sizeof fixture->directory);
    (void)snprintf(fixture->database, sizeof fixture->database, "%s/callbacks.db", fixture->directory);
    *state = fixture;
    return 0;
}

static inline int fixture_setup_open(void **state)
{
    (void)fixture_setup(state);
    fixture_open(*state);
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fixture = *state;

    fixture_close(fixture);
    remove_directory(fixture->directory);
    pthread_cond_destroy(&fixture->changed);
    pthread_mutex_destroy(&fixture->mutex);
    free(fixture);
    return 0;
}

// Waits until the store has returned this number of commits since the setup. Fails the test after TIMEOUT_S seconds.
static inline void fixture_await(struct fixture *fixture, size_t done)
{
    struct timespec deadline;

    clock_gettime(CLOCK_REALTIME, &deadline);
    deadline.tv_sec += TIMEOUT_S;
    pthread_mutex_lock(&fixture->mutex);
    while (fixture->done < done)
        assert_int_equal(pthread_cond_timedwait(&fixture->changed, &fixture->mutex, &deadline), 0);
    pthread_mutex_unlock(&fixture->mutex);
}

static inline size_t fixture_done_count(struct fixture *fixture)
{
    size_t done;

    pthread_mutex_lock(&fixture->mutex);
    done = fixture->done;
    pthread_mutex_unlock(&fixture->mutex);
    return done;
}

// Submits the commits and waits until the store has returned all of them.
static inline void fixture_commit(struct fixture *fixture, struct commit *commits, size_t count)
{
    size_t done_before = fixture_done_count(fixture);

    for (size_t i = 0; i < count; i++)
        store_submit(fixture->store, &commits[i]);
    fixture_await(fixture, done_before + count);
}

static inline enum commit_result fixture_record(struct fixture *fixture, const struct destroyed_group *group)
{
    struct commit commit = {.group = group};

    fixture_commit(fixture, &commit, 1);
    return commit.result;
}

static inline enum commit_result fixture_reject(struct fixture *fixture, const struct rejected_callback *rejected)
{
    struct commit commit = {.rejected = rejected};

    fixture_commit(fixture, &commit, 1);
    return commit.result;
}

// Returns an event with three members. Each test changes the fields that it checks.
static inline struct destroyed_group example_group(void)
{
    static const char *const members[] = {"jared", "tom", "\xe5\xbc\xa0\xe4\xb8\x89"};
    static const char body[] = "{\"CallbackCommand\":\"Group.CallbackAfterGroupDestroyed\"}";

    return (struct destroyed_group){
        .sdk_appid = 1400000000,
        .group_id = "@TGS#2J4SZEAEL",
        .has_event_time = true,
        .event_time_ms = RECEIVED_MS - 17,
        .type = "Public",
        .owner_account = "leckie",
        .operator_account = "admin",
        .name = "MyFirstGroup",
        .has_member_list = true,
        .member_count = 3,
        .members = members,
        .opt_platform = "RESTAPI",
        .client_ip = "198.51.100.7",
        .remote_address = "192.0.2.1",
        .received_at_ms = RECEIVED_MS,
        .body = body,
        .body_length = sizeof body - 1,
    };
}

// Returns the size in bytes of the database or, with a suffix, of a side file. Returns -1 if the file does not exist.
static inline off_t fixture_size(const struct fixture *fixture, const char *suffix)
{
    struct stat status;

    return stat(path_with(fixture->database, suffix).text, &status) == 0 ? status.st_size : -1;
}

// Fills in the groups, like example_group() but with the event times first_ms, first_ms + 1 and so on, and one commit
// for each group.
static inline void example_commits(struct destroyed_group *groups, struct commit *commits, size_t count,
                                   int64_t first_ms)
{
    for (size_t i = 0; i < count; i++) {
        groups[i] = example_group();
        groups[i].event_time_ms = first_ms + (int64_t)i;
        commits[i] = (struct commit){.group = &groups[i]};
    }
}

static inline struct rejected_callback example_rejected(void)
{
    return (struct rejected_callback){
        .received_at_ms = RECEIVED_MS,
        .remote_address = "192.0.2.1",
        .sdk_appid = 1400000000,
        .callback_command = CALLBACK_COMMAND,
        .reason = "not JSON at byte 7",
    };
}

// Records an event like example_group() for each event time from first_ms to last_ms.
static inline void fixture_record_times(struct fixture *fixture, int64_t first_ms, int64_t last_ms)
{
    struct destroyed_group group = example_group();

    for (group.event_time_ms = first_ms; group.event_time_ms <= last_ms; group.event_time_ms++)
        assert_int_equal(fixture_record(fixture, &group), COMMIT_RECORDED);
}

static inline pid_t start_child(void)
{
    pid_t child;

    (void)fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    return child;
}

static inline int child_status(pid_t child)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

// Leaves three events that are only in the write-ahead log, as a killed daemon does.
static inline void leave_log_of_killed_daemon(struct fixture *fixture)
{
    pid_t child = start_child();

    if (child == 0) {
        fixture_open(fixture);
        fixture_record_times(fixture, 1, 3);
        (void)raise(SIGKILL);
    }
    assert_true(WIFSIGNALED(child_status(child)));
    assert_true(fixture_size(fixture, "-wal") > 0);
}

// Runs the SQL on a new connection, which does not checkpoint when it is closed. Returns the first column of the first
// row, or "NULL" if there is no row or the column is NULL. The caller frees the text.
static inline char *fixture_query(const struct fixture *fixture, const char *sql)
{
    sqlite3 *connection;
    sqlite3_stmt *statement;
    const char *text;
    char *copy;

    assert_int_equal(sqlite3_open_v2(fixture->database, &connection, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_db_config(connection, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
    if (sqlite3_prepare_v2(connection, sql, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(connection));
    (void)sqlite3_step(statement);
    text = (const char *)sqlite3_column_text(statement, 0);
    copy = strdup(text ? text : "NULL");
    assert_non_null(copy);
    if (sqlite3_finalize(statement) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(connection));
    assert_int_equal(sqlite3_close(connection), SQLITE_OK);
    return copy;
}

// Runs statements on a new connection. If no other connection is open, closing the connection checkpoints the log and
// deletes the side files.
static inline void fixture_execute(const struct fixture *fixture, const char *sql)
{
    sqlite3 *connection;

    assert_int_equal(sqlite3_open(fixture->database, &connection), SQLITE_OK);
    assert_int_equal(sqlite3_exec(connection, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(connection), SQLITE_OK);
}

static inline void assert_query(const struct fixture *fixture, const char *sql, const char *expected)
{
    char *found = fixture_query(fixture, sql);

    if (strcmp(found, expected) != 0)
        fail_msg("%s: %s instead of %s", sql, found, expected);
    free(found);
}

// Repeats the query until it returns the expected text. Fails the test after TIMEOUT_S seconds.
static inline void await_query(struct fixture *fixture, const char *sql, const char *expected)
{
    time_t deadline = time(NULL) + TIMEOUT_S;

    for (;;) {
        char *found = fixture_query(fixture, sql);
        bool same = strcmp(found, expected) == 0;

        free(found);
        if (same)
            return;
        if (time(NULL) >= deadline)
            assert_query(fixture, sql, expected);
        (void)usleep(10000);
    }
}

// FIXTURE_TEST(rejects_a_file) { ... } defines a test that gets a `fixture`. In a STORE_TEST, the store is open.
#define FIXTURE_TEST(name) FIXTURE_TEST_WITH(name, fixture_setup, fixture_teardown)
#define STORE_TEST(name)   FIXTURE_TEST_WITH(name, fixture_setup_open, fixture_teardown)
#define FIXTURE_TEST_WITH(name, setup, teardown)                                                                       \
    static void name##_in(struct fixture *fixture);                                                                    \
    TEST_WITH(name, setup, teardown)                                                                                   \
    {                                                                                                                  \
        name##_in(*state);                                                                                             \
    }                                                                                                                  \
    static void name##_in(struct fixture *fixture __attribute__((unused)))
