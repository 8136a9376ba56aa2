// A script that the store is taken through, and what came of it. This is the one file that drives the store.
//
//   a … z    an event is submitted (see event.h); again: a repeat
//   A … Z    the same identity with other content
//   0 … 9    a body that was not understood
//   space    the next batch: what follows is submitted when all before it is done. The letters of one batch go into
//            one transaction; the first batch of a life should be a single letter, as it may be taken in pieces.
//   ~        as a batch: waits until the checkpoint that the batch before it called for is over
//   -        as a batch: from now on what is old (see event.h) is deleted; waits until it is
//   >        as a batch: a backup is made beside the database, and looked at
//   ( )      as a batch: an onlooker begins to read, and ends; it stays connected over the lives that follow
//   ;        the store is closed; what follows is another life of the daemon, in another process
//   !        the same after a kill -9: nothing is closed
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/error.h"
#include "journal.h"
#include "vfs.h"

#define SCRIPT_MAX 96

enum answer { ANSWER_FAILED, ANSWER_RECORDED, ANSWER_REPEATED, ANSWER_CONFLICT, ANSWER_COUNT };

// Lies in memory that the processes share.
struct scenario {
    const char *directory;
    const char *script;
    int64_t patience_ms;                        // how long the store may try to record
    int onlooker;                               // for scripts with one; see onlooker.h
    struct journal *journal;                    // or NULL; gets a mark for each answer
    unsigned submitted[SCRIPT_MAX];             // how often, by place in the script
    unsigned answers[SCRIPT_MAX][ANSWER_COUNT]; // how often each
    bool fired;                                 // in the last life: the fault has struck
    char complaint[512];                        // the first; "": none
};

struct scenario *scenario_create(void);
void scenario_destroy(struct scenario *scenario);

size_t scenario_count_lives(const char *script);

// Counts the answer that a mark of the journal stands for.
void scenario_count_mark(struct scenario *scenario, int mark);

// Both run in a process of their own, which is ended when it takes too long. False, with a complaint, when that process
// crashed or was ended, or found something to complain of.

// The n-th life, from 0, with a fault from its first moment on; NULL: without.
bool scenario_live(struct scenario *scenario, size_t life, const struct vfs_fault *fault);

// Opens the store on what is in the directory and looks whether all is true that was answered. Then each event that the
// script names is submitted once more, and it looks again.
bool scenario_verify(struct scenario *scenario);

// Keeps the first complaint. Always false.
bool scenario_complain(struct scenario *scenario, const char *format, ...) PRINTF_LIKE(2, 3);

// Where the database is. Valid until the next call.
const char *scenario_database(const struct scenario *scenario);
