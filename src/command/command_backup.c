// `backup` copies the database and shows the progress if standard error is a terminal. SIGTERM, SIGINT and SIGHUP
// cancel the backup.
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "config.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/store/backup.h"
#include "options.h"

// The progress appears after SHOW_AFTER_MS and is updated at most every SHOW_EVERY_MS.
#define SHOW_AFTER_MS 1000
#define SHOW_EVERY_MS 200

struct progress {
    int64_t show_at_ms; // monotonic time of the next output; INT64_MAX: standard error is not a terminal
    bool shown;
};

static void on_signal(int number)
{
    (void)number;
    backup_cancel();
}

static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    (void)signal(SIGXFSZ, SIG_IGN);
}

static void show_progress(void *context, uint64_t done_bytes, uint64_t total_bytes)
{
    struct progress *progress = context;
    int64_t now_ms = clock_monotonic_ms();

    if (now_ms < progress->show_at_ms)
        return;
    fprintf(stderr, "\r%s %" PRIu64 " of %" PRIu64 " MiB", done_bytes < total_bytes ? "copied" : "checking the copy;",
            done_bytes >> 20, total_bytes >> 20);
    progress->shown = true;
    progress->show_at_ms = now_ms + SHOW_EVERY_MS;
}

static int back_up(const char *config_path, const char *target, struct error *error)
{
    struct progress progress = {.show_at_ms = isatty(STDERR_FILENO) ? clock_monotonic_ms() + SHOW_AFTER_MS : INT64_MAX};
    struct backup_progress callback = {show_progress, &progress};
    struct config config = {0};
    int r = config_read(config_path, &config, error);

    if (r == 0)
        r = backup_make(config.store_database.text, target, &callback, error);
    if (progress.shown)
        fputc('\n', stderr);
    config_finish(&config);
    return r;
}

int command_backup(int argc, char **argv)
{
    const char *path = NULL, *target = NULL;
    struct option_spec specs[] = {{"--config", "-c", &path, 1, 0}, {"", NULL, &target, 1, 0}};
    struct error error;

    if (options_read(argc, argv, specs, sizeof specs / sizeof specs[0]) < 0)
        return EXIT_USAGE;
    if (!path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    if (!target || *target == '\0')
        return options_wrong_usage(argv[0], "TARGET, the name of the copy, is required");
    handle_signals();
    return back_up(path, target, &error) < 0 ? command_failed(argv[0], &error) : 0;
}
