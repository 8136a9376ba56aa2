// The two forms of the status: a page for people and JSON for programs. Both have the same facts.
#pragma once

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/status/status.h"

#define PAGE_CONTENT_TYPE        "text/html; charset=utf-8"
#define STATUS_JSON_CONTENT_TYPE "application/json; charset=utf-8"

// The Content-Security-Policy of the page. It allows the page's own style and script, named by their hashes, and
// requests to the same address.
extern const char page_security_policy[];

// Append the page and the JSON. Return 0 or -ENOMEM. After -ENOMEM, part of the text may have been appended.
int page_print(const struct status *status, struct buffer *text) MUST_CHECK;
int status_json_print(const struct status *status, struct buffer *text) MUST_CHECK;
