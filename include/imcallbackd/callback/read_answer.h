// Reads an answer of the protocol. `deliver` uses this for the answers of the application's endpoint.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/error.h"

// Sets *ret_fails to true if the body starts with a JSON object whose ActionStatus is FAIL. Sets *ret_fails to false
// for any other body, and also if json_text_scan() finds a fault anywhere in the body, or if parsing would take more
// than 16 MiB. Returns 0 or -ENOMEM.
int answer_reports_failure(const char *body, size_t length, bool *ret_fails) MUST_CHECK;
