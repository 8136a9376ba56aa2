// Implements one request as a state machine. The adapter calls a function for each event of a request: the target, a
// header, the end of the head, data, the end of the body, the completion by the handler, and the end of the request. If
// the event decides how the connection continues, the function returns a verdict, which the adapter carries out. This
// file depends on neither libmicrohttpd nor the loop; it calls the handler and changes the stage of the connection.

//   start ─► receive_header* ─► receive_head ─► receive_data* ─► receive_end ─► poll* ─► take_response ─► finish
//
// Any step that returns HTTP_VERDICT_ANSWER leads to take_response. All functions run on the loop's thread, or on the
// thread that destroys the loop after that thread has ended.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connection.h"
#include "forwarded_for.h"
#include "framing.h"

enum http_verdict {
    HTTP_VERDICT_CONTINUE, // continue to read
    HTTP_VERDICT_HOLD,     // keep the request open, and call http_request_poll in each iteration of the loop
    HTTP_VERDICT_SUSPEND,  // keep the request open, and call http_request_poll after its completion
    HTTP_VERDICT_ANSWER,   // send the response that http_request_take_response returns
    HTTP_VERDICT_CLOSE,    // close the connection without a response
};

enum http_phase {
    HTTP_PHASE_TARGET,    // the request line has arrived
    HTTP_PHASE_BODY,      // the server reads the body, and drops it if there is a response already
    HTTP_PHASE_PENDING,   // the handler has the complete request
    HTTP_PHASE_COMPLETED, // the handler has completed the request
    HTTP_PHASE_ANSWERED,
};

// One request and its response.
struct http_exchange {
    struct http_request request; // the first member, so that a pointer to it is also a pointer to the exchange
    struct http_connection *connection;
    enum http_phase phase;
    const char *target; // raw, in the arena; NULL if memory was exhausted
    struct framing framing;
    struct forwarded_for forwarded_for;
    char forwarded_address[ADDRESS_TEXT_BYTES]; // request.remote_address, if X-Forwarded-For names the client
    bool needs_on_end;                          // handler.on_head was called
    bool closes_connection;                     // after the response, whatever its status is
    bool suspended;                             // http_request_poll has returned HTTP_VERDICT_SUSPEND
    size_t body_in_flight;                      // bytes that this request has added to shared.body_in_flight
    int64_t complete_us;                        // monotonic time at which handler.on_body was called; 0: not yet
    struct http_response *response;             // not queued yet; while PENDING, the completing thread sets this field
    struct http_exchange *next;                 // the next exchange in the loop's inbox
};

// Starts a request whose request line has arrived, and copies the raw target. Returns NULL if memory is exhausted. If
// only the copy fails, the later call of http_request_receive_head returns HTTP_VERDICT_CLOSE. The connection owns the
// request until http_request_finish.
struct http_exchange *http_request_start(struct http_connection *connection, const char *target);

// Records a fault that makes the request unacceptable, unless there is one already. `fault` is an English sentence and
// must outlive the request. The call is allowed only before receive_head.
void http_request_set_fault(struct http_exchange *exchange, const char *fault);

// Adds one header. Neither `name` nor `value` needs a terminating NUL. The call is allowed only before receive_head.
void http_request_receive_header(struct http_exchange *exchange, const char *name, size_t name_length,
                                 const char *value, size_t value_length);

// All headers have arrived. Calls handler.on_head unless the server itself refuses the request.
enum http_verdict http_request_receive_head(struct http_exchange *exchange, const char *method, const char *version);

// Stores a piece of the body, 1 byte or more, or drops the piece if there is a response already. If the body exceeds a
// limit or memory is exhausted, refuses the request and frees the body.
void http_request_receive_data(struct http_exchange *exchange, const char *data, size_t length);

// The body is complete. Passes the request to the handler, unless there is a response already or the server is
// stopping.
enum http_verdict http_request_receive_end(struct http_exchange *exchange);

// Decides how to continue with a held request: HTTP_VERDICT_ANSWER if the handler has completed it with a response,
// HTTP_VERDICT_CLOSE if the handler has completed it without one, and HTTP_VERDICT_HOLD or, once per request,
// HTTP_VERDICT_SUSPEND if the request is still pending.
enum http_verdict http_request_poll(struct http_exchange *exchange);

// Ends phase PENDING. The loop calls this when it has received the completion of the request.
void http_request_unhold(struct http_exchange *exchange);

// Hands the response over to the caller, frees the body, and moves the connection to stage ANSWER. Sets *ret_closing to
// true if the response must announce Connection: close. The call is allowed once per request, after
// HTTP_VERDICT_ANSWER.
struct http_response *http_request_take_response(struct http_exchange *exchange, bool *ret_closing);

// Ends and frees the connection's current request in any phase but PENDING, answered or not, and moves the connection
// to stage IDLE. Does nothing if there is no request.
void http_request_finish(struct http_connection *connection);

// Counts and logs why a connection ends without a response from the handler, at most once per connection. Does nothing
// if the current request has a response that the adapter has not taken yet.
void http_request_report_fault(struct http_connection *connection, const char *fault);
