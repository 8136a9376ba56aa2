// Classifies and explains the failures that libcurl reports for a request.
#pragma once

#include <curl/curl.h>

#include "acceptance.h"
#include "imcallbackd/base/error.h"

// Returns the cause for the metrics. `code` is not CURLE_OK.
enum outcome transfer_failure_judge(CURL *easy, CURLcode code);

// Returns what the operator can do, as the end of a message. `code` is CURLE_OK if the answer itself is the failure.
// `status` is the HTTP status, or 0 if it does not matter.
const char *transfer_failure_remedy(CURLcode code, enum outcome outcome, int status);

// Sets the error to the text of the failure and a remedy. `why` is the text in the error buffer of the handle. For a
// failed connection attempt, adds the kernel's reason, which libcurl's text lacks. Returns -failure.
int transfer_failure_explain(CURL *easy, CURLcode code, const char *why, int failure, struct error *error);
