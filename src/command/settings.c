// Reads the configuration and every file that it names, in one direction: config, tokens, credentials, limits. A
// failure at any step releases everything that was read before.
#include "settings.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "imcallbackd/base/address.h"

// The warning comes early enough to renew the certificate by hand.
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
        config_wrap_error(&settings->config, &configured->token_file, error);
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

static int load_credentials(struct settings *settings, const struct settings *predecessor, struct error *error)
{
    const struct config *config = &settings->config;
    const struct http_credentials_files files = {
        .certificate = config->tls_certificate.text,
        .private_key = config->tls_private_key.text,
        .client_ca = config->tls_client_ca.text,
    };
    int r = http_credentials_load(&files, predecessor ? predecessor->credentials : NULL, &settings->credentials, error);

    if (r == -EKEYREJECTED)
        config_wrap_error(config, &config->tls_private_key, error);
    else if (r == -EPROTO)
        config_wrap_error(config, &config->tls_client_ca, error);
    else if (r < 0)
        config_wrap_error(config, &config->tls_certificate, error);
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
    settings->retention_ms = (int64_t)config->store_retention.number;
    settings->store_wait_ms = (int64_t)config->limits_store_wait.number;
    return r;
}

// Passes the settings to the caller, or releases them if r is an error.
static int pass_or_release(struct settings *settings, int r, struct settings **ret_settings)
{
    if (r < 0)
        settings_unref(settings);
    else
        *ret_settings = settings;
    return r;
}

static bool has_app_without_token(const struct config *config, int64_t sdk_appid)
{
    for (size_t i = 0; i < config->app_count; i++) {
        if (config->apps[i].sdk_appid == sdk_appid)
            return !config->apps[i].token_file.text;
    }
    return false;
}

// Refuses a configuration that lacks a protection of the running daemon. Such a configuration is more likely to be a
// truncated file than an intended change. A restart accepts it.
static int check_protections(const struct settings *running, const struct settings *next, struct error *error)
{
    const struct config *old = &running->config, *new = &next->config;
    struct error missing = {""};

    for (size_t i = 0; i < new->app_count; i++) {
        if (!new->apps[i].token_file.text && !has_app_without_token(old, new->apps[i].sdk_appid))
            (void)error_set(&missing, EPERM, "[app %" PRId64 "] token_file", new->apps[i].sdk_appid);
    }
    if (old->callback_allow_from.text && !new->callback_allow_from.text)
        (void)error_set(&missing, EPERM, "[callback] allow_from");
    if (old->tls_client_ca.text && !new->tls_client_ca.text)
        (void)error_set(&missing, EPERM, "[tls] client_ca");
    if (!*missing.text)
        return 0;
    return error_set(
        error, EPERM,
        "%s: %s: a reload cannot remove this key, because the daemon would admit more clients; restart the "
        "daemon if the removal is intended",
        new->path, missing.text);
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
    return pass_or_release(settings, read_apps(settings, path, error), ret_settings);
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
        r = load_credentials(settings, predecessor, error);
    if (r == 0)
        r = set_limits(settings, error);
    if (r == 0 && predecessor)
        r = check_protections(predecessor, settings, error);
    return pass_or_release(settings, r, ret_settings);
}

static void format_day(int64_t ms, char day[sizeof "2026-11-23"])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm utc;

    if (!gmtime_r(&seconds, &utc) || strftime(day, sizeof "2026-11-23", "%Y-%m-%d", &utc) == 0)
        day[0] = '\0';
}

static void warn_of_certificate(const struct settings *settings, int64_t now_ms, void (*report)(const char *sentence))
{
    int64_t from_ms = http_credentials_valid_from_ms(settings->credentials);
    int64_t expires_ms = http_credentials_expires_ms(settings->credentials);
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
    config_wrap_error(&settings->config, &settings->config.tls_certificate, &sentence);
    report(sentence.text);
}

void settings_warn(const struct settings *settings, int64_t now_ms, void (*report)(const char *sentence))
{
    warn_of_certificate(settings, now_ms, report);
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
        config_wrap_error(&settings->config, &app->token_file, &sentence);
        report(sentence.text);
    }
}

struct settings *settings_ref(struct settings *settings)
{
    unsigned int references = atomic_fetch_add(&settings->references, 1);

    assert(references > 0);
    return settings;
}

void settings_unref(struct settings *settings)
{
    unsigned int references;

    if (!settings)
        return;
    references = atomic_fetch_sub(&settings->references, 1);
    assert(references > 0);
    if (references > 1)
        return;
    http_credentials_unref(settings->credentials);
    for (size_t i = 0; settings->tokens && i < settings->config.app_count; i++)
        token_file_finish(&settings->tokens[i]);
    free(settings->tokens);
    free(settings->apps);
    free(settings->allow_from);
    config_finish(&settings->config);
    free(settings);
}
