#include "settings.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "imcallbackd/base/address.h"

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

static int read_apps(struct settings *settings, const char *path, struct error *error)
{
    struct config *config = &settings->config;
    int r = config_read(path, config, error);

    if (r < 0)
        return r;
    settings->tokens = calloc(config->app_count, sizeof *settings->tokens);
    settings->apps = calloc(config->app_count, sizeof *settings->apps);
    if (!settings->tokens || !settings->apps)
        return error_set(error, ENOMEM, "out of memory");
    for (size_t i = 0; i < config->app_count && r == 0; i++)
        r = read_app(settings, i, error);
    settings->rules = (struct callback_rules){
        .apps = settings->apps,
        .app_count = config->app_count,
        .acknowledge_other_commands = config->callback_other_commands.number == CONFIG_ACKNOWLEDGE,
        .keep_body = config->store_keep_body.number != 0,
    };
    return r;
}

static int read_identity(struct settings *settings, const struct settings *predecessor, struct error *error)
{
    const struct config *config = &settings->config;
    const struct http_credentials_files files = {
        .certificate = config->tls_certificate.text,
        .private_key = config->tls_private_key.text,
        .client_ca = config->tls_client_ca.text,
    };
    int r = http_credentials_load(&files, predecessor ? predecessor->identity : NULL, &settings->identity, error);

    if (r == -EKEYREJECTED)
        config_blame(config, &config->tls_private_key, error);
    else if (r == -EPROTO)
        config_blame(config, &config->tls_client_ca, error);
    else if (r < 0)
        config_blame(config, &config->tls_certificate, error);
    return r;
}

static int set_limits(struct settings *settings, struct error *error)
{
    const struct config *config = &settings->config;
    struct http_limits *limits = &settings->limits;
    int r = 0;

    if (config->callback_allow_from.text)
        r = address_blocks_parse(config->callback_allow_from.text, &settings->allow_from, &limits->allow_from_count,
                                 error);
    limits->allow_from = settings->allow_from;
    limits->body_bytes = config->limits_body.number;
    limits->connections = (unsigned int)config->limits_connections.number;
    limits->connections_per_address = (unsigned int)config->limits_connections_per_address.number;
    limits->idle_timeout_ms = (int64_t)config->limits_idle_timeout.number;
    limits->request_timeout_ms = (int64_t)config->limits_request_timeout.number;
    settings->keep_ms = (int64_t)config->store_retention.number;
    settings->store_wait_ms = (int64_t)config->limits_store_wait.number;
    return r;
}

// Gives the settings to the caller, or takes them back when something failed.
static int hand_over(struct settings *settings, int r, struct settings **ret_settings)
{
    if (r < 0)
        settings_unref(settings);
    else
        *ret_settings = settings;
    return r;
}

static bool had_no_token(const struct config *config, int64_t sdk_appid)
{
    for (size_t i = 0; i < config->app_count; i++) {
        if (config->apps[i].sdk_appid == sdk_appid)
            return !config->apps[i].token_file.text;
    }
    return false;
}

// Protections that the running daemon has and the new configuration has not: more likely a file that was torn than a
// wish. A restart takes it at its word.
static int keep_protections(const struct settings *old, const struct settings *next, struct error *error)
{
    const struct config *was = &old->config, *is = &next->config;
    struct error missing = {""};

    for (size_t i = 0; i < is->app_count; i++) {
        if (!is->apps[i].token_file.text && !had_no_token(was, is->apps[i].sdk_appid))
            (void)error_set(&missing, EPERM, "[app %" PRId64 "] token_file", is->apps[i].sdk_appid);
    }
    if (was->callback_allow_from.text && !is->callback_allow_from.text)
        (void)error_set(&missing, EPERM, "[callback] allow_from");
    if (was->tls_client_ca.text && !is->tls_client_ca.text)
        (void)error_set(&missing, EPERM, "[tls] client_ca");
    if (!*missing.text)
        return 0;
    return error_set(
        error, EPERM,
        "%s: %s: a reload cannot remove this key, because more callers would be admitted; restart the daemon "
        "if the removal is intended",
        is->path, missing.text);
}

static struct settings *settings_create(struct error *error)
{
    struct settings *settings = calloc(1, sizeof *settings);

    if (settings)
        settings->references = 1;
    else
        (void)error_set(error, ENOMEM, "out of memory");
    return settings;
}

int settings_read_apps(const char *path, struct settings **ret_settings, struct error *error)
{
    struct settings *settings = settings_create(error);

    if (!settings)
        return -ENOMEM;
    return hand_over(settings, read_apps(settings, path, error), ret_settings);
}

int settings_read(const char *path, const struct settings *predecessor, struct settings **ret_settings,
                  struct error *error)
{
    struct settings *settings = settings_create(error);
    int r;

    if (!settings)
        return -ENOMEM;
    r = read_apps(settings, path, error);
    if (r == 0)
        r = read_identity(settings, predecessor, error);
    if (r == 0)
        r = set_limits(settings, error);
    if (r == 0 && predecessor)
        r = keep_protections(predecessor, settings, error);
    return hand_over(settings, r, ret_settings);
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
    int64_t from_ms = http_credentials_valid_from_ms(settings->identity);
    int64_t expires_ms = http_credentials_expires_ms(settings->identity);
    struct error sentence;
    char day[sizeof "2026-11-23"];

    format_day(expires_ms, day);
    if (now_ms < from_ms)
        error_set(&sentence, 0, "the certificate is not valid yet; check this machine's clock");
    else if (now_ms >= expires_ms)
        error_set(&sentence, 0, "the certificate expired on %s, so callers reject it; renew it", day);
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
                      "the key is not set, so anyone who knows the SDKAppID can send events; switch on token "
                      "authentication in the console");
        else if (settings->tokens[i].readable_by_all)
            error_set(&sentence, 0, "%s can be read by every user of this machine; run chmod o-r on the file",
                      app->token_file.text);
        else
            continue;
        config_blame(&settings->config, &app->token_file, &sentence);
        tell(sentence.text);
    }
}

struct settings *settings_ref(struct settings *settings)
{
    settings->references++;
    return settings;
}

void settings_unref(struct settings *settings)
{
    if (!settings || --settings->references > 0)
        return;
    http_credentials_unref(settings->identity);
    for (size_t i = 0; settings->tokens && i < settings->config.app_count; i++)
        token_file_finish(&settings->tokens[i]);
    free(settings->tokens);
    free(settings->apps);
    free(settings->allow_from);
    config_finish(&settings->config);
    free(settings);
}
