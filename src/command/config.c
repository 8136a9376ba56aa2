// Defines the table of all keys, and the functions that work on single values and on a configuration in memory.
// config_read.c reads the file.
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/base/file.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/base/parse.h"
#include "imcallbackd/http/admin.h"

#define KIB        ((uint64_t)1 << 10)
#define MIB        ((uint64_t)1 << 20)
#define SECONDS_MS ((uint64_t)1000)
#define HOURS_MS   (3600 * SECONDS_MS)
#define DAYS_MS    (24 * HOURS_MS)

static const char *const other_commands[] = {"reject", "acknowledge", NULL}; // indexed by enum config_other_commands
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

// The value of [section] key is the member section_key of struct config.
#define KEY(section_, key_, type_, ...)                                                                                \
    {                                                                                                                  \
        .section = #section_, .key = #key_, .type = (type_), .offset = offsetof(struct config, section_##_##key_),     \
        __VA_ARGS__                                                                                                    \
    }
// The value of key in [app SDKAPPID] is the member key of struct config_app.
#define APP_KEY(key_, type_, ...)                                                                                      \
    {                                                                                                                  \
        .section = "app", .key = #key_, .type = (type_), .offset = offsetof(struct config_app, key_), __VA_ARGS__      \
    }
#define DEFAULT(text)     .default_text = (text)
#define RANGE(min_, max_) .min = (min_), .max = (max_)
#define NEEDS_RESTART     .needs_restart = true

// src/README.md lists what else a new key needs. `check` prints the keys in this order, and the app sections last.
// clang-format off
const struct config_option config_options[] = {
    KEY(listen, address, CONFIG_ADDRESS, DEFAULT("0.0.0.0"), NEEDS_RESTART),
    KEY(listen, port, CONFIG_NUMBER, DEFAULT("8443"), RANGE(0, 65535), NEEDS_RESTART),
    KEY(listen, path, CONFIG_URL_PATH, DEFAULT("/"), NEEDS_RESTART),
    KEY(listen, threads, CONFIG_NUMBER, DEFAULT("0"), RANGE(0, 256), NEEDS_RESTART),
    KEY(listen, trusted_proxies, CONFIG_ADDRESS_BLOCKS),
    KEY(tls, certificate, CONFIG_FILE, .required = true),
    KEY(tls, private_key, CONFIG_FILE, .required = true),
    KEY(tls, client_ca, CONFIG_FILE),
    APP_KEY(token_file, CONFIG_FILE),
    APP_KEY(request_time_window, CONFIG_DURATION, DEFAULT("60s"), RANGE(SECONDS_MS, DAYS_MS)),
    KEY(callback, other_commands, CONFIG_CHOICE, DEFAULT("reject"), .choices = other_commands),
    KEY(callback, allow_from, CONFIG_ADDRESS_BLOCKS),
    KEY(store, database, CONFIG_FILE, DEFAULT("/var/lib/imcallbackd/callbacks.db"), NEEDS_RESTART),
    KEY(store, keep_body, CONFIG_BOOLEAN, DEFAULT("no")),
    KEY(store, retention, CONFIG_RETENTION, DEFAULT("forever"), RANGE(DAYS_MS, 36500 * DAYS_MS)),
    KEY(forward, url, CONFIG_DESTINATION),
    KEY(forward, password_file, CONFIG_SERVICE_FILE),
    KEY(forward, receiver, CONFIG_NAME),
    KEY(forward, shipped_file, CONFIG_FILE, DEFAULT("/var/lib/imcallbackd-forward/shipped")),
    KEY(forward, admin_port, CONFIG_NUMBER, DEFAULT("9465"), RANGE(0, 65535)),
    KEY(deliver, url, CONFIG_ENDPOINT),
    KEY(deliver, secret_file, CONFIG_SERVICE_FILE),
    KEY(deliver, ca_file, CONFIG_SERVICE_FILE),
    KEY(deliver, client_certificate, CONFIG_SERVICE_FILE),
    KEY(deliver, client_key, CONFIG_SERVICE_FILE),
    KEY(deliver, timeout, CONFIG_DURATION, DEFAULT("10s"), RANGE(SECONDS_MS, HOURS_MS)),
    KEY(deliver, in_flight, CONFIG_NUMBER, DEFAULT("8"), RANGE(1, 256)),
    KEY(deliver, give_up_after, CONFIG_PATIENCE, DEFAULT("never"), RANGE(SECONDS_MS, 36500 * DAYS_MS)),
    KEY(deliver, state_file, CONFIG_FILE, DEFAULT("/var/lib/imcallbackd-deliver/state")),
    KEY(deliver, admin_port, CONFIG_NUMBER, DEFAULT("9466"), RANGE(0, 65535)),
    KEY(limits, body, CONFIG_SIZE, DEFAULT("4M"), RANGE(KIB, 16 * MIB)),
    KEY(limits, connections, CONFIG_NUMBER, DEFAULT("4096"), RANGE(1, 1000000)),
    KEY(limits, connections_per_address, CONFIG_NUMBER, DEFAULT("1024"), RANGE(1, 1000000)),
    KEY(limits, idle_timeout, CONFIG_DURATION, DEFAULT("300s"), RANGE(SECONDS_MS, DAYS_MS)),
    KEY(limits, request_timeout, CONFIG_DURATION, DEFAULT("10s"), RANGE(SECONDS_MS, HOURS_MS)),
    KEY(limits, store_wait, CONFIG_DURATION, DEFAULT("5s"), RANGE(0, HOURS_MS)),
    KEY(admin, address, CONFIG_ADDRESS, DEFAULT("127.0.0.1"), NEEDS_RESTART),
    KEY(admin, port, CONFIG_NUMBER, DEFAULT("9463"), RANGE(0, 65535), NEEDS_RESTART),
    KEY(admin, host, CONFIG_HOSTS),
    KEY(log, level, CONFIG_CHOICE, DEFAULT("info"), .choices = log_levels),
    KEY(log, format, CONFIG_CHOICE, DEFAULT("text"), .choices = log_formats),
    {.section = NULL},
};
// clang-format on

