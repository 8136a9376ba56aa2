// Sends recorded events to the application's HTTP endpoint while another process records, in the form in which the
// service sends them. The state file says which events the endpoint has not accepted yet. The state is on disk before
// the requests that depend on it are sent, so an event is sent at least once, no matter when a process or the machine
// fails. After a crash, the sender does not repeat a request whose acceptance is on disk.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/deliver/deliver_settings.h"

// One thread calls these functions, one at a time, with two exceptions: any thread may call deliver_print_metrics, and
// a signal handler may call deliver_stop. Functions that return int return 0 or -errno. Functions with an error
// argument fill in the error if they fail. The error never contains a secret, a token, a query or a body.

// False in a build without libcurl, in which every function with an error argument fails with -ENOSYS.
extern const bool deliver_is_built;

// Returns the version of libcurl, such as "7.88.1", or NULL in a build without libcurl.
const char *deliver_libcurl_version(void);

// Appends the sender's metrics in Prometheus' text format. Returns 0 or -ENOMEM. After -ENOMEM, part of the text may
// have been appended.
int deliver_print_metrics(struct buffer *text) MUST_CHECK;

// Checks that the HTTP library accepts the URL, which must not be NULL. The error does not repeat the URL.
int deliver_check_url(const char *url, struct error *error) MUST_CHECK;

// Checks that the file holds one or two secrets, and reports a file that every user of the machine can read. NULL is
// allowed. Returns -EACCES if this process has no permission to read the file, or if the path needs
// $CREDENTIALS_DIRECTORY and the environment does not set this variable; another user or service may be able to read
// the file.
int deliver_check_secrets(const char *file, deliver_report *report, struct error *error) MUST_CHECK;

// Checks that a file with certificates or a key can be read. Without this check, the failure would show only when
// libcurl connects. NULL is allowed. Returns -EACCES in the same cases as deliver_check_secrets.
int deliver_check_file(const char *file, struct error *error) MUST_CHECK;

// Does the same for ca_file, and also returns -EINVAL if the file does not contain a certificate in PEM format.
int deliver_check_ca_file(const char *file, struct error *error) MUST_CHECK;

// Reports a directory of the state file that does not exist.
void deliver_check_state_file(const char *state_file, deliver_report *report);

// Resolves the endpoint's name, connects, verifies the certificate of an https endpoint, and reports what was found.
// Sends no request.
int deliver_check_endpoint(const struct deliver_settings *settings, deliver_report *report,
                           struct error *error) MUST_CHECK;

// Sends until deliver_stop is called, and then waits up to 5 s for the answers to the requests in flight. Logs failures
// to read the store, to send, and, if the cause may be temporary, to write the state, and retries after them. Returns
// an error if the sender cannot start, for example because it cannot read the secrets, if the state file cannot be
// used, or if libcurl fails internally. If from_now is set, skips the events that are recorded already, and fails if
// there already is a state.
int deliver_run(const struct deliver_settings *settings, bool from_now, struct error *error) MUST_CHECK;

// Sends the recorded events from the first to the last id once more, one at a time and each once, and reports one
// sentence per event. Neither reads nor changes the state. Sets *ret_all_accepted to whether the endpoint accepted
// every event that was sent. Returns -ENOENT if the store has no event in this range, or -EINTR if deliver_stop was
// called while a request was in flight.
int deliver_replay(const struct deliver_settings *settings, int64_t first_id, int64_t last_id, deliver_report *report,
                   bool *ret_all_accepted, struct error *error) MUST_CHECK;

// Makes deliver_run and deliver_replay return. This function is safe in a signal handler.
void deliver_stop(void);
