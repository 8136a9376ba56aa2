#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/file.h"
#include "imcallbackd/base/parse.h"

#define KIB          ((uint64_t)1 << 10)
#define MIB          ((uint64_t)1 << 20)
#define SECONDS_MS   ((uint64_t)1000)
#define HOURS_MS     (3600 * SECONDS_MS)
#define OFFSET(name) offsetof(struct config, name)
#define OF_APP(name) offsetof(struct config_app, name)

static const char *const other_commands[] = {"reject", "acknowledge", NULL};
static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};

const struct config_option config_options[] = {
    {"listen", "address", CONFIG_ADDRESS, OFFSET(listen_address), "0.0.0.0", false, 0, 0, NULL},
    {"listen", "port", CONFIG_NUMBER, OFFSET(listen_port), "8443", false, 0, 65535, NULL},
    {"listen", "path", CONFIG_URL_PATH, OFFSET(listen_path), "/", false, 0, 0, NULL},
    {"listen", "threads", CONFIG_NUMBER, OFFSET(listen_threads), "0", false, 0, 256, NULL},
    {"tls", "certificate", CONFIG_FILE, OFFSET(tls_certificate), NULL, true, 0, 0, NULL},
    {"tls", "private_key", CONFIG_FILE, OFFSET(tls_private_key), NULL, true, 0, 0, NULL},
    {"app", "token_file", CONFIG_FILE, OF_APP(token_file), NULL, false, 0, 0, NULL},
    {"app", "request_time_window", CONFIG_DURATION, OF_APP(request_time_window), "60s", false, SECONDS_MS,
     24 * HOURS_MS, NULL},
    {"callback", "other_commands", CONFIG_CHOICE, OFFSET(callback_other_commands), "reject", false, 0, 0,
     other_commands},
    {"store", "database", CONFIG_FILE, OFFSET(store_database), "/var/lib/imcallbackd/callbacks.db", false, 0, 0, NULL},
    {"store", "keep_body", CONFIG_BOOLEAN, OFFSET(store_keep_body), "no", false, 0, 0, NULL},
    {"limits", "body", CONFIG_SIZE, OFFSET(limits_body), "4M", false, KIB, 64 * MIB, NULL},
    {"limits", "idle_timeout", CONFIG_DURATION, OFFSET(limits_idle_timeout), "300s", false, SECONDS_MS, 24 * HOURS_MS,
     NULL},
    {"log", "level", CONFIG_CHOICE, OFFSET(log_level), "info", false, 0, 0, log_levels},
    {"log", "format", CONFIG_CHOICE, OFFSET(log_format), "text", false, 0, 0, log_formats},
    {NULL, NULL, CONFIG_TEXT, 0, NULL, false, 0, 0, NULL},
};

static int set_choice(const struct config_option *option, const char *text, uint64_t *ret_index, struct error *error)
{
    struct buffer known = {0};
    int r;

    for (size_t i = 0; option->choices[i]; i++) {
        if (strcmp(text, option->choices[i]) == 0) {
            *ret_index = i;
            buffer_finish(&known);
            return 0;
        }
        if (buffer_print(&known, i == 0 ? "%s" : ", %s", option->choices[i]) < 0)
            break;
    }
    r = error_set(error, EINVAL, "'%s' is none of %s", text, buffer_text(&known));
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
        return "a path that begins with '/' and has no space, '?' or '#'";
    case CONFIG_NUMBER:
        return "a whole number";
    case CONFIG_DURATION:
        return "a time with its unit, such as 90s, 5m or 2h";
    case CONFIG_SIZE:
        return "a size in bytes, such as 4096, 64K or 4M";
    case CONFIG_BOOLEAN:
        return "yes or no";
    case CONFIG_TEXT:
    case CONFIG_FILE:
    case CONFIG_CHOICE:
        break;
    }
    return "a text";
}

static int check_address(const char *text)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1 ? 0 : -EINVAL;
}

