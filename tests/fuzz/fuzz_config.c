// The input is a configuration file. What was read and printed again must read as the same.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "command/config.h"
#include "fuzz.h"

#define LINE_BYTES 198 // inih takes no longer ones

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
        bool of_app = strcmp(option->section, "app") == 0;

        for (size_t i = 0; i < (of_app ? config->app_count : 1); i++) {
            const char *base = of_app ? (const char *)&config->apps[i] : (const char *)config;
            const struct config_value *value = (const struct config_value *)(base + option->offset);

            assert(value->text ? *value->text : !option->required && !option->default_text);
            assert(option->max == 0 || (value->number >= option->min && value->number <= option->max));
        }
    }
    for (size_t i = 0; i < config->app_count; i++)
        assert(config->apps[i].sdk_appid > 0);
    assert(config->app_count > 0);
}

// False for what the file's form cannot hold in the way in which it is printed: a list over several lines, which
// becomes one, and a value that begins with ';', which is a comment behind a space.
static bool is_printable(const char *text)
{
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        if (strcspn(line, "\n") > LINE_BYTES)
            return false;
    }
    return !strstr(text, " = ;");
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
        config_finish(&copy);
    }
    buffer_finish(&text);
    buffer_finish(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config config;
    struct error error;

    (void)setenv("CREDENTIALS_DIRECTORY", "/run/credentials", 1);
    if (read_text(data, size, &config, &error) == 0) {
        check_values(&config);
        check_round_trip(&config);
    }
    config_finish(&config);
    return 0;
}
