// Reads the configuration file with inih, which passes each key with its section to on_entry. inih passes neither line
// numbers nor sections without keys, and it ignores the rest of the line after a section header. next_line therefore
// checks every line before inih reads it.
#include <assert.h>
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

// next_line inserts the line "=" after each section header. inih reports this line as an entry with an empty key, which
// makes sections without keys visible.
struct parser {
    struct config *config;
    FILE *file;
    unsigned int line;
    bool section_started; // the next line to pass to inih is "="
    struct error *error;
    int result; // 0, or -errno of the first failure
};

// Records the failure and its place unless an earlier failure is recorded. Returns 0, the value that tells inih that
// its handler failed.
PRINTF_LIKE(2, 3) static int fail(struct parser *parser, const char *format, ...)
{
    va_list arguments;

    if (parser->result < 0)
        return 0;
    va_start(arguments, format);
    (void)vsnprintf(parser->error->text, sizeof parser->error->text, format, arguments);
    va_end(arguments);
    error_wrap(parser->error, "%s:%u", parser->config->path, parser->line);
    parser->result = -EINVAL;
    return 0;
}

// Removes leading white space, because inih would read an indented line as the continuation of the previous value.
static void strip_indentation(char *line)
{
    size_t indentation = strspn(line, " \t\r");

    memmove(line, line + indentation, strlen(line + indentation) + 1);
}

// Returns true if the line is a complete section header, followed at most by a comment. inih would ignore a key that
// follows the header on the same line.
static bool is_section_header(const char *line)
{
    const char *end = line + strcspn(line, "];");

    return *end == ']' && strchr("\n;#", end[1 + strspn(end + 1, " \t\r")]);
}

// Returns false for a line that inih would skip, or would not read in the way that an operator expects. A key must
// start with a letter: inih ignores some bytes at the start of a line, such as a byte order mark, and next_line would
// miss a section header after them.
static bool is_well_formed(const char *line)
{
    if (strchr("\n;#", line[0]))
        return true; // an empty line or a comment
    if (line[0] == '[')
        return is_section_header(line);
    for (const char *at = line; *at; at++) {
        if (*at == '=')
            return isalpha((unsigned char)line[0]);
        if (*at == ':')
            break; // inih also accepts ':' for '='
        if (*at == ';' && at > line && isspace((unsigned char)at[-1]))
            break; // the rest is a comment
    }
    return false;
}

// inih calls this function instead of fgets.
static char *next_line(char *line, int size, void *context)
{
    struct parser *parser = context;

    if (parser->result < 0)
        return NULL;
    assert(size > (int)sizeof "=\n");
    if (parser->section_started) {
        parser->section_started = false;
        return memcpy(line, "=\n", sizeof "=\n");
    }
    if (!fgets(line, size, parser->file))
        return NULL;
    parser->line++;
    if (strlen(line) + 1 == (size_t)size && line[size - 2] != '\n') {
        fail(parser, "the line is too long; shorten it to %d bytes", size - 2);
        return NULL;
    }
    strip_indentation(line);
    if (!is_well_formed(line)) {
        fail(parser, "the line is neither [section] nor key = value");
        return NULL;
    }
    parser->section_started = line[0] == '[';
    return line;
}

static int enter_section(struct parser *parser, const char *section)
{
    struct config *config = parser->config;
    struct config_app *apps;
    uint64_t sdk_appid;

    if (strcmp(section, "app") == 0)
        return fail(parser, "[app] lacks the SDKAppID; write it as in [app 1400000000]");
    for (const struct config_option *option = config_options; option->section; option++) {
        if (strcmp(option->section, section) == 0)
            return 1;
    }
    if (strncmp(section, "app ", 4) != 0)
        return fail(parser, "unknown section [%s]", section);
    if (section[4] == '0' || parse_decimal(section + 4, strlen(section + 4), INT64_MAX, &sdk_appid) < 0)
        return fail(parser, "[%s] does not name an SDKAppID; write digits, as in [app 1400000000]", section);
    for (size_t i = 0; i < config->app_count; i++) {
        if (config->apps[i].sdk_appid == (int64_t)sdk_appid)
            return fail(parser, "[%s] appears twice; merge the two sections", section);
    }
    if (config->app_count == MAX_APPS)
        return fail(parser, "too many [app SDKAPPID] sections; at most %d are supported", MAX_APPS);
    apps = realloc(config->apps, (config->app_count + 1) * sizeof *apps);
    if (!apps)
        return fail(parser, "out of memory");
    config->apps = apps;
    apps[config->app_count++] = (struct config_app){.sdk_appid = (int64_t)sdk_appid, .line = parser->line};
    return 1;
}