static int parse_value(const struct config_option *option, const char *text, uint64_t *ret_number)
{
    bool truth;
    int r;

    switch (option->type) {
    case CONFIG_ADDRESS:
        return check_address(text);
    case CONFIG_URL_PATH:
        return text[0] == '/' && !strpbrk(text, " \t?#") ? 0 : -EINVAL;
    case CONFIG_NUMBER:
        return parse_decimal(text, strlen(text), UINT64_MAX, ret_number);
    case CONFIG_DURATION:
        return parse_duration_ms(text, UINT64_MAX, ret_number);
    case CONFIG_SIZE:
        return parse_size_bytes(text, UINT64_MAX, ret_number);
    case CONFIG_BOOLEAN:
        r = parse_boolean(text, &truth);
        if (r == 0)
            *ret_number = truth;
        return r;
    case CONFIG_TEXT:
    case CONFIG_FILE:
    case CONFIG_CHOICE:
        break;
    }
    return 0;
}

// A limit in the words of the file: seconds for durations, bytes for sizes.
static void set_range_error(const struct config_option *option, const char *text, struct error *error)
{
    uint64_t unit = option->type == CONFIG_DURATION ? SECONDS_MS : 1;
    const char *name = option->type == CONFIG_DURATION ? "s" : "";

    (void)error_set(error, ERANGE, "%s is out of range: from %" PRIu64 "%s to %" PRIu64 "%s", text, option->min / unit,
                    name, option->max / unit, name);
}

int config_value_set(const struct config_option *option, const char *text, unsigned int line,
                     struct config_value *ret_value, struct error *error)
{
    struct config_value value = {.line = line};
    int r = 0;

    if (*text == '\0')
        return error_set(error, EINVAL, "the value is empty; leave the line out for the default");
    if (option->type == CONFIG_CHOICE)
        r = set_choice(option, text, &value.number, error);
    else if (option->type == CONFIG_FILE)
        r = file_expand_path(text, &value.text, error);
    if (r < 0)
        return r;
    r = parse_value(option, text, &value.number);
    if (r == -EINVAL)
        return error_set(error, EINVAL, "'%s' is not %s", text, wanted_form(option->type));
    if (r == -ERANGE || (option->max > 0 && (value.number < option->min || value.number > option->max))) {
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

static const struct config_value *value_of(const void *base, const struct config_option *option)
{
    return (const struct config_value *)((const char *)base + option->offset);
}

static bool is_app_option(const struct config_option *option)
{
    return strcmp(option->section, "app") == 0;
}

void config_blame(const struct config *config, const struct config_value *value, struct error *error)
{
    char section[sizeof "app 18446744073709551615"];

    for (const struct config_option *option = config_options; option->section; option++) {
        if (!is_app_option(option) && value_of(config, option) == value) {
            if (value->line > 0)
                error_wrap(error, "%s:%u: [%s] %s", config->path, value->line, option->section, option->key);
            else
                error_wrap(error, "%s: [%s] %s", config->path, option->section, option->key);
            return;
        }
        for (size_t i = 0; i < config->app_count && is_app_option(option); i++) {
            const struct config_app *app = &config->apps[i];

            if (value_of(app, option) != value)
                continue;
            (void)snprintf(section, sizeof section, "app %" PRId64, app->sdk_appid);
            error_wrap(error, "%s:%u: [%s] %s", config->path, value->line > 0 ? value->line : app->line, section,
                       option->key);
            return;
        }
    }
}

static int print_option(struct buffer *text, const struct config_option *option, const void *base)
{
    const struct config_value *value = value_of(base, option);

    if (!value->text)
        return buffer_print(text, "# %s is not set\n", option->key);
    return buffer_print(text, "%s = %s\n", option->key, value->text);
}

static int print_app(struct buffer *text, const struct config_app *app)
{
    int r = buffer_print(text, "\n[app %" PRId64 "]\n", app->sdk_appid);

    for (const struct config_option *option = config_options; option->section && r == 0; option++) {
        if (is_app_option(option))
            r = print_option(text, option, app);
    }
    return r;
}

int config_print(const struct config *config, struct buffer *text)
{
    const char *section = "";
    int r = 0;

    for (const struct config_option *option = config_options; option->section && r == 0; option++) {
        if (is_app_option(option))
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

static void finish_values(void *base, bool of_app)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        if (is_app_option(option) == of_app)
            free(((struct config_value *)((char *)base + option->offset))->text);
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
