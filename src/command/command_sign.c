// `sign` prints the parameters Sign and RequestTime of a callback URL, for use in a curl command line.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "imcallbackd/base/clock.h"
#include "imcallbackd/base/parse.h"
#include "imcallbackd/callback/signature.h"
#include "imcallbackd/command/command.h"
#include "options.h"
#include "settings.h"

// Finds the app `wanted`, or the only app if `wanted` is NULL. Returns NULL if the configuration does not have the app,
// or if it has several apps and `wanted` is NULL.
static const struct callback_app *find_app(const struct settings *settings, const char *wanted, struct error *error)
{
    const struct callback_rules *rules = &settings->rules;
    uint64_t sdk_appid;

    if (!wanted && rules->app_count > 1) {
        (void)error_set(error, EINVAL, "%s: several apps are configured; choose one with --app", settings->config.path);
        return NULL;
    }
    for (size_t i = 0; i < rules->app_count; i++) {
        if (!wanted || (parse_decimal(wanted, strlen(wanted), INT64_MAX, &sdk_appid) == 0 &&
                        rules->apps[i].sdk_appid == (int64_t)sdk_appid))
            return &rules->apps[i];
    }
    (void)error_set(error, EINVAL, "%s: there is no section [app %s]", settings->config.path, wanted);
    return NULL;
}

static int print_signature(const struct settings *settings, const char *wanted_app, const char *request_time,
                           struct error *error)
{
    const struct callback_app *app = find_app(settings, wanted_app, error);
    char sign[SIGNATURE_HEX_LENGTH + 1];

    if (!app)
        return -EINVAL;
    if (app->token_count == 0)
        return error_set(error, EINVAL,
                         "[app %" PRId64 "] token_file: the key is not set, so calls of this app need no signature",
                         app->sdk_appid);
    // If the token file holds two tokens, the second one is the new token, which stays valid after the rotation.
    if (signature_compute(app->tokens[app->token_count - 1], request_time, sign) < 0)
        return error_set(error, EIO, "libcrypto failed to compute SHA-256");
    printf("Sign=%s&RequestTime=%s\n", sign, request_time);
    return 0;
}

int command_sign(int argc, char **argv)
{
    const char *path = NULL, *app = NULL, *time = NULL;
    struct option_spec specs[] = {
        {"--config", "-c", &path, 1, 0},
        {"--app", NULL, &app, 1, 0},
        {"--time", NULL, &time, 1, 0},
    };
    struct settings *settings = NULL;
    struct error error;
    char now[24];
    uint64_t parsed;
    int r;

    if (options_read(argc, argv, specs, sizeof specs / sizeof specs[0]) < 0)
        return EXIT_USAGE;
    if (!path)
        return options_wrong_usage(argv[0], "-c FILE is required");
    if (time && (strlen(time) > 11 || parse_decimal(time, strlen(time), UINT64_MAX, &parsed) < 0))
        return options_wrong_usage(argv[0], "--time requires Unix seconds, at most 11 digits");
    (void)snprintf(now, sizeof now, "%" PRId64, clock_realtime_ms() / 1000);
    r = settings_read_apps(path, &settings, &error);
    if (r == 0)
        r = print_signature(settings, app, time ? time : now, &error);
    settings_unref(settings);
    return r < 0 ? command_failed(argv[0], &error) : 0;
}
