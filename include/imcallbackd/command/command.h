// The commands of the program. Each gets what stands behind its name and returns the exit status: 0, 1 when it failed
// (said on standard error), 2 when it was called wrongly.
#pragma once

#define EXIT_USAGE 2

struct command {
    const char *name;
    int (*run)(int argc, char **argv); // argv[0] is the command's name
    const char *usage;                 // the command line behind "imcallbackd "
    const char *summary;               // one line
    const char *help;                  // the options
};

extern const struct command commands[]; // ends with a NULL name

int command_serve(int argc, char **argv);
int command_check(int argc, char **argv);
int command_sign(int argc, char **argv);
int command_export(int argc, char **argv);
int command_backup(int argc, char **argv);
int command_forward(int argc, char **argv);
int command_certificate(int argc, char **argv);
