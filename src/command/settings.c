// Reads the configuration and the files that the daemon needs, in this order: configuration, tokens, credentials. A
// failure at any step releases everything that was read before. The tokens and the buffer that held the token file are
// overwritten before they are freed, because tokens are secrets.
#include "settings.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/base/file.h"

// The warning comes early enough to renew the certificate by hand.
#define EXPIRY_WARNING_MS    (INT64_C(21) * 24 * 3600 * 1000)
#define MAX_TOKEN_FILE_BYTES ((size_t)4096)

static int add_token(struct token_file *file, const char *path, const char *text, size_t length, struct error *error)
{
    if (length == 0)
        return error_set(error, EINVAL,
                         "%s: the token is empty, so anyone could sign a call; write the token of the console into "
                         "the file",
                         path);
    if (file->count == CALLBACK_MAX_TOKENS)
        return error_set(error, EINVAL, "%s: the file holds more than two tokens; keep only the old and the new one",
                         path);
    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return error_set(
                error, EINVAL,
                "%s: line %zu contains a byte that is not visible ASCII; write one token per line, without spaces",
                path, file->count + 1);
    }
    file->tokens[file->count] = strndup(text, length);
    if (!file->tokens[file->count])
        return error_set(error, ENOMEM, "out of memory");
    file->count++;
    return 0;
}

int token_file_read(const char *path, struct token_file *ret_file, struct error *error)
{
    struct buffer contents = {0};
    struct stat status;
    const char *line;
    int r = file_read(path, MAX_TOKEN_FILE_BYTES, &contents, error);

    *ret_file = (struct token_file){.readable_by_all = stat(path, &status) == 0 && (status.st_mode & S_IROTH)};
    line = buffer_text(&contents);
    do {
        size_t length = strcspn(line, "\r\n");

        if (r == 0)
            r = add_token(ret_file, path, line, length, error);
        line += length;
        line += line[0] == '\r' && line[1] == '\n' ? 2 : line[0] != '\0';
    } while (r == 0 && *line != '\0');
    if (r == 0 && strlen(contents.data) != contents.length)
        r = error_set(error, EINVAL, "%s: the file contains a NUL byte; write one token per line", path);
    if (r < 0)
        token_file_finish(ret_file);
    if (contents.data)
        explicit_bzero(contents.data, contents.capacity);
    buffer_finish(&contents);
    return r;
}

void token_file_finish(struct token_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        explicit_bzero(file->tokens[i], strlen(file->tokens[i]));
        free(file->tokens[i]);
    }
    *file = (struct token_file){0};
}

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
    for (size_t i = 0; i < tokens->count; i++)
        app->tokens[app->token_count++] = tokens->tokens[i];
    return config_wrap_result(&settings->config, &configured->token_file, r, error);
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
        return config_wrap_result(config, &config->tls_private_key, r, error);
    return config_wrap_result(config, r == -EPROTO ? &config->tls_client_ca : &config->tls_certificate, r, error);
}

static int set_limits(struct settings *settings, struct error *error)
{
    const struct config *config = &settings->config;
    struct http_limits *limits = &settings->limits;
    int r = 0;

    if (config->callback_allow_from.text)
        r = address_blocks_parse(config->callback_allow_from.text, &settings->allow_from, &limits->allow_from_count,
                                 error);
    if (r == 0 && config->listen_trusted_proxies.text)
        r = address_blocks_parse(config->listen_trusted_proxies.text, &settings->trusted_proxies,
                                 &limits->trusted_proxy_count, error);
    limits->allow_from = settings->allow_from;
    limits->trusted_proxies = settings->trusted_proxies;
    limits->body_bytes = config->limits_body.number;
    limits->connections = (unsigned int)config->limits_connections.number;
    limits->connections_per_address = (unsigned int)config->limits_connections_per_address.number;
    limits->idle_timeout_ms = (int64_t)config->limits_idle_timeout.number;
    limits->request_timeout_ms = (int64_t)config->limits_request_timeout.number;
    settings->retention_ms = (int64_t)config->store_retention.number;
    settings->store_wait_ms = (int64_t)config->limits_store_wait.number;
    return r;
}