static int set_choice(const struct config_option *option, const char *text, uint64_t *ret_index, struct error *error)
{
    struct buffer choices = {0};
    int r = 0;

    for (size_t i = 0; option->choices[i]; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    for (size_t i = 0; option->choices[i] && r == 0; i++)
        r = buffer_print(&choices, i == 0 ? "%s" : ", %s", option->choices[i]);
    r = r < 0 ? error_set(error, ENOMEM, "out of memory")
              : error_set(error, EINVAL, "'%s' is not one of: %s", text, buffer_text(&choices));
    buffer_finish(&choices);
    return r;
}

static int check_address_blocks(const char *text, struct error *error)
{
    struct address_block *blocks;
    size_t count;
    int r = address_blocks_parse(text, &blocks, &count, error);

    if (r < 0)
        return r;
    free(blocks);
    return count > 0 ? 0 : error_set(error, EINVAL, "'%s' contains no address", text);
}

// Checks that the text is a libpq URI without a password. Every user with access to the configuration or to the output
// of `check` would see the password. For the same reason, the errors do not repeat the text.
static int check_destination(const char *text, struct error *error)
{
    const char *rest = strstr(text, "://"), *user, *colon;

    if (strncmp(text, "postgresql://", 13) != 0 && strncmp(text, "postgres://", 11) != 0)
        return error_set(
            error, EINVAL,
            "the value is not a libpq URI, such as postgresql://user@host:5432/database?sslmode=verify-full");
    rest += 3;
    user = memchr(rest, '@', strcspn(rest, "/?"));
    colon = memchr(rest, ':', strcspn(rest, "/?"));
    if ((user && colon && colon < user) || strstr(rest, "password="))
        return error_set(error, EINVAL,
                         "the URL holds a password; move the password to a file and name the file in password_file");
    return 0;
}

// Returns true for localhost, 127.0.0.0/8 and [::1]. `host` is the part of a URL after "://"; the host ends at the
// port, the path or the query.
static bool is_loopback(const char *host)
{
    size_t length = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?");
    struct address address;
    char text[sizeof "255.255.255.255"];

    if ((length == 9 && strncasecmp(host, "localhost", length) == 0) ||
        (length == 5 && strncmp(host, "[::1]", length) == 0))
        return true;
    if (length >= sizeof text)
        return false;
    memcpy(text, host, length);
    text[length] = '\0';
    return strncmp(text, "127.", 4) == 0 && address_parse(text, &address);
}

// `deliver` can add these parameters to the URL. If the URL already had one of them, the endpoint would have to choose
// between two values.
static bool has_parameter_of_callback(const char *url)
{
    static const char *const names[] = {"SdkAppid",    "CallbackCommand", "contenttype", "ClientIP",
                                        "OptPlatform", "RequestTime",     "Sign"};

    for (const char *at = strchr(url, '?'); at; at = strchr(at, '&')) {
        at++;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (strcspn(at, "=&") == strlen(names[i]) && strncasecmp(at, names[i], strlen(names[i])) == 0)
                return true;
        }
    }
    return false;
}

