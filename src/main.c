// Finds the command and runs it, or prints help. Everything else is in the command module.
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/forward/forward.h"

static void print_help(FILE *file)
{
    fprintf(file, "imcallbackd records the callback of disbanded groups: HTTPS in, SQLite out.\n\nUsage:\n");
    for (const struct command *command = commands; command->name; command++)
        fprintf(file, "  imcallbackd %s\n      %s\n", command->usage, command->summary);
    fprintf(file, "  imcallbackd --version\n"
                  "  imcallbackd --help, imcallbackd COMMAND --help\n\n"
                  "See imcallbackd(8) and imcallbackd.conf(5).\n");
}

static void print_command_help(const struct command *command)
{
    printf("Usage: imcallbackd %s\n\n%s\n\n%s", command->usage, command->summary, command->help);
}

// Opens /dev/null on every closed descriptor from 0 to 2. Otherwise the next opened file, such as the database, would
// get the number of standard error, and the log would overwrite it. Returns false if /dev/null cannot be opened.
static bool occupy_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static int run(const struct command *command, int argc, char **argv)
{
    int code = command->run(argc, argv);

    log_finish();
    return code;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (!occupy_standard_descriptors())
        return 1;
    if (strcmp(name, "--version") == 0) {
        printf("imcallbackd " IMCALLBACKD_VERSION "\nforward: %s\n", forward_is_built ? "yes" : "no");
        return 0;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    for (const struct command *command = commands; command->name; command++) {
        if (strcmp(name, command->name) != 0)
            continue;
        for (int i = 2; i < argc; i++) {
            if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
                print_command_help(command);
                return 0;
            }
        }
        return run(command, argc - 1, argv + 1);
    }
    if (*name == '\0')
        fprintf(stderr, "imcallbackd: a command is required; see imcallbackd --help\n");
    else
        fprintf(stderr, "imcallbackd: unknown command '%s'; see imcallbackd --help\n", name);
    return EXIT_USAGE;
}
