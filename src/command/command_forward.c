// Implements `forward` and `forward --verify`. The forward module does the work, on the main thread.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/base/parse.h"
#include "imcallbackd/command/command.h"
#include "options.h"
#include "outbound_service.h"
#include "settings.h"

static void warn(const char *sentence)
{
    log_warning("%s", sentence);
}

static void print(const char *sentence)
{
    puts(sentence);
}

static int run_service(void *context, struct error *error)
{
    (void)error;
    forward_run(context);
    return 0;
}

struct invocation {
    const char *path;
    bool verify;
    uint64_t since_s, until_s;
};

static int forward(const struct invocation *invocation, bool *ret_same, struct error *error)
{
    struct forward_settings settings;
    char host_name[HOST_NAME_BYTES] = "";
    struct config config = {0};
    const struct outbound_service service = {
        .command = "forward",
        .admin_port = &config.forward_admin_port,
        .print_metrics = forward_print_metrics,
        .run = run_service,
        .context = &settings,
    };
    int r = config_read(invocation->path, &config, error);

    if (r == 0) {
        config_configure_log(&config);
        r = forward_settings_get(&config, host_name, &settings, warn, error);
    }
    if (r == 0 && invocation->verify)
        r = forward_verify(&settings, (int64_t)invocation->since_s * 1000, (int64_t)invocation->until_s * 1000, print,
                           ret_same, error);
    else if (r == 0)
        r = outbound_service_run(&config, &service, error);
    config_finish(&config);
    return r;
}

static bool read_time(const char *text, uint64_t *ret_s)
{
    return !text || parse_decimal(text, strlen(text), INT64_MAX / 1000, ret_s) == 0;
}

int command_forward(int argc, char **argv)
{
    struct invocation invocation = {.until_s = INT64_MAX / 1000};
    const char *since = NULL, *until = NULL;
    struct option_spec specs[] = {
        {"--config", "-c", &invocation.path, 1, 0},
        {"--verify", NULL, NULL, 1, 0},
        {"--since", NULL, &since, 1, 0},
        {"--until", NULL, &until, 1, 0},
    };
    bool same = true; // stays true without --verify
    struct error error;

    if (options_read(argc, argv, specs, sizeof specs / sizeof specs[0]) < 0)
        return EXIT_USAGE;
    invocation.verify = specs[1].count > 0;
    if (!invocation.path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    if ((since || until) && !invocation.verify)
        return options_wrong_usage(argv[0], "--since and --until require --verify");
    if (!read_time(since, &invocation.since_s) || !read_time(until, &invocation.until_s))
        return options_wrong_usage(argv[0], "--since and --until take a Unix time in whole seconds");
    // During a connection attempt, forward_stop ends the process with status 0, which would mean that --verify found no
    // difference. With --verify, SIGTERM and SIGINT therefore keep their default action.
    if (!invocation.verify)
        outbound_service_handle_signals(forward_stop);
    if (forward(&invocation, &same, &error) < 0)
        return command_failed(argv[0], &error);
    return same ? 0 : 1;
}