// Returns true if the host, the part of a URL after "://", has no port or one from 1 to 65535.
static bool has_valid_port(const char *host)
{
    size_t length = *host == '[' ? strcspn(host, "]/?") : 0;
    const char *colon = host + length + strcspn(host + length, ":/?");
    uint64_t port = 0;

    return *colon != ':' || (parse_decimal(colon + 1, strcspn(colon + 1, "/?"), 65535, &port) == 0 && port > 0);
}

// Does not validate the whole URL; deliver_check_url does so. The errors do not repeat the text, because a query may
// contain a secret.
static int check_endpoint(const char *text, struct error *error)
{
    bool is_https = strncasecmp(text, "https://", 8) == 0;
    const char *host = text + (is_https ? 8 : 7);

    if ((!is_https && strncasecmp(text, "http://", 7) != 0) || strcspn(host, ":/?") == 0)
        return error_set(error, EINVAL, "the value is not an https URL, such as https://app.example.com/callback");
    for (const char *at = text; *at; at++) {
        if (*at <= ' ' || *at > '~' || strchr("#\"\\<>", *at))
            return error_set(error, EINVAL,
                             "the URL contains a character that a URL may not contain, or a fragment; encode the "
                             "character as %%XX, or remove the fragment");
    }
    if (memchr(host, '@', strcspn(host, "/?")))
        return error_set(error, EINVAL,
                         "the URL contains a user name; remove it, and let the endpoint verify webhook-signature");
    if (!has_valid_port(host))
        return error_set(error, EINVAL, "the port in the URL is not a number from 1 to 65535; correct or remove it");
    if (has_parameter_of_callback(text))
        return error_set(error, EINVAL,
                         "the URL contains a parameter of the callback, such as SdkAppid or Sign, which deliver adds "
                         "itself; remove the parameter");
    if (!is_https && !is_loopback(host))
        return error_set(error, EINVAL,
                         "http sends events without encryption and is allowed only to a loopback address; use https");
    return 0;
}

// Reports the allowed range in units that the file accepts: seconds for times, bytes for sizes.
static int range_error(const struct config_option *option, const char *text, struct error *error)
{
    bool time = option->type == CONFIG_DURATION || option->type == CONFIG_RETENTION || option->type == CONFIG_PATIENCE;
    uint64_t unit = time ? SECONDS_MS : 1;
    const char *name = time ? "s" : "";

    return error_set(error, ERANGE, "%s is out of range; choose %" PRIu64 "%s to %" PRIu64 "%s", text,
                     option->min / unit, name, option->max / unit, name);
}

