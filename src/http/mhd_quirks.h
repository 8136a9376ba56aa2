// Declares the workarounds for faults of libmicrohttpd. Each has a comment with the versions that need it, the symptom,
// the test that shows the symptom, and the condition under which the workaround can be deleted.

// DEBIAN 12 marks code that is needed only for libmicrohttpd 0.9.75, the version in Debian 12. Delete all such code in
// one commit when the build requires 1.0. Both versions have the same soname, so the code checks the version at run
// time.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connection.h"

#include <microhttpd.h>

// DEBIAN 12: returns true if the library is older than 1.0.
bool mhd_is_before_1_0(void);

// ---- Heads that can be read in two ways ----

// Versions: 1.0 and later.
// Symptom: by default the library accepts bare line feeds and repairs other faults in heads.
// Test: test_refuses_hostile_request in tests/e2e/test_framing.py.
// Delete when level 1 is the library's default.
#if MHD_VERSION >= 0x01000000
#define MHD_QUIRK_STRICT_OPTION MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1,
#else
#define MHD_QUIRK_STRICT_OPTION
#endif

// Versions: before 1.0 (DEBIAN 12). Later versions refuse such heads themselves.
// Symptom: the library parses a head in place, puts a NUL at the end of each part, and does not report what it has
// changed. A NUL in a value ends the value, a folded line moves into the name of the header, a bare LF ends a line, and
// spaces before the target vanish. The addresses of the parts reveal the change, because a part then does not start or
// end where it would in an unaltered head. A NUL before a bare LF remains hidden, because these two bytes take the
// place of a CRLF. It does no harm: the library treats the two bytes as the end of a line, as it does a CRLF.
// Test: tests/unit/http/test_quirks.c, and test_refuses_hostile_request in tests/e2e/test_framing.py.
// Delete when the build requires 1.0.
struct mhd_head_layout {
    uintptr_t next; // the address at which the next part must start
    bool is_altered;
};

// method, url and version are the library's own pointers; target_length is the length of the raw target.
void mhd_head_layout_init(struct mhd_head_layout *layout, const char *method, const char *url, size_t target_length,
                          const char *version);
void mhd_head_layout_add(struct mhd_head_layout *layout, const char *name, size_t name_length, const char *value,
                         size_t value_length);

// The caller calls this after the last header, with the address after the empty line. Returns true if the head that the
// library presents differs from the head that the client has sent.
bool mhd_head_layout_is_altered(const struct mhd_head_layout *layout, const char *head_end);

// ---- Responses that the library makes itself ----

// Returns true if the query of the raw target has more than 100 parameters.
// Versions: 0.9.75, possibly later ones.
// Symptom: if the library has no memory for another query parameter, it neither answers nor continues to read. The
// daemon therefore limits the number of parameters. A callback has seven.
// Test: test_ends_too_many_parameters_at_once in tests/e2e/test_limits.py.
// Delete when the library answers every such request itself.
bool mhd_quirk_exceeds_parameters(const char *target);

// Versions: all.
// Symptom: if the library cannot parse a request, it creates an error response without calling the application. Such a
// response would appear neither in the log nor in the metrics. This function reports the response as a refusal, and
// returns true if the library has created one.
// Test: test_counts_one_refusal in tests/e2e/test_unreadable.py.
// Delete when the library reports its own responses.
bool mhd_quirk_report_own_response(struct http_connection *connection);

// The adapter calls this in the unescape callback.
// Versions: before 1.0 (DEBIAN 12).
// Symptom: if the library has no memory for a query parameter, it creates a response while it unescapes the parameters,
// and then forgets that response. The library neither sends the response nor continues to read. This function reports
// the response as a refusal and closes the connection.
// Test: "target and parameters" in test_counts_one_refusal in tests/e2e/test_unreadable.py.
// Delete when the build requires 1.0.
void mhd_quirk_on_unescape(struct http_connection *connection);

// The adapter calls this with each log message of the library.
// Versions: before 1.0 (DEBIAN 12).
// Symptom: the library answers a malformed Content-Length itself, and then answers a second time. Only its log message
// announces the first response, and the message does not name the connection. The next connection that sends in stage
// HEAD is the one that would be answered twice, because the daemon sends its own responses in a later stage.
// mhd_quirk_before_send closes that connection.
// Test: test_malformed_length_closes_no_other_connection in tests/e2e/test_framing.py.
// Delete when the build requires 1.0.
void mhd_quirk_on_log(struct http_connection_set *set, const char *format);

// tls.c calls this before each send. Reports a response that the library has made itself. Returns false if the
// connection must be closed instead of sending, as mhd_quirk_on_log explains.
bool mhd_quirk_before_send(struct http_connection *connection);

// Versions: all.
// Symptom: after a TLS key update, the library assumes that it has read everything, and waits for the kernel to report
// more. Setting SO_RCVLOWAT makes the kernel report bytes that have already arrived. The kernel does not report bytes
// that tls.c has read ahead, so mhd_quirk_reread makes the library read them.
// Test: tests/unit/http/test_quirks.c, and test_answers_a_request_after_a_key_update in tests/e2e/test_tls.py.
// Delete when the library reads until the pull function returns EAGAIN.
void mhd_quirk_on_key_update(struct http_connection *connection);

// The adapter calls this after each call of MHD_run. If a connection has bytes that were read ahead behind a key
// update, suspends and resumes the connection, and returns true. The caller must then call MHD_run again.
bool mhd_quirk_reread(struct http_connection_set *set);

// ---- Connections that the library starts later ----