// Appends the text of a further line with the same key to the list in *value. Returns 0, or -errno without changing
// *value.
static int extend_list(const struct config_option *option, const char *text, struct config_value *value,
                       struct parser *parser)
{
    struct config_value longer = {0};
    struct buffer both = {0};
    int r = buffer_print(&both, "%s, %s", value->text, text);

    if (r < 0)
        return error_set(parser->error, ENOMEM, "out of memory");
    r = config_value_set(option, both.data, parser->line, &longer, parser->error);
    buffer_finish(&both);
    if (r < 0)
        return r;
    free(value->text);
    *value = longer;
    return 0;
}

static int set_key(struct parser *parser, const char *section, const char *key, const char *text)
{
    bool per_app = strncmp(section, "app ", 4) == 0;
    struct config *config = parser->config;
    void *base = per_app ? (void *)&config->apps[config->app_count - 1] : config;

    assert(!per_app || config->app_count > 0); // enter_section was called before
    for (const struct config_option *option = config_options; option->section; option++) {
        struct config_value *value;
        int r;

        if (strcmp(option->section, per_app ? "app" : section) != 0 || strcmp(option->key, key) != 0)
            continue;
        value = config_option_value(option, base);
        if (value->text && option->type != CONFIG_ADDRESS_BLOCKS)
            return fail(parser, "[%s] %s appears twice; remove one of the lines", section, key);
        r = value->text && *text ? extend_list(option, text, value, parser)
                                 : config_value_set(option, text, parser->line, value, parser->error);
        if (r < 0) {
            error_wrap(parser->error, "%s:%u: [%s] %s", config->path, parser->line, section, key);
            parser->result = r;
            return 0;
        }
        return 1;
    }
    return fail(parser, "unknown key '%s' in [%s]", key, section);
}

// inih calls this function for each key with its value, and for the line "=" after each section header. Returns 0 after
// a failure, otherwise 1.
static int on_entry(void *context, const char *section, const char *key, const char *text)
{
    struct parser *parser = context;

    if (parser->result < 0)
        return 0;
    if (*section == '\0')
        return fail(parser, "'%s' precedes the first section; move the key into a section", key);
    if (*key == '\0' && *text == '\0')
        return enter_section(parser, section);
    return set_key(parser, section, key, text);
}

static int set_default(const struct config *config, const struct config_option *option, void *base, struct error *error)
{
    struct config_value *value = config_option_value(option, base);

    if (value->text || (!option->default_text && !option->required))
        return 0;
    if (!option->default_text)
        return error_set(error, EINVAL, "%s: [%s] %s: the key is required; add it", config->path, option->section,
                         option->key);
    return config_wrap_result(config, value, config_value_set(option, option->default_text, 0, value, error), error);
}

static int set_defaults(struct config *config, struct error *error)
{
    int r = 0;

    for (const struct config_option *option = config_options; option->section && r == 0; option++) {
        if (!config_option_is_per_app(option)) {
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
    struct parser parser = {.config = ret_config, .error = error};

    *ret_config = (struct config){.path = strdup(path)};
    if (!ret_config->path)
        return error_set(error, ENOMEM, "out of memory");
    parser.file = fopen(path, "re");
    if (!parser.file)
        return error_set(error, errno, "%s: %s", path, strerror(errno));
    (void)ini_parse_stream(next_line, &parser, on_entry, &parser);
    if (parser.result == 0 && ferror(parser.file))
        parser.result = error_set(error, EIO, "%s: cannot read the file: %s", path, strerror(errno));
    (void)fclose(parser.file);
    if (parser.result < 0)
        return parser.result;
    return set_defaults(ret_config, error);
}