static bool has_app_without_token(const struct config *config, int64_t sdk_appid)
{
    size_t i = 0;

    while (i < config->app_count && config->apps[i].sdk_appid != sdk_appid)
        i++;
    return i < config->app_count && !config->apps[i].token_file.text;
}

// Refuses a configuration that removes token_file, allow_from or client_ca, or that adds an app without a token_file.
// Such a configuration is more likely to be a truncated file than an intended change. A restart accepts such a
// configuration.
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

int settings_read_apps(const char *path, struct settings **ret_settings, struct error *error)
{
    struct settings *settings = calloc(1, sizeof *settings);
    int r;

    if (!settings)
        return error_set(error, ENOMEM, "out of memory");
    settings->references = 1;
    r = read_apps(settings, path, error);
    if (r < 0)
        settings_unref(settings);
    else
        *ret_settings = settings;
    return r;
}

int settings_read(const char *path, const struct settings *predecessor, struct settings **ret_settings,
                  struct error *error)
{
    struct settings *settings = NULL;
    int r = settings_read_apps(path, &settings, error);

    if (r < 0)
        return r;
    assert(settings);
    r = load_credentials(settings, predecessor, error);
    if (r == 0)
        r = set_limits(settings, error);
    if (r == 0 && predecessor)
        r = check_protections(predecessor, settings, error);
    if (r < 0)
        settings_unref(settings);
    else
        *ret_settings = settings;
    return r;
}

static void warn_of_certificate(const struct settings *settings, int64_t now_ms, void (*report)(const char *sentence))
{
    int64_t from_ms = http_credentials_valid_from_ms(settings->credentials);
    int64_t expires_ms = http_credentials_expires_ms(settings->credentials);
    time_t expires_s = (time_t)(expires_ms / 1000);
    char day[sizeof "2026-11-23"];
    struct error sentence;
    struct tm utc;

    if (!gmtime_r(&expires_s, &utc) || strftime(day, sizeof day, "%Y-%m-%d", &utc) == 0)
        day[0] = '\0';
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

static void warn_of_trusted_proxies(const struct settings *settings, void (*report)(const char *sentence))
{
    struct error sentence;

    for (size_t i = 0; i < settings->limits.trusted_proxy_count; i++) {
        if (!address_block_is_wide(&settings->trusted_proxies[i]))
            continue;
        error_set(&sentence, 0,
                  "a block is wider than /8 for IPv4 or /16 for IPv6, so it contains clients, and each of these can "
                  "choose the address that is recorded, limited and compared with allow_from; list only the addresses "
                  "of your proxies");
        config_wrap_error(&settings->config, &settings->config.listen_trusted_proxies, &sentence);
        report(sentence.text);
        return;
    }
}

void settings_warn(const struct settings *settings, int64_t now_ms, void (*report)(const char *sentence))
{
    warn_of_certificate(settings, now_ms, report);
    warn_of_trusted_proxies(settings, report);
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
    free(settings->trusted_proxies);
    config_finish(&settings->config);
    free(settings);
}

int forward_settings_get(const struct config *config, char host_name[HOST_NAME_BYTES],
                         struct forward_settings *ret_settings, forward_report *report, struct error *error)
{
    const struct config_value *checked = &config->forward_url;
    int r;

    if (!config->forward_url.text)
        return error_set(error, EINVAL,
                         "%s: [forward] url is missing; set it to the destination database, such as "
                         "postgresql://user@host:5432/database?sslmode=verify-full",
                         config->path);
    if (!config->forward_receiver.text && (gethostname(host_name, HOST_NAME_BYTES - 1) < 0 || *host_name == '\0'))
        return error_set(
            error, EINVAL,
            "%s: [forward] receiver is missing: the default is the host name, and this host has none; set it",
            config->path);
    *ret_settings = (struct forward_settings){
        .database = config->store_database.text,
        .url = config->forward_url.text,
        .password_file = config->forward_password_file.text,
        .receiver = config->forward_receiver.text ? config->forward_receiver.text : host_name,
        .shipped_file = config->forward_shipped_file.text,
    };
    r = forward_check_url(config->forward_url.text, report, error);
    if (r == 0) {
        checked = &config->forward_password_file;
        r = forward_check_password(checked->text, report, error);
    }
    return r == -ENOSYS ? r : config_wrap_result(config, checked, r, error);
}
