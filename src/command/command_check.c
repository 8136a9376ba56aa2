// `check` reads the configuration as `serve` does, and also checks the database, the destination of [forward] and the
// endpoint of [deliver]. The command changes nothing and starts no service.
#include <errno.h>
#include <stdio.h>

#include "delivery_settings.h"
#include "imcallbackd/base/clock.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/store/store.h"
#include "options.h"
#include "settings.h"

static void print_warning(const char *sentence)
{
    fprintf(stderr, "warning: %s\n", sentence);
}

// A destination that fails its check causes only a warning: recorded events wait for the destination, and `systemctl
// reload`, which runs `check` first, must not depend on the destination.
static int check_forward(const struct config *config, struct error *error)
{
    char host_name[HOST_NAME_BYTES] = "";
    struct forward_settings settings;
    struct error why;
    int r;

    if (!config->forward_url.text)
        return 0;
    r = forward_settings_get(config, host_name, &settings, print_warning, error);
    if (r == -ENOSYS) {
        fprintf(stderr, "warning: [forward] url has no effect: %s\n", error->text);
        return 0;
    }
    if (r == -EACCES) { // expected if the user of the daemon runs `check`
        fprintf(
            stderr,
            "warning: %s; only the forward service must be able to read the file, so the destination is not checked\n",
            error->text);
        return 0;
    }
    if (r == 0 && forward_check_destination(&settings, &why) < 0)
        fprintf(stderr, "warning: [forward] url: %s; events stay in the store until the destination can be reached\n",
                why.text);
    return r;
}

static void print_found(const char *sentence)
{
    fprintf(stderr, "[deliver] url: %s\n", sentence);
}

// Sends no request to the endpoint. As with [forward], an endpoint that fails its check causes only a warning.
static int check_deliver(const struct settings *settings, struct error *error)
{
    struct delivery_settings delivery = {0};
    struct error why;
    int r;

    if (!settings->config.deliver_url.text)
        return 0;
    r = delivery_settings_init(&delivery, settings, print_warning, error);
    if (r == -ENOSYS || r == -EACCES) { // -EACCES is expected if the user of the daemon runs `check`
        fprintf(stderr,
                r == -ENOSYS ? "warning: [deliver] url has no effect: %s\n"
                             : "warning: %s; only the service that delivers must be able to read the file, so "
                               "the endpoint is not checked\n",
                error->text);
        r = 0;
    } else if (r == 0) {
        deliver_check_state_file(delivery.deliver.state_file, print_warning);
        if (deliver_check_endpoint(&delivery.deliver, print_found, &why) < 0)
            fprintf(stderr, "warning: [deliver] url: %s; events stay in the store until the endpoint can be reached\n",
                    why.text);
    }
    delivery_settings_finish(&delivery);
    return r;
}

static int check(const char *path, struct settings **ret_settings, struct buffer *text, struct error *error)
{
    const struct config *config;
    int r = settings_read(path, NULL, ret_settings, error);

    if (r < 0)
        return r;
    config = &(*ret_settings)->config;
    r = config_wrap_result(config, &config->store_database, store_check(config->store_database.text, error), error);
    if (r == 0)
        r = check_forward(config, error);
    if (r == 0)
        r = check_deliver(*ret_settings, error);
    if (r < 0)
        return r;
    return config_print(config, text) < 0 ? error_set(error, ENOMEM, "out of memory") : 0;
}

int command_check(int argc, char **argv)
{
    const char *path = NULL;
    struct option_spec specs[] = {{"--config", "-c", &path, 1, 0}};
    struct settings *settings = NULL;
    struct buffer text = {0};
    struct error error;
    int r;

    if (options_read(argc, argv, specs, 1) < 0)
        return EXIT_USAGE;
    if (!path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    r = check(path, &settings, &text, &error);
    if (r < 0) {
        (void)command_failed(argv[0], &error);
    } else {
        fputs(buffer_text(&text), stdout);
        settings_warn(settings, clock_realtime_ms(), print_warning);
    }
    buffer_finish(&text);
    settings_unref(settings);
    return r < 0 ? 1 : 0;
}
