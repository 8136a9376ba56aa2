// Implements `deliver` and `deliver --replay`. The deliver module does the work, on the main thread.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "delivery_settings.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/base/parse.h"
#include "imcallbackd/command/command.h"
#include "options.h"
#include "outbound_service.h"

struct invocation {
    const char *path;
    bool from_now;
    bool replay;
    uint64_t first_id, last_id; // with replay
};

struct run {
    const struct deliver_settings *settings;
    bool from_now;
};

static void warn(const char *sentence)
{
    log_warning("%s", sentence);
}

static void print(const char *sentence)
{
    puts(sentence);
    (void)fflush(stdout);
}

static int run_service(void *context, struct error *error)
{
    const struct run *run = context;

    return deliver_run(run->settings, run->from_now, error);
}

static int deliver(const struct invocation *invocation, bool *ret_all_accepted, struct error *error)
{
    struct delivery_settings delivery = {0};
    struct settings *settings = NULL;
    struct run run = {&delivery.deliver, invocation->from_now};
    int r = settings_read_apps(invocation->path, &settings, error);

    if (r < 0)
        return r;
    config_configure_log(&settings->config);
    r = delivery_settings_init(&delivery, settings, warn, error);
    if (r == 0 && invocation->replay)
        r = deliver_replay(&delivery.deliver, (int64_t)invocation->first_id, (int64_t)invocation->last_id, print,
                           ret_all_accepted, error);
    else if (r == 0)
        r = outbound_service_run(&settings->config,
                                 &(struct outbound_service){.command = "deliver",
                                                            .admin_port = &settings->config.deliver_admin_port,
                                                            .print_metrics = deliver_print_metrics,
                                                            .run = run_service,
                                                            .context = &run},
                                 error);
    delivery_settings_finish(&delivery);
    settings_unref(settings);
    return r;
}

// Reads "FROM", which stands for one event, or "FROM-TO". Returns false if the text has another form, FROM is 0, TO is
// less than FROM, or an id is too large.
static bool read_range(const char *text, struct invocation *invocation)
{
    size_t length = strcspn(text, "-");
    const char *last = text[length] == '-' ? text + length + 1 : text;
    size_t last_length = text[length] == '-' ? strlen(last) : length;

    return parse_decimal(text, length, INT64_MAX - 1, &invocation->first_id) == 0 &&
           parse_decimal(last, last_length, INT64_MAX - 1, &invocation->last_id) == 0 && invocation->first_id > 0 &&
           invocation->last_id >= invocation->first_id;
}

int command_deliver(int argc, char **argv)
{
    struct invocation invocation = {0};
    const char *start_at = NULL, *range = NULL;
    struct option_spec specs[] = {
        {"--config", "-c", &invocation.path, 1, 0},
        {"--start-at", NULL, &start_at, 1, 0},
        {"--replay", NULL, &range, 1, 0},
    };
    bool all_accepted = true;
    struct error error;

    if (options_read(argc, argv, specs, sizeof specs / sizeof specs[0]) < 0)
        return EXIT_USAGE;
    invocation.from_now = start_at;
    invocation.replay = range;
    if (!invocation.path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    if (start_at && range)
        return options_wrong_usage(argv[0], "--start-at and --replay exclude each other");
    if (start_at && strcmp(start_at, "now") != 0)
        return options_wrong_usage(argv[0], "--start-at takes the word now");
    if (range && !read_range(range, &invocation))
        return options_wrong_usage(argv[0], "--replay takes an id, or two ids as in 7-12");
    outbound_service_handle_signals(deliver_stop);
    if (deliver(&invocation, &all_accepted, &error) < 0)
        return command_failed(argv[0], &error);
    return all_accepted ? 0 : 1;
}
