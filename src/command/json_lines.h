// JSON Lines: one object a line for each recorded event, in UTF-8. Control characters are escaped, so no value breaks a
// line; what is not UTF-8 becomes U+FFFD.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/reader.h"

struct json_lines {
    int fd;
    int code; // 0, or the -errno with which writing failed; from then on nothing is written
    size_t length;
    char bytes[65536]; // not written yet
};

// Members are named as the columns of destroyed_group are; "members" has the accounts in the order in which they came.
void json_lines_add(struct json_lines *lines, int64_t id, const struct destroyed_group *group);

// Writes what is left. Returns the code.
int json_lines_flush(struct json_lines *lines) MUST_CHECK;
