// Reads an answer of the protocol, as another handler of the callback sends it.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/error.h"

// Sets *ret_fails to true if the body starts with a JSON object whose ActionStatus is FAIL. Any other body, whether it
// is JSON or not, reports no failure, and neither does a body whose parsed tree would exceed 16 MiB. Returns 0 or
// -ENOMEM.
int answer_reports_failure(const char *body, size_t length, bool *ret_fails) MUST_CHECK;
