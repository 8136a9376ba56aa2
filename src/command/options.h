// Command lines of the form --name value.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/error.h"

struct option_spec {
    const char *name;    // "--app"
    const char *letter;  // "-c", or NULL
    const char **values; // gets what was given, in order
    size_t max_values;   // more are an error
    size_t count;        // how many were given
};

// Reads argv[1…]. A value list goes on until the next option. On wrong usage says so in one line on standard error and
// returns -EINVAL.
int options_read(int argc, char **argv, struct option_spec *specs, size_t spec_count) MUST_CHECK;
