// One request as a state machine. The adapter reports what arrives: the target, the head, data, the end of the body,
// and the completion by the handler. Each call returns a verdict, which the adapter carries out. This file depends on
// neither libmicrohttpd nor the loop; it calls the handler and changes the stage of the connection.

//   start ─► receive_header* ─► receive_head ─► receive_data* ─► receive_end ─► resume ─► take_response ─► finish
//
// A verdict of HTTP_VERDICT_ANSWER leads to take_response from any step. All functions run on the loop's thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "connection.h"
#include "forwarded_for.h"
#include "framing.h"

enum http_verdict {
    HTTP_VERDICT_CONTINUE, // continue to read
    HTTP_VERDICT_HOLD,     // suspend the connection until the handler completes the request, then call resume
    HTTP_VERDICT_ANSWER,   // send the response that http_request_take_response returns
    HTTP_VERDICT_CLOSE,    // close the connection without a response
};

enum http_phase {
    HTTP_PHASE_TARGET,  // the request line has arrived
    HTTP_PHASE_BODY,    // the server reads the body, or drops the body after it has refused the head
    HTTP_PHASE_PENDING, // the handler has the complete request
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
    bool closes_connection;                     // regardless of the response
    size_t body_in_flight;                      // bytes that this request has added to shared.body_in_flight
    int64_t complete_us;                        // when the handler got the complete body, monotonic; 0: not yet
    struct http_response *response;             // not queued yet; while PENDING, the completing thread sets this field
    struct http_exchange *next;                 // the next exchange in the loop's inbox
};

// The request line has arrived, with this raw target. Returns NULL if memory is exhausted.
struct http_exchange *http_request_start(struct http_connection *connection, const char *target);

// Records a fault that makes the request unacceptable, unless there is one already. The call is allowed only before
// receive_head.
void http_request_set_fault(struct http_exchange *exchange, const char *fault);

// Adds one header. Neither text needs a terminating NUL. The call is allowed only before receive_head.
void http_request_receive_header(struct http_exchange *exchange, const char *name, size_t name_length,
                                 const char *value, size_t value_length);

// All headers have arrived. Asks the handler unless the server itself refuses the request.
enum http_verdict http_request_receive_head(struct http_exchange *exchange, const char *method, const char *version);

// Stores a piece of the body, 1 byte or more, or drops the piece if the request is refused.
void http_request_receive_data(struct http_exchange *exchange, const char *data, size_t length);

// The body is complete.
enum http_verdict http_request_receive_end(struct http_exchange *exchange);

// The loop has received the completion of a held request. The adapter resumes the connection and then calls
// http_request_resume.
void http_request_unhold(struct http_exchange *exchange);
enum http_verdict http_request_resume(struct http_exchange *exchange);

// Hands the response over to the caller, once, and frees the body. Sets *ret_closing to whether the response must
// announce Connection: close.
struct http_response *http_request_take_response(struct http_exchange *exchange, bool *ret_closing);

// Ends the connection's current request in any phase, answered or not. Does nothing if there is no request.
void http_request_finish(struct http_connection *connection);

// Counts and logs why a connection ends without a response of the handler, at most once per connection. Does nothing if
// the current request has a response that is not sent yet.
void http_request_report_fault(struct http_connection *connection, const char *fault);
