// Drives the store through a script, one child process per run, and counts the store's answers.

// The characters of a script:
//
//   a to z   submits an event (see script_events.h); the same letter again submits a repeat
//   A to Z   submits an event with the same identity and other content
//   0 to 9   submits a rejected callback
//   space    separates batches: what follows is submitted when all earlier commits are done. The commits of one
//            batch go into one transaction. The first batch of a run, and each batch that follows one of the actions
//            below, should be a single letter, because the writer thread may take a longer batch in pieces.
//   ~        in place of a batch: waits for the checkpoint that the previous batch has made due
//   -        in place of a batch: sets the retention and waits until the old events are deleted
//   >        in place of a batch: makes a backup in the same directory and checks it
//   ( )      in place of a batch: the reader process starts and ends a read transaction; the process stays connected
//            across all runs
//   ;        closes the store; what follows is another run of the daemon, in another process
//   !        ends the process without closing the store, as a kill does; what follows is another run
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/commit.h"
#include "journal.h"
#include "vfs.h"

#define SCRIPT_MAX 96

#define ANSWER_COUNT (COMMIT_FAILED + 1) // number of values of enum commit_result

// scenario_create() allocates this struct in memory that all processes of the test share.
struct scenario {
    const char *directory;
    const char *script;
    int64_t retry_ms;                           // how long the store may retry a commit
    int reader_fd;                              // for scripts with ( and ); see reader_process.h
    struct journal *journal;                    // gets a mark for each answer except COMMIT_FAILED; may be NULL
    unsigned submitted[SCRIPT_MAX];             // number of submissions, by place in the script
    unsigned answers[SCRIPT_MAX][ANSWER_COUNT]; // number of answers of each kind, by place in the script
    bool fired;                                 // the fault has occurred in the last run
    char problem[512];                          // the first problem that was reported; "": none
};

struct scenario *scenario_create(void);
void scenario_destroy(struct scenario *scenario);

size_t scenario_count_runs(const char *script);

// Counts the answer that a mark in the journal stands for.
void scenario_count_mark(struct scenario *scenario, int mark);

// scenario_run and scenario_verify each work in a child process with a time limit. Both return false and set
// scenario->problem if the child crashes, hangs, fails or reports a problem.

// Executes one run of the script; the runs are counted from 0. The fault is active from the start of the run. If fault
// is NULL, no call fails.
bool scenario_run(struct scenario *scenario, size_t run, const struct vfs_fault *fault);

// Opens the store in the directory and checks that the database agrees with every answer. Then submits each event of
// the script again and repeats the check.
bool scenario_verify(struct scenario *scenario);

// Records the problem unless an earlier one is recorded. Always returns false.
bool scenario_report(struct scenario *scenario, const char *format, ...) PRINTF_LIKE(2, 3);

// Returns the number in this environment variable, or the fallback if the variable is not set.
uint64_t number_from_environment(const char *name, uint64_t fallback);

// Returns the path of the database. The path is valid until the next call.
const char *scenario_database(const struct scenario *scenario);
