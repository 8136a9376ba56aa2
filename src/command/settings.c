#include "settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

// A certificate that ends within this time is worth a warning: long enough to renew it by hand.
#define EXPIRY_WARNING_MS (INT64_C(21) * 24 * 3600 * 1000)

static int read_app(struct settings *settings, size_t index, struct error *error)
{
    const struct config_app *configured = &settings->config.apps[index];
    struct token_file *tokens = &settings->tokens[index];
    struct callback_app *app = &settings->apps[index];
    int r;

    app->sdk_appid = configured->sdk_appid;
    app->request_time_window_s = (int64_t)(configured->request_time_window.number / 1000);
    if (!configured->token_file.text)
        return 0;
    r = token_file_read(configured->token_file.text, tokens, error);
    if (r < 0) {
        config_blame(&settings->config, &configured->token_file, error);
        return r;
    }
    for (size_t i = 0; i < tokens->count; i++)
        app->tokens[app->token_count++] = tokens->tokens[i];
    return 0;
}

int settings_read_apps(const char *path, struct settings *ret_settings, struct error *error)
{
    struct config *config = &ret_settings->config;
    int r;

    *ret_settings = (struct settings){0};
    r = config_read(path, config, error);
    if (r < 0)
        return r;
    ret_settings->tokens = calloc(config->app_count, sizeof *ret_settings->tokens);
    ret_settings->apps = calloc(config->app_count, sizeof *ret_settings->apps);
    if (!ret_settings->tokens || !ret_settings->apps)
        return error_set(error, ENOMEM, "out of memory");
    for (size_t i = 0; i < config->app_count && r == 0; i++)
        r = read_app(ret_settings, i, error);
    ret_settings->rules = (struct callback_rules){
        .apps = ret_settings->apps,
        .app_count = config->app_count,
        .acknowledge_other_commands = config->callback_other_commands.number == CONFIG_ACKNOWLEDGE,
        .keep_body = config->store_keep_body.number != 0,
    };
    return r;
}

int settings_read(const char *path, struct settings *ret_settings, struct error *error)
{
    const struct config *config = &ret_settings->config;
    int r = settings_read_apps(path, ret_settings, error);

    if (r < 0)
        return r;
    r = http_identity_load(config->tls_certificate.text, config->tls_private_key.text, &ret_settings->identity, error);
    if (r == -EKEYREJECTED)
        config_blame(config, &config->tls_private_key, error);
    else if (r < 0)
        config_blame(config, &config->tls_certificate, error);
    return r;
}

static void format_day(int64_t ms, char day[sizeof "2026-11-23"])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;

    if (!gmtime_r(&seconds, &utc) || strftime(day, sizeof "2026-11-23", "%Y-%m-%d", &utc) == 0)
        day[0] = '\0';
}

static void warn_of_certificate(const struct settings *settings, int64_t now_ms, void (*tell)(const char *sentence))
{
    int64_t from_ms = http_identity_valid_from_ms(settings->identity);
    int64_t expires_ms = http_identity_expires_ms(settings->identity);
    struct error sentence;
    char day[sizeof "2026-11-23"];

    format_day(expires_ms, day);
    if (now_ms < from_ms)
        error_set(&sentence, 0, "the certificate is not valid yet; is this machine's clock right?");
    else if (now_ms >= expires_ms)
        error_set(&sentence, 0, "the certificate expired on %s, so no caller will trust it; renew it", day);
    else if (now_ms >= expires_ms - EXPIRY_WARNING_MS)
        error_set(&sentence, 0, "the certificate expires on %s; renew it", day);
    else
        return;
    config_blame(&settings->config, &settings->config.tls_certificate, &sentence);
    tell(sentence.text);
}

void settings_warn(const struct settings *settings, int64_t now_ms, void (*tell)(const char *sentence))
{
    warn_of_certificate(settings, now_ms, tell);
    for (size_t i = 0; i < settings->config.app_count; i++) {
        const struct config_app *app = &settings->config.apps[i];
        struct error sentence;

        if (!app->token_file.text)
            error_set(&sentence, 0,
                      "is not set, so anyone who knows the SDKAppID can send events; switch on token authentication "
                      "in the console");
        else if (settings->tokens[i].readable_by_all)
            error_set(&sentence, 0, "%s can be read by every user of this machine; chmod o-r it", app->token_file.text);
        else
            continue;
        config_blame(&settings->config, &app->token_file, &sentence);
        tell(sentence.text);
    }
}

void settings_finish(struct settings *settings)
{
    http_identity_destroy(settings->identity);
    for (size_t i = 0; settings->tokens && i < settings->config.app_count; i++)
        token_file_finish(&settings->tokens[i]);
    free(settings->tokens);
    free(settings->apps);
    config_finish(&settings->config);
    *settings = (struct settings){0};
}
