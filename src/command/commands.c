#include <stddef.h>

#include "imcallbackd/command/command.h"

#define CONFIG_HELP "  -c, --config FILE   the configuration, see imcallbackd.conf(5)\n"

const struct command commands[] = {
    {"serve", command_serve, "serve -c FILE", "Receives callbacks until SIGTERM or SIGINT.", CONFIG_HELP},
    {"check", command_check, "check -c FILE", "Checks the configuration and all that it names, and prints it.",
     CONFIG_HELP},
    {"sign", command_sign, "sign -c FILE [--app N] [--time T]",
     "Prints Sign and RequestTime, to be added to the URL of a callback.",
     CONFIG_HELP "  --app N             the SDKAppID; needed when several are configured\n"
                 "  --time T            the RequestTime in unix seconds instead of now\n"},
    {"export", command_export, "export -c FILE [--since ID] [--follow]",
     "Prints recorded events as JSON, one a line, in the order of recording.",
     CONFIG_HELP "  --since ID          begin behind this id instead of at the first event\n"
                 "  --follow            go on as events are recorded, until SIGTERM or SIGINT\n"},
    {"backup", command_backup, "backup -c FILE TARGET", "Copies the database while the daemon records.",
     CONFIG_HELP "  TARGET              the copy, which must not be there yet\n"},
    {"forward", command_forward, "forward -c FILE [--verify ...]",
     "Ships what was recorded into the database of [forward], until SIGTERM or SIGINT.",
     CONFIG_HELP "  --verify            compare what was shipped with what is there instead, and end\n"
                 "  --since T           with --verify: what was received from this time on, in unix seconds\n"
                 "  --until T           with --verify: what was received before this time, in unix seconds\n"},
    {"certificate", command_certificate, "certificate --host NAME... --out DIR",
     "Writes a self-signed certificate for trying things out.",
     "  --host NAME...      host names and addresses that the certificate is for\n"
     "  --out DIR           the directory, made if need be, for certificate.pem and key.pem\n"},
    {NULL, NULL, NULL, NULL, NULL},
};
