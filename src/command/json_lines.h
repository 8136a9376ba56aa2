// JSON Lines: one object in one line for each recorded event, in UTF-8. Control characters are escaped, so no value
// breaks a line. Bytes that are not UTF-8 become U+FFFD.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/store/reader.h"

struct json_lines {
    int fd;
    int code;      // 0, or the -errno of a failed write, after which nothing more is written
    size_t length; // number of bytes that are not written yet
    char bytes[65536];
};

// Adds an object whose members have the names of the columns of destroyed_group. Its last member, "members", is an
// array of the accounts in the order of the callback.
void json_lines_add(struct json_lines *lines, int64_t id, const struct destroyed_group *group);

// Writes the remaining bytes. Returns lines->code.
int json_lines_flush(struct json_lines *lines) MUST_CHECK;
