// Finds the command in a table and runs it, or prints the help or the version. The command module implements the
// commands.
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/command/command.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv); // argv[0] is the name of the command
    const char *usage;                 // the command line without the leading "imcallbackd "
    const char *summary;               // one sentence
    const char *help;                  // one line per option or argument
};

#define CONFIG_HELP "  -c, --config FILE   the configuration file, see imcallbackd.conf(5)\n"

// The commands are in the order of --help. The last entry has the name NULL.
static const struct command commands[] = {
    {"serve", command_serve, "serve -c FILE", "Receives callbacks until SIGTERM or SIGINT.", CONFIG_HELP},
    {"check", command_check, "check -c FILE", "Validates the configuration and every file it names, and prints it.",
     CONFIG_HELP},
    {"health", command_health, "health -c FILE [SERVICE]", "Asks a running service whether it is healthy.",
     CONFIG_HELP "  SERVICE             serve, forward or deliver; default: serve\n"},
    {"sign", command_sign, "sign -c FILE [--app N] [--time T]",
     "Prints Sign and RequestTime for the URL of a callback.",
     CONFIG_HELP "  --app N             the SDKAppID; required if several apps are configured\n"
                 "  --time T            the RequestTime in Unix seconds; default: the current time\n"},
    {"export", command_export, "export -c FILE [--since ID] [--follow]",
     "Prints recorded events as JSON, one per line, in the order of recording.",
     CONFIG_HELP "  --since ID          start after this id instead of at the first event\n"
                 "  --follow            continue as events are recorded, until SIGTERM or SIGINT\n"},
    {"backup", command_backup, "backup -c FILE TARGET", "Copies the database, also while the daemon is running.",
     CONFIG_HELP "  TARGET              the file to create; it must not exist yet\n"},
    {"forward", command_forward, "forward -c FILE [--verify ...]",
     "Ships recorded events to the database of [forward] until SIGTERM or SIGINT.",
     CONFIG_HELP "  --verify            compare the shipped rows with the destination instead, and exit\n"
                 "  --since T           with --verify: only events received at or after this time, in Unix seconds\n"
                 "  --until T           with --verify: only events received before this time, in Unix seconds\n"},
    {"deliver", command_deliver, "deliver -c FILE [--start-at now | --replay FROM[-TO]]",
     "Sends recorded events to the endpoint of [deliver] until SIGTERM or SIGINT.",
     CONFIG_HELP "  --start-at now      skip the events recorded so far; only at the first start\n"
                 "  --replay FROM[-TO]  send the events with these ids once more, and exit\n"},
    {"certificate", command_certificate, "certificate --host NAME... --out DIR",
     "Writes a self-signed certificate for testing.",
     "  --host NAME...      host names and IP addresses that the certificate covers\n"
     "  --out DIR           the directory for certificate.pem and key.pem; created if missing\n"},
    {NULL, NULL, NULL, NULL, NULL},
};

static void print_help(FILE *file)
{
    fprintf(file, "imcallbackd records the callback of disbanded groups: HTTPS in, SQLite out.\n\nUsage:\n");
    for (const struct command *command = commands; command->name; command++)
        fprintf(file, "  imcallbackd %s\n      %s\n", command->usage, command->summary);
    fprintf(file, "  imcallbackd --version\n"
                  "  imcallbackd --help, imcallbackd COMMAND --help\n\n"
                  "See imcallbackd(8) and imcallbackd.conf(5).\n");
}

// Opens /dev/null on every closed descriptor from 0 to 2. Otherwise a file that is opened later, such as the database,
// could get the number of standard error, and the log would be written into that file. Returns false if /dev/null
// cannot be opened.
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
    int code;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            printf("Usage: imcallbackd %s\n\n%s\n\n%s", command->usage, command->summary, command->help);
            return 0;
        }
    }
    code = command->run(argc, argv);
    log_finish();
    return code;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    if (!occupy_standard_descriptors())
        return 1;
    if (strcmp(name, "--version") == 0) {
        command_print_version();
        return 0;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    for (const struct command *command = commands; command->name; command++) {
        if (strcmp(name, command->name) == 0)
            return run(command, argc - 1, argv + 1);
    }
    if (*name == '\0')
        fprintf(stderr, "imcallbackd: a command is required; see imcallbackd --help\n");
    else
        fprintf(stderr, "imcallbackd: unknown command '%s'; see imcallbackd --help\n", name);
    return EXIT_USAGE;
}
