// Reads command lines with options of the form `--name VALUE...`, flags that take no value, and arguments without a
// name.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/error.h"

struct option_spec {
    const char *name;    // "--app"; "" for arguments without a name
    const char *letter;  // "-c"; NULL: no short form
    const char **values; // array of max_values elements for the values, in order; NULL for a flag
    size_t max_values;   // number of values, or of repetitions of a flag, that are accepted
    size_t count;        // number of values, or of repetitions of a flag, that were given
};

// Reads argv[1] and what follows; argv[0] is the name of the command. An option takes the arguments up to the next
// option as its values, at least one and at most max_values. On wrong usage, the function prints one line to standard
// error and returns -EINVAL.
int options_read(int argc, char **argv, struct option_spec *specs, size_t spec_count) MUST_CHECK;

// Prints "imcallbackd COMMAND: PROBLEM; see imcallbackd COMMAND --help" to standard error. Returns EXIT_USAGE.
int options_wrong_usage(const char *command, const char *format, ...) PRINTF_LIKE(2, 3);

// Prints "imcallbackd COMMAND: ERROR" to standard error. Returns 1, the exit status of a failed command.
int command_failed(const char *command, const struct error *error);
