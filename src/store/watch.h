// Gives up a statement that runs for long. While SQLite counts the rows of a table or checks its tree it asks nobody,
// since that is one instruction of its machine: only an interruption from another thread reaches it.
#pragma once

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

struct watch {
    sqlite3 *connection;
    bool (*go_on)(void *context);
    void *context;
    bool given_up;
    sem_t over;
    pthread_t thread;
};

// From here to watch_end go_on is called on a thread of its own, at once and then several times a second. When it
// returns false it is not called again, and what the connection runs from then on ends with SQLITE_INTERRUPT.
int watch_begin(struct watch *watch, sqlite3 *connection, bool (*go_on)(void *context), void *context,
                struct error *error) MUST_CHECK;

// False: go_on said no, whether the statement noticed or not. Before the connection is closed.
bool watch_end(struct watch *watch);
