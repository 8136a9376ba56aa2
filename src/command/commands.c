#include <stddef.h>

#include "imcallbackd/command/command.h"

#define CONFIG_HELP "  -c, --config FILE   the configuration, see conf/imcallbackd.conf\n"

const struct command commands[] = {
    {"serve", command_serve, "serve -c FILE", "Receives callbacks until SIGTERM or SIGINT.", CONFIG_HELP},
    {"check", command_check, "check -c FILE", "Checks the configuration and all that it names, and prints it.",
     CONFIG_HELP},
    {"sign", command_sign, "sign -c FILE [--app N] [--time T]", "Prints Sign and RequestTime for a curl URL.",
     CONFIG_HELP "  --app N             the SDKAppID; needed when several are configured\n"
                 "  --time T            the RequestTime in unix seconds instead of now\n"},
    {"certificate", command_certificate, "certificate --host NAME... --out DIR",
     "Writes a self-signed certificate for trying things out.",
     "  --host NAME...      host names and addresses that the certificate is for\n"
     "  --out DIR           where certificate.pem and key.pem are written; it is made if need be\n"},
    {NULL, NULL, NULL, NULL, NULL},
};
