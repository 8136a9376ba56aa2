// Ships recorded rows into the destination, a database that speaks PostgreSQL's protocol, while another process
// records. Each batch of rows and the new cursor are one transaction, and the cursor is stored in the destination only.
// A batch is therefore in the destination completely and once, or not at all, no matter when the network, either
// database or a process fails. The only local state is a note for retention.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/forward/forward_settings.h"

// One thread calls these functions, one at a time, with two exceptions: any thread may call forward_print_metrics, and
// a signal handler may call forward_stop. Functions that return int return 0 or -errno. Functions with an error
// argument fill in the error if they fail. The error never contains the password.

// False in a build without libpq, in which every function with an error argument fails with -ENOSYS.
extern const bool forward_is_built;

// Returns the version of libpq as 10,000 times the major plus the minor version, or 0 in a build without libpq.
int forward_libpq_version(void);

// Appends the forwarder's metrics in Prometheus' text format. Returns 0 or -ENOMEM. After -ENOMEM, part of the text may
// have been appended.
int forward_print_metrics(struct buffer *text) MUST_CHECK;

// Checks the URL without connecting, and reports a URL with insecure TLS settings. Returns -EINVAL if libpq cannot
// parse the URL, or if the URL contains a password.
int forward_check_url(const char *url, forward_report *report, struct error *error) MUST_CHECK;

// Checks that the password can be read, and reports a file that every user can read. NULL is allowed. Returns -EACCES
// if this process has no permission to read the file, or if the path needs $CREDENTIALS_DIRECTORY and the environment
// does not set this variable; another user or service may be able to read the file.
int forward_check_password(const char *file, forward_report *report, struct error *error) MUST_CHECK;

// Connects to the destination, and checks its encoding and the version of its tables. Changes nothing there.
int forward_check_destination(const struct forward_settings *settings, struct error *error) MUST_CHECK;

// Ships until forward_stop is called. Logs failures, rate-limited, and retries: soon after a temporary failure, later
// after a failure that an operator has to fix. The caller has checked the settings with forward_check_url and
// forward_check_password.
void forward_run(const struct forward_settings *settings);

// Makes forward_run return. This function is safe in a signal handler. libpq cannot cancel a connection attempt, so
// during such an attempt this function ends the process with status 0; nothing is lost, because no transaction is open.
void forward_stop(void);

// Compares the rows that were received at or after since_ms and before until_ms with those in the destination, using
// checksums that the destination computes. Reports up to 20 differences and the totals, and sets *ret_same to whether
// there is no difference. A row that was not shipped yet is not a difference. An error means that the comparison is
// incomplete.
int forward_verify(const struct forward_settings *settings, int64_t since_ms, int64_t until_ms, forward_report *report,
                   bool *ret_same, struct error *error) MUST_CHECK;
