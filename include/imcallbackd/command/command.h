// Declares the commands of the program, such as `serve`. main() runs one of them and returns its exit status: 0 on
// success; 1 after a failure, which the command has reported on standard error, if `forward --verify` found
// differences, or if the endpoint did not accept all events of `deliver --replay`; EXIT_USAGE if the command line is
// wrong. argv[0] is the name of the command.
#pragma once

#include <stdbool.h>

#define EXIT_USAGE 2

extern const bool command_has_systemd; // false in a build with -DIMCALLBACKD_SYSTEMD=OFF

// Prints the version, the optional parts of this build and the versions of the libraries to standard output.
void command_print_version(void);

int command_serve(int argc, char **argv);
int command_check(int argc, char **argv);
int command_health(int argc, char **argv);
int command_sign(int argc, char **argv);
int command_export(int argc, char **argv);
int command_backup(int argc, char **argv);
int command_forward(int argc, char **argv);
int command_deliver(int argc, char **argv);
int command_certificate(int argc, char **argv);
