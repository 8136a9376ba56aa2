// Connects to the destination and executes statements there. Only destination.c passes the connection to libpq; other
// files use libpq only to read results and to parse the URL. destination.c does not depend on tables or rows. The
// thread that opens a connection is the only one that uses it.
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/forward/forward_settings.h"
#include "parameters.h"

// The initial value of answer_timeout_ms. The forwarder cannot distinguish an unreachable host from a server that
// executes a slow statement, so forward.c doubles the timeout after each -ETIMEDOUT, up to a maximum.
#define ANSWER_TIMEOUT_MIN_MS 30000

struct destination {
    PGconn *connection;
    pthread_t thread; // the thread that opened the connection
    bool in_pipeline;
    char sqlstate[6];          // SQLSTATE of the last failure; "" if the server did not report the failure
    int64_t answer_timeout_ms; // how long a wait continues while no byte moves
};

// Functions that return int return 0 or -errno and fill in the error:
//   -EAGAIN     a failure that may be temporary, such as a lost connection, a restart of the server, or a conflict
//   -ETIMEDOUT  no byte has moved for answer_timeout_ms
//   -ECANCELED  destination_cancel was called
//   others      a failure that an operator has to fix
// After an error the caller closes the connection and opens a new one. Only the cursor in the destination shows whether
// the last transaction was committed. destination_query is an exception: if the server reported the error, so that
// sqlstate is not "", the caller may send another query on the same connection.

// Tries the hosts of the URL in turn, by default for up to 5 seconds each, and blocks until one of them accepts or all
// have failed. The caller passes a destination that is zeroed or closed, and calls destination_close after a failure,
// too.
int destination_open(struct destination *destination, const struct forward_settings *settings,
                     int64_t answer_timeout_ms, struct error *error) MUST_CHECK;

// Executes one statement and waits for its result in text format. A result with fewer columns than `columns` is an
// error. The caller passes *ret_result to PQclear. If ret_result is NULL, the function discards the result. If
// parameters is NULL, the statement has no parameters.
int destination_query(struct destination *destination, const char *sql, const struct parameters *parameters,
                      int columns, PGresult **ret_result, struct error *error) MUST_CHECK;

// Switches the connection to pipeline mode, in which destination_send sends a statement without waiting for the results
// of earlier statements. From then on, destination_query is not allowed.
int destination_enter_pipeline(struct destination *destination, struct error *error) MUST_CHECK;
int destination_send(struct destination *destination, const char *sql, const struct parameters *parameters,
                     struct error *error) MUST_CHECK;

// Sends a synchronization point: the end of one group of statements that succeed or fail together.
int destination_sync(struct destination *destination, struct error *error) MUST_CHECK;

// Waits for the results up to the next synchronization point. Sets *ret_rows to the number of rows that the statement
// with the given index has changed; the index counts the statements of the group from 0.
int destination_await_sync(struct destination *destination, int statement_index, int64_t *ret_rows,
                           struct error *error) MUST_CHECK;

// Return the host and the port of the connected server.
const char *destination_host(const struct destination *destination);
const char *destination_port(const struct destination *destination);

// Closes the connection, if it is open.
void destination_close(struct destination *destination);

// Cancels the waits on all connections: destination_open, and every wait for a result that has not arrived, returns
// -ECANCELED from now on. This function is safe in a signal handler. During a connection attempt, which libpq cannot
// cancel, this function ends the process with status 0.
void destination_cancel(void);
bool destination_cancelled(void);
