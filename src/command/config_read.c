#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "imcallbackd/base/parse.h"

#include <ini.h>

#define MAX_APPS 1000

// inih hands out keys with their section's name. Two things it does not tell are had from the lines on their way to it:
// their number, and a section that has no key, for which a line "=" is slipped in that arrives as a key without a name.
struct reader {
    struct config *config;
    FILE *file;
    unsigned int line;
    bool section_begins; // the "=" is due
    struct error *error;
    int result; // the first failure
};

// Keeps the first failure, with its place. Returns 0, with which inih's handler refuses.
static int fail(struct reader *reader, const char *format, ...) PRINTF_LIKE(2, 3);

static int fail(struct reader *reader, const char *format, ...)
{
    char what[sizeof reader->error->text];
    va_list arguments;

    if (reader->result < 0)
        return 0;
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    reader->result = error_set(reader->error, EINVAL, "%s:%u: %s", reader->config->path, reader->line, what);
    return 0;
}

// Space at the start of a line would make it a continuation of the line before, which nobody expects here.
static void strip_indentation(char *line)
{
    size_t indentation = strspn(line, " \t\r");

    memmove(line, line + indentation, strlen(line + indentation) + 1);
}

// inih would pass over what stands behind the section on its line, a key for instance.
static bool is_section(const char *line)
{
    const char *end = line + strcspn(line, "];");

    return *end == ']' && strchr("\n;#", end[1 + strspn(end + 1, " \t\r")]);
}

// A line that inih cannot read is skipped by it without a word of its place. One that begins with bytes that inih
// passes over, such as a byte order mark, could hide a section from begin_section.
static bool is_understood(const char *line)
{
    if (strchr("\n;#", line[0]))
        return true; // nothing but a comment, at the most
    if (line[0] == '[')
        return is_section(line);
    for (const char *at = line; *at; at++) {
        if (*at == '=')
            return isalpha((unsigned char)line[0]);
        if (*at == ':')
            break; // inih takes it for a '='
        if (*at == ';' && at > line && isspace((unsigned char)at[-1]))
            break; // the rest is a comment
    }
    return false;
}

// inih's reader: fgets with the two services above.
static char *next_line(char *line, int size, void *context)
{
    struct reader *reader = context;

    if (reader->result < 0)
        return NULL;
    if (reader->section_begins) {
        reader->section_begins = false;
        return memcpy(line, "=\n", sizeof "=\n");
    }
    if (!fgets(line, size, reader->file))
        return NULL;
    reader->line++;
    if (strlen(line) + 1 == (size_t)size && line[size - 2] != '\n') {
        fail(reader, "the line is too long; shorten it to %d bytes", size - 2);
        return NULL;
    }
    strip_indentation(line);
    if (!is_understood(line)) {
        fail(reader, "the line is neither [section] nor key = value");
        return NULL;
    }
    reader->section_begins = line[0] == '[';
    return line;
}

static int begin_section(struct reader *reader, const char *section)
{
    struct config *config = reader->config;
    struct config_app *apps;
    uint64_t sdk_appid;

    if (strcmp(section, "app") == 0)
        return fail(reader, "[app] lacks the SDKAppID; write it as in [app 1400000000]");
    for (const struct config_option *option = config_options; option->section; option++) {
        if (strcmp(option->section, section) == 0)
            return 1;
    }
    if (strncmp(section, "app ", 4) != 0)
        return fail(reader, "unknown section [%s]", section);
    if (section[4] == '0' || parse_decimal(section + 4, strlen(section + 4), INT64_MAX, &sdk_appid) < 0)
        return fail(reader, "[%s] does not name an SDKAppID; write digits, as in [app 1400000000]", section);
    for (size_t i = 0; i < config->app_count; i++) {
        if (config->apps[i].sdk_appid == (int64_t)sdk_appid)
            return fail(reader, "[%s] appears twice; merge the two sections", section);
    }
    if (config->app_count == MAX_APPS)
        return fail(reader, "too many [app SDKAPPID] sections; at most %d are supported", MAX_APPS);
    apps = realloc(config->apps, (config->app_count + 1) * sizeof *apps);
    if (!apps)
        return fail(reader, "out of memory");
    config->apps = apps;
    apps[config->app_count++] = (struct config_app){.sdk_appid = (int64_t)sdk_appid, .line = reader->line};
    return 1;
}

