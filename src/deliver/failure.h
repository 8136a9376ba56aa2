// Decides what a failed request means, and what an operator can do about it, without side effects. Each cause has one
// row in a table of failure.c.
#pragma once

#include <stdbool.h>

#include "acceptance.h"
#include "imcallbackd/base/error.h"

// What is known about a request without a complete answer, or about a connection that could not be established.
struct transfer {
    int code;         // why the transfer ended, a CURLcode of libcurl
    const char *text; // libcurl's description of the failure; "": there is none
    int cause;        // errno value of the last connection attempt; 0: unknown
    int status;       // HTTP status of the incomplete answer; 0: none has arrived
    bool was_sent;    // whether a part of the request was sent
    bool uses_tls;
};

// Returns the outcome, and fills in the error with a description and a remedy.
enum outcome failure_judge(const struct transfer *transfer, struct error *why);

// Fills in the error for a complete answer with this status that does not accept the event.
void failure_explain_answer(int status, enum outcome outcome, struct error *why);
