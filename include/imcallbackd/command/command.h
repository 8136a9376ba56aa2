// The commands of the program, such as `serve`. main() runs one of them and returns its exit status: 0; 1 after a
// failure, which the command has reported on standard error; EXIT_USAGE if the command line is wrong.
#pragma once

#define EXIT_USAGE 2

struct command {
    const char *name;
    int (*run)(int argc, char **argv); // argv[0] is the name of the command
    const char *usage;                 // the command line without the leading "imcallbackd "
    const char *summary;               // one sentence
    const char *help;                  // one line per option
};

extern const struct command commands[]; // ends with a NULL name

int command_serve(int argc, char **argv);
int command_check(int argc, char **argv);
int command_sign(int argc, char **argv);
int command_export(int argc, char **argv);
int command_backup(int argc, char **argv);
int command_forward(int argc, char **argv);
int command_certificate(int argc, char **argv);