// A list goes on with a further line of the same key.
static int lengthen(const struct config_option *option, const char *text, struct config_value *value,
                    struct reader *reader)
{
    struct config_value longer = {0};
    struct buffer both = {0};
    int r = buffer_print(&both, "%s, %s", value->text, text);

    if (r < 0)
        return error_set(reader->error, ENOMEM, "out of memory");
    r = config_value_set(option, both.data, reader->line, &longer, reader->error);
    buffer_finish(&both);
    if (r < 0)
        return r;
    free(value->text);
    *value = longer;
    return 0;
}

static int take_key(struct reader *reader, const char *section, const char *key, const char *text)
{
    bool of_app = strncmp(section, "app ", 4) == 0;
    struct config *config = reader->config;
    void *base = of_app ? (void *)&config->apps[config->app_count - 1] : config;

    for (const struct config_option *option = config_options; option->section; option++) {
        struct config_value *value = config_option_value(option, base);
        int r;

        if (strcmp(option->section, of_app ? "app" : section) != 0 || strcmp(option->key, key) != 0)
            continue;
        if (value->text && option->type != CONFIG_ADDRESS_BLOCKS)
            return fail(reader, "[%s] %s appears twice; remove one of the lines", section, key);
        r = value->text && *text ? lengthen(option, text, value, reader)
                                 : config_value_set(option, text, reader->line, value, reader->error);
        if (r < 0) {
            error_wrap(reader->error, "%s:%u: [%s] %s", config->path, reader->line, section, key);
            reader->result = r;
            return 0;
        }
        return 1;
    }
    return fail(reader, "unknown key '%s' in [%s]", key, section);
}

// inih's handler, for each key.
static int on_key(void *context, const char *section, const char *key, const char *text)
{
    struct reader *reader = context;

    if (reader->result < 0)
        return 0;
    if (*section == '\0')
        return fail(reader, "'%s' precedes the first section; move the key into a section", key);
    if (*key == '\0' && *text == '\0')
        return begin_section(reader, section);
    return take_key(reader, section, key, text);
}

static int set_default(const struct config *config, const struct config_option *option, void *base, struct error *error)
{
    struct config_value *value = config_option_value(option, base);
    int r;

    if (value->text || (!option->default_text && !option->required))
        return 0;
    if (!option->default_text)
        return error_set(error, EINVAL, "%s: [%s] %s: the key is required; add it", config->path, option->section,
                         option->key);
    r = config_value_set(option, option->default_text, 0, value, error);
    if (r < 0)
        config_blame(config, value, error);
    return r;
}

static int set_defaults(struct config *config, struct error *error)
{
    int r = 0;

    for (const struct config_option *option = config_options; option->section && r == 0; option++) {
        if (!config_option_is_of_app(option)) {
            r = set_default(config, option, config, error);
            continue;
        }
        for (size_t i = 0; i < config->app_count && r == 0; i++)
            r = set_default(config, option, &config->apps[i], error);
    }
    if (r == 0 && config->app_count == 0)
        return error_set(error, EINVAL,
                         "%s: there is no [app SDKAPPID] section, so every call would be refused; add one "
                         "with the SDKAppID of your app",
                         config->path);
    return r;
}

int config_read(const char *path, struct config *ret_config, struct error *error)
{
    struct reader reader = {.config = ret_config, .error = error};

    *ret_config = (struct config){.path = strdup(path)};
    if (!ret_config->path)
        return error_set(error, ENOMEM, "out of memory");
    reader.file = fopen(path, "re");
    if (!reader.file)
        return error_set(error, errno, "%s: %s", path, strerror(errno));
    (void)ini_parse_stream(next_line, &reader, on_key, &reader);
    if (reader.result == 0 && ferror(reader.file))
        reader.result = error_set(error, EIO, "%s: cannot read the file: %s", path, strerror(errno));
    (void)fclose(reader.file);
    if (reader.result < 0)
        return reader.result;
    return set_defaults(ret_config, error);
}
