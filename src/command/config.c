#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/base/file.h"
#include "imcallbackd/base/log.h"
#include "imcallbackd/base/parse.h"

#define KIB          ((uint64_t)1 << 10)
#define MIB          ((uint64_t)1 << 20)
#define SECONDS_MS   ((uint64_t)1000)
#define HOURS_MS     (3600 * SECONDS_MS)
#define DAYS_MS      (24 * HOURS_MS)
#define OFFSET(name) offsetof(struct config, name)
#define OF_APP(name) offsetof(struct config_app, name)

static const char *const other_commands[] = {"reject", "acknowledge", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

// clang-format off
const struct config_option config_options[] = {
    {.section = "listen", .key = "address", .type = CONFIG_ADDRESS, .offset = OFFSET(listen_address),
     .default_text = "0.0.0.0", .fixed = true},
    {.section = "listen", .key = "port", .type = CONFIG_NUMBER, .offset = OFFSET(listen_port),
     .default_text = "8443", .max = 65535, .fixed = true},
    {.section = "listen", .key = "path", .type = CONFIG_URL_PATH, .offset = OFFSET(listen_path),
     .default_text = "/", .fixed = true},
    {.section = "listen", .key = "threads", .type = CONFIG_NUMBER, .offset = OFFSET(listen_threads),
     .default_text = "0", .max = 256, .fixed = true},
    {.section = "tls", .key = "certificate", .type = CONFIG_FILE, .offset = OFFSET(tls_certificate), .required = true},
    {.section = "tls", .key = "private_key", .type = CONFIG_FILE, .offset = OFFSET(tls_private_key), .required = true},
    {.section = "tls", .key = "client_ca", .type = CONFIG_FILE, .offset = OFFSET(tls_client_ca)},
    {.section = "app", .key = "token_file", .type = CONFIG_FILE, .offset = OF_APP(token_file)},
    {.section = "app", .key = "request_time_window", .type = CONFIG_DURATION, .offset = OF_APP(request_time_window),
     .default_text = "60s", .min = SECONDS_MS, .max = DAYS_MS},
    {.section = "callback", .key = "other_commands", .type = CONFIG_CHOICE,
     .offset = OFFSET(callback_other_commands), .default_text = "reject", .choices = other_commands},
    {.section = "callback", .key = "allow_from", .type = CONFIG_ADDRESS_BLOCKS, .offset = OFFSET(callback_allow_from)},
    {.section = "store", .key = "database", .type = CONFIG_FILE, .offset = OFFSET(store_database),
     .default_text = "/var/lib/imcallbackd/callbacks.db", .fixed = true},
    {.section = "store", .key = "keep_body", .type = CONFIG_BOOLEAN, .offset = OFFSET(store_keep_body),
     .default_text = "no"},
    {.section = "store", .key = "retention", .type = CONFIG_RETENTION, .offset = OFFSET(store_retention),
     .default_text = "forever", .min = DAYS_MS, .max = 36500 * DAYS_MS},
    {.section = "forward", .key = "url", .type = CONFIG_DESTINATION, .offset = OFFSET(forward_url)},
    {.section = "forward", .key = "password_file", .type = CONFIG_SERVICE_FILE,
     .offset = OFFSET(forward_password_file)},
    {.section = "forward", .key = "receiver", .type = CONFIG_NAME, .offset = OFFSET(forward_receiver)},
    {.section = "forward", .key = "shipped_file", .type = CONFIG_FILE, .offset = OFFSET(forward_shipped_file),
     .default_text = "/var/lib/imcallbackd-forward/shipped"},
    {.section = "forward", .key = "admin_port", .type = CONFIG_NUMBER, .offset = OFFSET(forward_admin_port),
     .default_text = "9465", .max = 65535},
    {.section = "limits", .key = "body", .type = CONFIG_SIZE, .offset = OFFSET(limits_body),
     .default_text = "4M", .min = KIB, .max = 16 * MIB},
    {.section = "limits", .key = "connections", .type = CONFIG_NUMBER, .offset = OFFSET(limits_connections),
     .default_text = "4096", .min = 1, .max = 1000000},
    {.section = "limits", .key = "connections_per_address", .type = CONFIG_NUMBER,
     .offset = OFFSET(limits_connections_per_address), .default_text = "1024", .min = 1, .max = 1000000},
    {.section = "limits", .key = "idle_timeout", .type = CONFIG_DURATION, .offset = OFFSET(limits_idle_timeout),
     .default_text = "300s", .min = SECONDS_MS, .max = DAYS_MS},
    {.section = "limits", .key = "request_timeout", .type = CONFIG_DURATION, .offset = OFFSET(limits_request_timeout),
     .default_text = "10s", .min = SECONDS_MS, .max = HOURS_MS},
    {.section = "limits", .key = "store_wait", .type = CONFIG_DURATION, .offset = OFFSET(limits_store_wait),
     .default_text = "5s", .max = HOURS_MS},
    {.section = "admin", .key = "address", .type = CONFIG_ADDRESS, .offset = OFFSET(admin_address),
     .default_text = "127.0.0.1", .fixed = true},
    {.section = "admin", .key = "port", .type = CONFIG_NUMBER, .offset = OFFSET(admin_port),
     .default_text = "9463", .max = 65535, .fixed = true},
    {.section = "log", .key = "level", .type = CONFIG_CHOICE, .offset = OFFSET(log_level),
     .default_text = "info", .choices = log_levels},
    {.section = "log", .key = "format", .type = CONFIG_CHOICE, .offset = OFFSET(log_format),
     .default_text = "text", .choices = log_formats},
    {.section = NULL},
};
// clang-format on

static int set_choice(const struct config_option *option, const char *text, uint64_t *ret_index, struct error *error)
{
    struct buffer known = {0};
    int r = 0;

    for (size_t i = 0; option->choices[i]; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    for (size_t i = 0; option->choices[i] && r == 0; i++)
        r = buffer_print(&known, i == 0 ? "%s" : ", %s", option->choices[i]);
    r = r < 0 ? error_set(error, ENOMEM, "out of memory")
              : error_set(error, EINVAL, "'%s' is not one of: %s", text, buffer_text(&known));
    buffer_finish(&known);
    return r;
}

// What the value has to look like, for the message when it does not.
static const char *wanted_form(enum config_type type)
{
    switch (type) {
    case CONFIG_ADDRESS:
        return "a numeric IPv4 or IPv6 address";
    case CONFIG_URL_PATH:
        return "a path that starts with '/' and contains no space, '?' or '#'";
    case CONFIG_NUMBER:
        return "a whole number";
    case CONFIG_DURATION:
        return "a time with a unit, such as 90s, 5m or 2h";
    case CONFIG_RETENTION:
        return "a time with a unit, such as 400d, or forever";
    case CONFIG_SIZE:
        return "a size in bytes, such as 4096, 64K or 4M";
    case CONFIG_BOOLEAN:
        return "yes or no";
    case CONFIG_NAME:
        return "a name of letters, digits, '.', '_' and '-' with at most 64 characters";
    case CONFIG_ADDRESS_BLOCKS:
    case CONFIG_FILE:
    case CONFIG_SERVICE_FILE:
    case CONFIG_CHOICE:
    case CONFIG_DESTINATION:
        break;
    }
    return "a text";
}

static int check_address(const char *text)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1 ? 0 : -EINVAL;
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

static int check_name(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return length <= 64 && text[length] == '\0' ? 0 : -EINVAL;
}

// A password would be seen by everyone who may read the configuration, and in what `check` prints. So the text is not
// repeated here either.
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

// -EINVAL: not of the form. -ERANGE: beyond the option's limits. *ret_number is set only for what stands for a number.
static int parse_value(const struct config_option *option, const char *text, uint64_t *ret_number)
{
    bool truth;
    int r = 0;

    switch (option->type) {
    case CONFIG_ADDRESS:
        return check_address(text);
    case CONFIG_URL_PATH:
        return text[0] == '/' && !strpbrk(text, " \t?#") ? 0 : -EINVAL;
    case CONFIG_NUMBER:
        r = parse_decimal(text, strlen(text), option->max, ret_number);
        break;
    case CONFIG_RETENTION:
        if (strcmp(text, "forever") == 0)
            return 0;
        r = parse_duration_ms(text, option->max, ret_number);
        break;
    case CONFIG_DURATION:
        r = parse_duration_ms(text, option->max, ret_number);
        break;
    case CONFIG_SIZE:
        r = parse_size_bytes(text, option->max, ret_number);
        break;
    case CONFIG_BOOLEAN:
        r = parse_boolean(text, &truth);
        if (r == 0)
            *ret_number = truth;
        return r;
    case CONFIG_NAME:
        return check_name(text);
    case CONFIG_ADDRESS_BLOCKS: // these are looked at with words of their own
    case CONFIG_DESTINATION:
    case CONFIG_CHOICE:
    case CONFIG_FILE:
    case CONFIG_SERVICE_FILE:
        break;
    }
    return r == 0 && *ret_number < option->min ? -ERANGE : r;
}

// A limit in the words of the file: seconds for durations, bytes for sizes.
static void set_range_error(const struct config_option *option, const char *text, struct error *error)
{
    bool time = option->type == CONFIG_DURATION || option->type == CONFIG_RETENTION;
    uint64_t unit = time ? SECONDS_MS : 1;
    const char *name = time ? "s" : "";

    (void)error_set(error, ERANGE, "%s is out of range; choose %" PRIu64 "%s to %" PRIu64 "%s", text,
                    option->min / unit, name, option->max / unit, name);
}

int config_value_set(const struct config_option *option, const char *text, unsigned int line,
                     struct config_value *ret_value, struct error *error)
{
    struct config_value value = {.line = line};
    int r = 0;

    if (*text == '\0')
        return error_set(error, EINVAL, "the value is empty; remove the line to use the default");
    if (option->type == CONFIG_CHOICE)
        r = set_choice(option, text, &value.number, error);
    else if (option->type == CONFIG_FILE)
        r = file_expand_path(text, &value.text, error);
    else if (option->type == CONFIG_ADDRESS_BLOCKS)
        r = check_address_blocks(text, error);
    else if (option->type == CONFIG_DESTINATION)
        r = check_destination(text, error);
    if (r < 0)
        return r;
    r = parse_value(option, text, &value.number);
    if (r == -EINVAL)
        return error_set(error, EINVAL, "'%s' is not %s", text, wanted_form(option->type));
    if (r == -ERANGE) {
        set_range_error(option, text, error);
        return -ERANGE;
    }
    if (!value.text)
        value.text = strdup(text);
    if (!value.text)
        return error_set(error, ENOMEM, "out of memory");
    *ret_value = value;
    return 0;
}

bool config_option_is_of_app(const struct config_option *option)
{
    return strcmp(option->section, "app") == 0;
}

struct config_value *config_option_value(const struct config_option *option, const void *base)
{
    return (struct config_value *)((char *)base + option->offset);
}

void config_blame(const struct config *config, const struct config_value *value, struct error *error)
{
    char section[sizeof "app 18446744073709551615"];

    for (const struct config_option *option = config_options; option->section; option++) {
        if (!config_option_is_of_app(option) && config_option_value(option, config) == value) {
            if (value->line > 0)
                error_wrap(error, "%s:%u: [%s] %s", config->path, value->line, option->section, option->key);
            else
                error_wrap(error, "%s: [%s] %s", config->path, option->section, option->key);
            return;
        }
        for (size_t i = 0; i < config->app_count && config_option_is_of_app(option); i++) {
            const struct config_app *app = &config->apps[i];

            if (config_option_value(option, app) != value)
                continue;
            (void)snprintf(section, sizeof section, "app %" PRId64, app->sdk_appid);
            error_wrap(error, "%s:%u: [%s] %s", config->path, value->line > 0 ? value->line : app->line, section,
                       option->key);
            return;
        }
    }
}

void config_use_log(const struct config *config)
{
    static const enum log_level levels[] = {LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG};

    log_configure(levels[config->log_level.number], config->log_format.number ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT);
}

static int print_option(struct buffer *text, const struct config_option *option, const void *base)
{
    const struct config_value *value = config_option_value(option, base);

    if (!value->text)
        return buffer_print(text, "# %s is not set\n", option->key);
    return buffer_print(text, "%s = %s\n", option->key, value->text);
}

static int print_app(struct buffer *text, const struct config_app *app)
{
    int r = buffer_print(text, "\n[app %" PRId64 "]\n", app->sdk_appid);

    for (const struct config_option *option = config_options; option->section && r == 0; option++) {
        if (config_option_is_of_app(option))
            r = print_option(text, option, app);
    }
    return r;
}

int config_print(const struct config *config, struct buffer *text)
{
    const char *section = "";
    int r = 0;

    for (const struct config_option *option = config_options; option->section && r == 0; option++) {
        if (config_option_is_of_app(option))
            continue;
        if (strcmp(section, option->section) != 0) {
            r = buffer_print(text, "%s[%s]\n", *section ? "\n" : "", option->section);
            section = option->section;
        }
        if (r == 0)
            r = print_option(text, option, config);
    }
    for (size_t i = 0; i < config->app_count && r == 0; i++)
        r = print_app(text, &config->apps[i]);
    return r;
}

void config_compare_fixed(const struct config *running, const struct config *wanted, void (*tell)(const char *sentence))
{
    for (const struct config_option *option = config_options; option->section; option++) {
        const struct config_value *value = config_option_value(option, wanted);
        struct error sentence;

        if (!option->fixed || config_option_is_of_app(option) ||
            strcmp(value->text, config_option_value(option, running)->text) == 0)
            continue;
        error_set(&sentence, 0, "a reload does not change this key; restart the daemon to apply the new value");
        config_blame(wanted, value, &sentence);
        tell(sentence.text);
    }
}

static void finish_values(void *base, bool of_app)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        if (config_option_is_of_app(option) == of_app)
            free(config_option_value(option, base)->text);
    }
}

void config_finish(struct config *config)
{
    for (size_t i = 0; i < config->app_count; i++)
        finish_values(&config->apps[i], true);
    finish_values(config, false);
    free(config->apps);
    free(config->path);
    *config = (struct config){0};
}
