// Parses the options of a command into the caller's arrays, and prints the error messages of a command.
#include "options.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "imcallbackd/command/command.h"

static struct option_spec *find(const char *text, struct option_spec *specs, size_t spec_count)
{
    for (size_t i = 0; i < spec_count; i++) {
        if (strcmp(text, specs[i].name) == 0 || (specs[i].letter && strcmp(text, specs[i].letter) == 0))
            return &specs[i];
    }
    return NULL;
}

int options_wrong_usage(const char *command, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "imcallbackd %s: ", command);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "; see imcallbackd %s --help\n", command);
    return EXIT_USAGE;
}

int command_failed(const char *command, const struct error *error)
{
    fprintf(stderr, "imcallbackd %s: %s\n", command, error->text);
    return 1;
}

static int refuse(const char *command, const char *what, const char *word, const char *why)
{
    (void)options_wrong_usage(command, "%s '%s'%s", what, word, why);
    return -EINVAL;
}

int options_read(int argc, char **argv, struct option_spec *specs, size_t spec_count)
{
    struct option_spec *unnamed = find("", specs, spec_count);
    struct option_spec *current = unnamed; // the option that takes the next value

    for (int i = 1; i < argc; i++) {
        struct option_spec *named = find(argv[i], specs, spec_count);

        if (!named && argv[i][0] == '-')
            return refuse(argv[0], "unknown option", argv[i], "");
        if (named && named != unnamed) {
            assert(named->count <= named->max_values);
            if (named->count == named->max_values)
                return refuse(argv[0], "option", argv[i], " is given too many times");
            if (!named->values)
                named->count++;
            else if (i + 1 == argc || find(argv[i + 1], specs, spec_count))
                return refuse(argv[0], "option", argv[i], " requires a value");
            current = named->values ? named : unnamed;
            continue;
        }
        if (!current || current->count == current->max_values)
            current = unnamed;
        if (!current || current->count == current->max_values)
            return refuse(argv[0], "unexpected argument", argv[i], "");
        current->values[current->count++] = argv[i];
    }
    return 0;
}
