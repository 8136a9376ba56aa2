// Ships what was recorded into a database that speaks PostgreSQL's protocol, beside the daemon that records.
//
// What is read behind the cursor goes over in batches, each one transaction together with the cursor, which is kept in
// the destination and nowhere else. A batch therefore is there whole and once, or not at all, wherever the network,
// either database or a process ends; and nothing has to be kept here but a note for the retention.
//
// One call at a time, from one thread; beside it any thread may call forward_update_metrics and print the metrics, and
// a signal handler forward_stop. What returns an int gives 0 or -errno with the error in words, which never hold the
// password.
//
// A build without libpq has these functions too; they fail and say so.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/base/metrics.h"

// Of a thing that should be told but stops nothing.
typedef void forward_report(const char *sentence);

struct forward_settings {
    const char *database;      // the path of the SQLite database
    const char *url;           // a libpq URI, without a password
    const char *password_file; // NULL: there is none; may begin with $CREDENTIALS_DIRECTORY
    const char *receiver;      // tells the receivers' rows and cursors apart
    const char *shipped_file;  // where the daemon reads up to where it may delete
};

extern const bool forward_is_built;

// What is counted; ends with NULL. forward_update_metrics brings those up to date that change by themselves, such as
// the lag.
extern const struct metric *const forward_metrics[];
void forward_update_metrics(void);

// Is the URL of use? Connects to nothing. -ENOSYS: this build has no forward.
int forward_check_url(const char *url, forward_report *tell, struct error *error) MUST_CHECK;

// Can the password be read? A file of NULL is well. -EACCES: it is there for another user or service.
int forward_check_password(const char *file, forward_report *tell, struct error *error) MUST_CHECK;

// Could the destination be shipped to as it stands? Changes nothing there.
int forward_check_destination(const struct forward_settings *settings, struct error *error) MUST_CHECK;

// Ships until forward_stop. Whatever fails is logged and tried again, sooner when it passes by itself, later when
// somebody has to mend it. The settings were checked.
void forward_run(const struct forward_settings *settings);

// For signal handlers. While a connection is being made, which cannot be broken off, ends the process with status 0:
// there is nothing to be finished.
void forward_stop(void);

// Compares what was received from since_ms on and before until_ms here and there, row by row, through checksums that
// the destination makes. Tells what differs, and the counts. Errors: could not compare.
int forward_verify(const struct forward_settings *settings, int64_t since_ms, int64_t until_ms, forward_report *tell,
                   bool *ret_same, struct error *error) MUST_CHECK;
