// The commands `forward` and `forward --verify`: options, signals and the monitoring listener. The module forward does
// the work, on the main thread.
#include <assert.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "imcallbackd/base/log.h"
#include "imcallbackd/base/metrics.h"
#include "imcallbackd/base/parse.h"
#include "imcallbackd/command/command.h"
#include "imcallbackd/http/admin.h"
#include "imcallbackd/http/listen.h"
#include "options.h"
#include "settings.h"

#include <systemd/sd-daemon.h>

static unsigned int print_health(void *context, struct buffer *text)
{
    (void)context;
    return buffer_print(text, "alive\n") < 0 ? 0 : 200;
}

static unsigned int print_metrics(void *context, struct buffer *text)
{
    (void)context;
    return forward_print_metrics(text) < 0 ? 0 : 200;
}

static const struct http_admin_page pages[] = {
    {"/healthz", HTTP_PLAIN_TEXT, print_health},
    {"/metrics", METRICS_CONTENT_TYPE, print_metrics},
    {NULL, NULL, NULL},
};

static void warn(const char *sentence)
{
    log_warning("%s", sentence);
}

static void print(const char *sentence)
{
    puts(sentence);
}

static void on_signal(int number)
{
    (void)number;
    forward_stop();
}

static void handle_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};

    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

static int start_admin(const struct config *config, int *ret_fd, struct http_admin **ret_admin, struct error *error)
{
    unsigned int port = (unsigned int)config->forward_admin_port.number;
    char name[LISTEN_NAME_BYTES];
    int r;

    assert(*ret_fd < 0 && !*ret_admin);
    if (port == 0)
        return 0;
    r = listen_open(config->admin_address.text, port, ret_fd, error);
    if (r < 0)
        return config_wrap_result(config, &config->forward_admin_port, r, error);
    listen_name(*ret_fd, name);
    log_info("monitoring in plain HTTP on %s: /metrics, /healthz", name);
    return http_admin_start(*ret_fd, pages, NULL, ret_admin, error);
}

// Reports READY before the destination is connected, because the destination may be unreachable for a long time, and no
// other unit waits for the forwarder.
static int run(const struct config *config, const struct forward_settings *settings, struct error *error)
{
    struct http_admin *admin = NULL;
    int fd = -1, r = start_admin(config, &fd, &admin, error);

    if (r == 0) {
        (void)sd_notify(0, "READY=1");
        forward_run(settings);
        (void)sd_notify(0, "STOPPING=1");
        log_info("stopped");
    }
    http_admin_stop(admin);
    if (fd >= 0)
        close(fd);
    return r;
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
    int r = config_read(invocation->path, &config, error);

    if (r == 0) {
        config_configure_log(&config);
        r = forward_settings_get(&config, host_name, &settings, warn, error);
    }
    if (r == 0 && invocation->verify)
        r = forward_verify(&settings, (int64_t)invocation->since_s * 1000, (int64_t)invocation->until_s * 1000, print,
                           ret_same, error);
    else if (r == 0)
        r = run(&config, &settings, error);
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
    // Exit status 0 means that a comparison is complete. With --verify, the signals therefore keep their default
    // action, which ends the process with another status.
    if (!invocation.verify)
        handle_signals();
    if (forward(&invocation, &same, &error) < 0)
        return command_failed(argv[0], &error);
    return same ? 0 : 1;
}