// Returns flags for MHD_start_daemon.
// Versions: 1.0 and later.
// Symptom: MHD_add_connection only queues the connection. The next MHD_run starts the connection, or closes it without
// calling the notification callback. So the adapter would have to keep a table of such connections. The flag
// MHD_USE_NO_THREAD_SAFETY makes MHD_add_connection start the connection itself, as 0.9.75 always does. Only one thread
// at a time uses an instance of the library, so the flag is safe.
// Test: answers_or_closes_and_works_again in tests/oom/test_http.c.
// Delete this function when the build requires 1.0, and use the flag.
unsigned int mhd_quirk_flags(void);

// ---- Connections that the library closes itself ----

// tls.c calls this after each send. In stage HEAD the daemon has queued no response. Unless the library has made a
// response itself, the bytes sent in this stage are the TLS alert close_notify of a connection that the library closes.
// The same holds for stage IDLE after the first request. The function contains two workarounds for such connections.
//
// Versions: all.
// Symptom: the library closes some connections with a malformed request line without a response and without calling the
// application. The refusal would appear neither in the log nor in the metrics. The library does not report why it
// closes a connection, but GnuTLS knows whether the client has ended the session or sent an invalid record. If the
// client has done neither, this function reports a refusal. It cannot report a request line that arrived in the same
// TLS record as the previous request. Such a connection is still in stage IDLE, and in this stage the library also
// closes connections for other reasons.
//
// Test: test_counts_one_refusal and test_counts_no_client_that_gives_up in tests/e2e/test_unreadable.py.
// Delete when the library reports why it closes a connection.
//
// Versions: 1.0 and later.
// Symptom: if the memory of a connection is exhausted, MHD_connection_update_event_loop_info closes the connection, but
// the library removes closed connections only before it calls that function. The library does not look at the
// connection again until the kernel reports an event. The kernel reports none in two cases. First, the client has
// already sent a FIN: the connection then stays open until a deadline. Second, the library has suspended the connection
// and not read all of its bytes since: the connection then stays open for as long as the loop has an older connection.
// This function marks the connection for mhd_quirk_remove_closed.
//
// Test: "method without an end" in test_counts_one_refusal in tests/e2e/test_unreadable.py, and
// test_closes_a_connection_after_a_fin and test_closes_a_connection_after_two_requests_in_one_record in
// tests/e2e/test_held.py.
// Delete when the library removes such a connection in the same iteration.
void mhd_quirk_after_send(struct http_connection *connection);

// The adapter calls this when the library has removed the connection.
void mhd_quirk_on_removal(struct http_connection *connection);

// The adapter calls this after the last call of MHD_run in an iteration of the loop. Suspends and resumes the
// connections that the library has closed but not removed, so that the next call of MHD_run removes them. Sets
// has_progress, so that the loop does not sleep before that call.
//
// Versions: 1.0 and later.
// Symptom: if the size line of a chunk has an extension and does not fit into the memory of the connection, the library
// makes two error responses and sends neither. The second one makes MHD_connection_update_event_loop_info close the
// connection without a close_notify. The only sign is the log message about the first response. After such a message,
// this function looks for the connection and reports the refusal.
// Test: "extension of the last chunk" in test_counts_one_refusal in tests/e2e/test_unreadable.py.
// Delete is_closed_in_body and has_logged when the library sends the first response.
void mhd_quirk_remove_closed(struct http_connection_set *set);

// ---- Iterations of the loop in which the library does nothing ----

// Returns `timeout_ms`, the library's own timeout, or a longer one if the library can do nothing before the kernel or
// another thread wakes the loop.
//
// Versions: all.
// Symptom: the library keeps a connection in its list of ready connections until gnutls_record_recv returns
// GNUTLS_E_AGAIN, and asks to run again at once while that list is not empty. During a handshake the library calls
// only gnutls_handshake, so a connection whose client is silent stays in the list. The same holds for a connection on
// which the library cannot continue to read, and for a held request that is not suspended. If an iteration of the loop
// has neither received nor sent anything, only the kernel or another thread can announce more work. While a held
// request is not suspended, the loop sleeps at most HELD_POLL_MS, so that the adapter can suspend the connection.
// Test: test_waiting_for_a_handshake_uses_no_cpu and test_closes_a_client_that_reads_no_response in
// tests/e2e/test_deadlines.py.
// Delete when MHD_get_timeout returns 0 only if MHD_run can make progress.
//
// Versions: 0.9.75, possibly later ones.
// Symptom: the library waits forever if its memory is full before it has read a unit such as the size line of a chunk.
// This function reports a refusal and closes the connection.
// Test: test_counts_one_refusal and test_full_memory_uses_no_cpu in tests/e2e/test_unreadable.py.
// Delete when the library refuses every request that does not fit into the memory of a connection.
int64_t mhd_quirk_adjust_timeout(struct http_connection_set *set, int64_t timeout_ms);

// The adapter calls this at the end of each request. If the library has not read all bytes of the connection,
// mhd_quirk_adjust_timeout also examines the idle connections, of which there can be thousands.
void mhd_quirk_on_request_end(struct http_connection *connection);

// Versions: all.
// Symptom: after the handler has completed a request, the library needs more than one call of MHD_run until the
// response is sent. A stopping loop therefore runs the library this many more times before its thread ends. Test:
// test_stop_under_load_loses_no_request in tests/e2e/test_lifecycle.py. Delete when MHD_run sends the response of a
// completed request in the same call.
#define MHD_QUIRK_LAST_TURNS 4