// Checks a name, or a list of host names.
static int check_names(const struct config_option *option, const char *text, struct error *error)
{
    static const char in_list[] = " \t,abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *in_name = strchr(in_list, 'a');

    if (option->type == CONFIG_NAME && (strlen(text) > 64 || text[strspn(text, in_name)]))
        return error_set(error, EINVAL,
                         "'%s' is not a name of letters, digits, '.', '_' and '-' with at most 64 characters", text);
    if (option->type == CONFIG_HOSTS && (strlen(text) >= HTTP_ADMIN_HOSTS_BYTES || text[strspn(text, in_list)]))
        return error_set(error, EINVAL,
                         "'%s' is not a list of host names without ports, separated by spaces, with at most %d "
                         "characters",
                         text, HTTP_ADMIN_HOSTS_BYTES - 1);
    return 0;
}

// Checks the text according to the option's type. Sets value->number only for types that stand for a number, and
// value->text only for CONFIG_FILE, to the expanded path.
static int parse_value(const struct config_option *option, const char *text, struct config_value *value,
                       struct error *error)
{
    const char *form = "";
    struct address address;
    bool is_set = false;
    int r = 0;

    switch (option->type) {
    case CONFIG_ADDRESS:
        form = "a numeric IPv4 or IPv6 address";
        r = address_parse(text, &address) ? 0 : -EINVAL;
        break;
    case CONFIG_ADDRESS_BLOCKS:
        return check_address_blocks(text, error);
    case CONFIG_URL_PATH:
        form = "a path that starts with '/' and contains no space, '?' or '#'";
        r = text[0] == '/' && !strpbrk(text, " \t?#") ? 0 : -EINVAL;
        break;
    case CONFIG_FILE:
        return file_expand_path(text, &value->text, error);
    case CONFIG_SERVICE_FILE:
        return 0;
    case CONFIG_NUMBER:
        form = "a whole number";
        r = parse_decimal(text, strlen(text), option->max, &value->number);
        break;
    case CONFIG_DURATION:
        form = "a time with a unit, such as 90s, 5m or 2h";
        r = parse_duration_ms(text, option->max, &value->number);
        break;
    case CONFIG_RETENTION:
    case CONFIG_PATIENCE:
        if (strcmp(text, option->type == CONFIG_PATIENCE ? "never" : "forever") == 0)
            return 0;
        form = option->type == CONFIG_PATIENCE ? "a time with a unit, such as 3d, or never"
                                               : "a time with a unit, such as 400d, or forever";
        r = parse_duration_ms(text, option->max, &value->number);
        break;
    case CONFIG_SIZE:
        form = "a size in bytes, such as 4096, 64K or 4M";
        r = parse_size_bytes(text, option->max, &value->number);
        break;
    case CONFIG_BOOLEAN:
        form = "yes or no";
        r = parse_boolean(text, &is_set);
        value->number = is_set;
        break;
    case CONFIG_CHOICE:
        return set_choice(option, text, &value->number, error);
    case CONFIG_DESTINATION:
    case CONFIG_ENDPOINT:
        return option->type == CONFIG_ENDPOINT ? check_endpoint(text, error) : check_destination(text, error);
    case CONFIG_HOSTS:
    case CONFIG_NAME:
        return check_names(option, text, error);
    }
    if (r == -EINVAL)
        return error_set(error, EINVAL, "'%s' is not %s", text, form);
    return r < 0 || value->number < option->min ? range_error(option, text, error) : 0;
}

int config_value_set(const struct config_option *option, const char *text, unsigned int line,
                     struct config_value *ret_value, struct error *error)
{
    struct config_value value = {.line = line};
    int r;

    if (*text == '\0')
        return error_set(error, EINVAL, "the value is empty; remove the line to use the default");
    r = parse_value(option, text, &value, error);
    if (r < 0)
        return r;
    if (!value.text)
        value.text = strdup(text);
    if (!value.text)
        return error_set(error, ENOMEM, "out of memory");
    *ret_value = value;
    return 0;
}

