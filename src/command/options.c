#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct option_spec *find(const char *text, struct option_spec *specs, size_t spec_count)
{
    for (size_t i = 0; i < spec_count; i++) {
        if (strcmp(text, specs[i].name) == 0 || (specs[i].letter && strcmp(text, specs[i].letter) == 0))
            return &specs[i];
    }
    return NULL;
}

static int wrong_usage(const char *command, const char *what, const char *text)
{
    fprintf(stderr, "imcallbackd %s: %s '%s'; see imcallbackd %s --help\n", command, what, text, command);
    return -EINVAL;
}

int options_read(int argc, char **argv, struct option_spec *specs, size_t spec_count)
{
    struct option_spec *current = NULL, *alone = find("", specs, spec_count);

    for (int i = 1; i < argc; i++) {
        struct option_spec *named = find(argv[i], specs, spec_count);

        if (!named && argv[i][0] == '-')
            return wrong_usage(argv[0], "there is no option", argv[i]);
        if (named && named != alone) {
            current = named->values ? named : NULL;
            if (named->count == named->max_values)
                return wrong_usage(argv[0], "nothing is done with another", argv[i]);
            if (!named->values)
                named->count++;
            else if (i + 1 == argc || find(argv[i + 1], specs, spec_count))
                return wrong_usage(argv[0], "a value must follow", argv[i]);
            continue;
        }
        if (!current || current->count == current->max_values)
            current = alone;
        if (!current || current->count == current->max_values)
            return wrong_usage(argv[0], "nothing is done with", argv[i]);
        current->values[current->count++] = argv[i];
    }
    return 0;
}
