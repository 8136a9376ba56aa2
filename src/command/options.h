// Command lines of the form --name value, with flags that have none and words that stand alone.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/error.h"

struct option_spec {
    const char *name;    // "--app"; "" for words that stand alone
    const char *letter;  // "-c", or NULL
    const char **values; // gets what was given, in order; NULL for a flag
    size_t max_values;   // more are an error
    size_t count;        // how many were given
};

// Reads argv[1…]. A value list goes on until the next option. On wrong usage says so in one line on standard error and
// returns -EINVAL.
int options_read(int argc, char **argv, struct option_spec *specs, size_t spec_count) MUST_CHECK;
