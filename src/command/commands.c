// The table of commands: what --help prints, and which function runs. The order is that of --help.
#include <stddef.h>

#include "imcallbackd/command/command.h"

#define CONFIG_HELP "  -c, --config FILE   the configuration file, see imcallbackd.conf(5)\n"

const struct command commands[] = {
    {"serve", command_serve, "serve -c FILE", "Receives callbacks until SIGTERM or SIGINT.", CONFIG_HELP},
    {"check", command_check, "check -c FILE",
     "Validates the configuration and every file that it names, and prints the configuration.", CONFIG_HELP},
    {"sign", command_sign, "sign -c FILE [--app N] [--time T]",
     "Prints Sign and RequestTime for the URL of a callback.",
     CONFIG_HELP "  --app N             the SDKAppID; required if several apps are configured\n"
                 "  --time T            the RequestTime in Unix seconds; default: the current time\n"},
    {"export", command_export, "export -c FILE [--since ID] [--follow]",
     "Prints recorded events as JSON, one per line, in the order of recording.",
     CONFIG_HELP "  --since ID          start after this id instead of at the first event\n"
                 "  --follow            continue as events are recorded, until SIGTERM or SIGINT\n"},
    {"backup", command_backup, "backup -c FILE TARGET", "Copies the database, even while the daemon is running.",
     CONFIG_HELP "  TARGET              the file to create; it must not exist yet\n"},
    {"forward", command_forward, "forward -c FILE [--verify ...]",
     "Ships recorded events to the database of [forward] until SIGTERM or SIGINT.",
     CONFIG_HELP "  --verify            compare the shipped rows with the destination instead, and exit\n"
                 "  --since T           with --verify: only events received at or after this time, in Unix seconds\n"
                 "  --until T           with --verify: only events received before this time, in Unix seconds\n"},
    {"certificate", command_certificate, "certificate --host NAME... --out DIR",
     "Writes a self-signed certificate for testing.",
     "  --host NAME...      host names and IP addresses that the certificate covers\n"
     "  --out DIR           the directory for certificate.pem and key.pem; created if missing\n"},
    {NULL, NULL, NULL, NULL, NULL},
};