bool config_option_is_per_app(const struct config_option *option)
{
    return strcmp(option->section, "app") == 0;
}

struct config_value *config_option_value(const struct config_option *option, const void *base)
{
    size_t size = config_option_is_per_app(option) ? sizeof(struct config_app) : sizeof(struct config);

    assert(option->offset + sizeof(struct config_value) <= size);
    return (struct config_value *)((char *)base + option->offset);
}

void config_wrap_error(const struct config *config, const struct config_value *value, struct error *error)
{
    char section[sizeof "app 18446744073709551615"];

    for (const struct config_option *option = config_options; option->section; option++) {
        if (!config_option_is_per_app(option) && config_option_value(option, config) == value) {
            if (value->line > 0)
                error_wrap(error, "%s:%u: [%s] %s", config->path, value->line, option->section, option->key);
            else
                error_wrap(error, "%s: [%s] %s", config->path, option->section, option->key);
            return;
        }
        for (size_t i = 0; i < config->app_count && config_option_is_per_app(option); i++) {
            const struct config_app *app = &config->apps[i];

            if (config_option_value(option, app) != value)
                continue;
            (void)snprintf(section, sizeof section, "app %" PRId64, app->sdk_appid);
            error_wrap(error, "%s:%u: [%s] %s", config->path, value->line > 0 ? value->line : app->line, section,
                       option->key);
            return;
        }
    }
    assert(false); // the value is not part of the configuration
}

int config_wrap_result(const struct config *config, const struct config_value *value, int result, struct error *error)
{
    if (result < 0)
        config_wrap_error(config, value, error);
    return result;
}

void config_configure_log(const struct config *config)
{
    // The order is that of log_levels.
    static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG};

    assert(config->log_level.number < sizeof levels / sizeof levels[0]);
    log_configure(levels[config->log_level.number], config->log_format.number ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
}

static int print_section(struct buffer *text, const char *section, const void *base)
{
    int r = 0;

    for (const struct config_option *option = config_options; option->section && r == 0; option++) {
        const char *value;

        if (strcmp(option->section, section) != 0)
            continue;
        value = config_option_value(option, base)->text;
        r = value ? buffer_print(text, "%s = %s\n", option->key, value)
                  : buffer_print(text, "# %s is not set\n", option->key);
    }
    return r;
}

int config_print(const struct config *config, struct buffer *text)
{
    const char *section = "";
    int r = 0;

    for (const struct config_option *option = config_options; option->section && r == 0; option++) {
        if (config_option_is_per_app(option) || strcmp(section, option->section) == 0)
            continue;
        r = buffer_print(text, "%s[%s]\n", *section ? "\n" : "", option->section);
        section = option->section;
        if (r == 0)
            r = print_section(text, section, config);
    }
    for (size_t i = 0; i < config->app_count && r == 0; i++) {
        r = buffer_print(text, "\n[app %" PRId64 "]\n", config->apps[i].sdk_appid);
        if (r == 0)
            r = print_section(text, "app", &config->apps[i]);
    }
    return r;
}

void config_report_unapplied(const struct config *running, const struct config *next,
                             void (*report)(const char *sentence))
{
    for (const struct config_option *option = config_options; option->section; option++) {
        const struct config_value *value;
        struct error sentence;

        if (!option->needs_restart)
            continue;
        assert(!config_option_is_per_app(option) && option->default_text);
        value = config_option_value(option, next);
        if (strcmp(value->text, config_option_value(option, running)->text) == 0)
            continue;
        error_set(&sentence, 0, "a reload does not change this key; restart the daemon to apply the new value");
        config_wrap_error(next, value, &sentence);
        report(sentence.text);
    }
}

void config_finish(struct config *config)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        if (!config_option_is_per_app(option))
            free(config_option_value(option, config)->text);
        for (size_t i = 0; i < config->app_count && config_option_is_per_app(option); i++)
            free(config_option_value(option, &config->apps[i])->text);
    }
    free(config->apps);
    free(config->path);
    *config = (struct config){0};
}
