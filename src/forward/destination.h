// The connection to the destination: the only place that talks to libpq about connections and results. It knows neither
// tables nor rows. For one thread at a time.
//
// All functions return 0 or -errno with the error in words: -EAGAIN for what passes by itself (the connection is lost,
// the server restarts, transactions are in each other's way), -ETIMEDOUT when nothing has moved for so long that it is
// given up, -ECANCELED after destination_cancel, others for what somebody has to mend. After any error but a refusal
// the caller closes the connection and begins anew: what became of a transaction is found in the destination, and
// nowhere else.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/forward/forward.h"
#include "parameters.h"

// A host that has vanished says nothing; nor does a server that computes.
#define SILENCE_MIN_MS 30000

struct destination {
    PGconn *connection;
    char sqlstate[6];   // of the last failure; "" when it did not come from the server
    int64_t silence_ms; // so long nothing may move while an answer is waited for
};

// Tries the hosts of the URL in turn, a few seconds each. Blocks meanwhile.
int destination_open(struct destination *destination, const struct forward_settings *settings, int64_t silence_ms,
                     struct error *error) MUST_CHECK;

// One statement by itself, in text; *ret_result is the caller's to PQclear. NULL as ret_result: it is not wanted.
int destination_query(struct destination *destination, const char *sql, const struct parameters *parameters,
                      PGresult **ret_result, struct error *error) MUST_CHECK;

// Pipelines: what is sent is not waited for. From begin on there are no queries but those.
int destination_begin_pipeline(struct destination *destination, struct error *error) MUST_CHECK;
int destination_send(struct destination *destination, const char *sql, const struct parameters *parameters,
                     struct error *error) MUST_CHECK;
int destination_sync(struct destination *destination, struct error *error) MUST_CHECK;

// Waits until the next synchronisation point has come back, and passes over all results before it but that of the
// statement `which` (from 0 on); *ret_rows: how many rows that one changed.
int destination_await_sync(struct destination *destination, int which, int64_t *ret_rows,
                           struct error *error) MUST_CHECK;

// "HOST, port PORT" of the server that answered.
void destination_name(const struct destination *destination, struct error *ret_name);

void destination_close(struct destination *destination); // of one that is not open, too

// From now on nothing is waited for. For signal handlers; while a connection is being made ends the process with 0.
void destination_cancel(void);
bool destination_cancelled(void);
