// The input is a configuration file. A valid configuration that is printed and read again must not change.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "command/config.h"
#include "fuzz.h"
#include "imcallbackd/base/address.h"

#define LINE_BYTES 198 // length of the longest line that inih reads

static int read_text(const void *text, size_t length, struct config *ret_config, struct error *error)
{
    int fd = memfd_create("config", MFD_CLOEXEC), r;
    char path[64];

    assert(fd >= 0 && write(fd, text, length) == (ssize_t)length);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    r = config_read(path, ret_config, error);
    assert(r == 0 || strncmp(error->text, path, strlen(path)) == 0);
    close(fd);
    return r;
}

static void check_values(const struct config *config)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        bool of_app = config_option_is_per_app(option);

        for (size_t i = 0; i < (of_app ? config->app_count : 1); i++) {
            const void *base = of_app ? (const void *)&config->apps[i] : config;
            const struct config_value *value = config_option_value(option, base);
            bool forever = (option->type == CONFIG_RETENTION || option->type == CONFIG_PATIENCE) && value->number == 0;

            assert(value->text ? *value->text : !option->required && !option->default_text);
            assert(option->max == 0 || forever || (value->number >= option->min && value->number <= option->max));
        }
    }
    for (size_t i = 0; i < config->app_count; i++)
        assert(config->apps[i].sdk_appid > 0);
    assert(config->app_count > 0);
}

// Checks that a list that is set is not empty, because an empty allow_from would admit every client.
static void check_blocks(const struct config_value *value)
{
    struct address_block *blocks;
    struct error error;
    size_t count;

    if (!value->text)
        return;
    assert(address_blocks_parse(value->text, &blocks, &count, &error) == 0);
    assert(count > 0);
    free(blocks);
}

// Checks that no section of an app was skipped, and that only a comment follows its ] on the same line.
static void check_apps(const struct config *config, const char *text)
{
    size_t count = 0;

    for (const char *at = strstr(text, "[app "); at; at = strstr(at + 1, "[app ")) {
        const char *before = at, *end = strchr(at, ']');

        while (before > text && strchr(" \t\r", before[-1]))
            before--;
        if (before > text && before[-1] != '\n')
            continue;
        assert(end && strchr("\n;#", end[1 + strspn(end + 1, " \t\r")]));
        count++;
    }
    assert(count == config->app_count);
}

// Returns false if the printed text cannot be read again: a list over several lines becomes one line, which may be too
// long, and a value that starts with ';' becomes a comment, because a space precedes it.
static bool is_printable(const char *text)
{
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        if (strcspn(line, "\n") > LINE_BYTES)
            return false;
    }
    return !strstr(text, " = ;");
}

static void abort_at_difference(const char *sentence)
{
    (void)sentence;
    abort();
}

static void check_round_trip(const struct config *config)
{
    struct buffer text = {0}, again = {0};
    struct config copy;
    struct error error;

    assert(config_print(config, &text) == 0);
    if (is_printable(text.data)) {
        assert(read_text(text.data, text.length, &copy, &error) == 0);
        assert(config_print(&copy, &again) == 0);
        assert(strcmp(text.data, again.data) == 0);
        config_report_unapplied(config, &copy, abort_at_difference);
        config_finish(&copy);
    }
    buffer_finish(&text);
    buffer_finish(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_copy(data, size);
    struct config config;
    struct error error;

    (void)setenv("CREDENTIALS_DIRECTORY", "/run/credentials", 1);
    if (read_text(data, size, &config, &error) == 0) {
        check_values(&config);
        check_blocks(&config.callback_allow_from);
        check_blocks(&config.listen_trusted_proxies);
        if (strlen(text) == size)
            check_apps(&config, text);
        check_round_trip(&config);
    }
    config_finish(&config);
    free(text);
    return 0;
}
