// imcallbackd export: prints recorded events as JSON Lines. The first signal ends the export after the current line.
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "imcallbackd/base/parse.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/store/reader.h"
#include "json_lines.h"
#include "options.h"

static volatile sig_atomic_t stopping;

static void on_signal(int number)
{
    (void)number;
    stopping = 1;
}

// The first signal lets the export finish its line. A second signal ends the process at once, in case the reader of the
// output never reads the line.
static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};

    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
}

// Without this check, an export that writes nothing would not notice that the reader closed the pipe.
static bool is_pipe_closed(int fd)
{
    struct pollfd output = {.fd = fd};

    return poll(&output, 1, 0) > 0 && (output.revents & POLLERR) != 0;
}

static int output_failed(const struct json_lines *lines, int64_t last, struct error *error)
{
    // A program such as head closes the pipe when it has read enough.
    if (lines->code == -EPIPE)
        return 0;
    return error_set(
        error, -lines->code,
        "standard output: cannot be written: %s; the last line may be incomplete, and lines up to id %" PRId64
        " may be missing",
        strerror(-lines->code), last);
}

static int export_events(struct store_reader *reader, int64_t last, bool follow, struct error *error)
{
    static struct json_lines lines = {.fd = STDOUT_FILENO};
    const struct recorded_row *rows;
    size_t count;

    for (;;) {
        int r = store_reader_read(reader, STREAM_GROUPS, last, &rows, &count, error);

        if (r < 0)
            return r;
        for (size_t i = 0; i < count && !stopping; i++) {
            json_lines_add(&lines, rows[i].id, &rows[i].event.group);
            last = rows[i].id;
        }
        if (json_lines_flush(&lines) < 0)
            return output_failed(&lines, last, error);
        if (stopping)
            return follow ? 0
                          : error_set(error, EINTR,
                                      "stopped by a signal after id %" PRId64 "; continue with --since %" PRId64, last,
                                      last);
        if (count > 0)
            continue;
        if (!follow || is_pipe_closed(lines.fd))
            return 0;
        store_reader_wait(reader);
    }
}

static int export_from(const char *config_path, int64_t since, bool follow, struct error *error)
{
    struct config config = {0};
    struct store_reader *reader = NULL;
    int r = config_read(config_path, &config, error);

    if (r == 0)
        r = store_reader_open(config.store_database.text, &reader, error);
    if (r == 0)
        r = export_events(reader, since, follow, error);
    // A network file system may report only on close that the file is too large.
    if (r == 0 && close(STDOUT_FILENO) < 0)
        r = error_set(error, errno, "standard output: cannot be written: %s", strerror(errno));
    store_reader_close(reader);
    config_finish(&config);
    return r;
}

int command_export(int argc, char **argv)
{
    const char *path = NULL, *since = NULL;
    struct option_spec specs[] = {
        {"--config", "-c", &path, 1, 0},
        {"--since", NULL, &since, 1, 0},
        {"--follow", NULL, NULL, 1, 0},
    };
    struct error error;
    uint64_t id = 0;

    if (options_read(argc, argv, specs, sizeof specs / sizeof specs[0]) < 0)
        return EXIT_USAGE;
    if (!path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    if (since && parse_decimal(since, strlen(since), INT64_MAX, &id) < 0)
        return options_wrong_usage(argv[0], "--since requires the id of an event, a decimal number");
    handle_signals();
    if (export_from(path, (int64_t)id, specs[2].count > 0, &error) < 0) {
        fprintf(stderr, "imcallbackd export: %s\n", error.text);
        return 1;
    }
    return 0;
}
