// Contains the functions that the tests of the command module share. Each test program runs in its own temporary
// directory, so that all paths in configurations and errors are short.
#pragma once

#include "../files.h"
#include "../unit.h"
#include "command/config.h"

#define CONFIG_PATH "imcallbackd.conf"
#define MINIMAL     "[tls]\ncertificate = c\nprivate_key = k\n[app 1400000001]\n"

static char fixture_directory[64];

static inline int enter_directory(void **state)
{
    (void)state;
    make_directory(fixture_directory, sizeof fixture_directory);
    return chdir(fixture_directory);
}

// read_config() reads into these two variables. The next call of read_config(), or leave_directory(), frees the
// configuration.
static struct config config;
static struct error error;

static inline int leave_directory(void **state)
{
    (void)state;
    config_finish(&config);
    remove_directory(fixture_directory);
    return 0;
}

// Writes the text to CONFIG_PATH and reads the file into `config`. Returns the result of config_read().
static inline int read_config(const char *text)
{
    config_finish(&config);
    write_text(CONFIG_PATH, text);
    error.text[0] = '\0';
    return config_read(CONFIG_PATH, &config, &error);
}

static inline void assert_starts_with(const char *text, const char *prefix)
{
    if (strncmp(text, prefix, strlen(prefix)) != 0)
        fail_msg("'%s' does not start with '%s'", text, prefix);
}

static inline void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("'%s' does not contain '%s'", text, part);
}

static inline const struct config_option *find_option(const char *section, const char *key)
{
    for (const struct config_option *option = config_options; option->section; option++) {
        if (strcmp(option->section, section) == 0 && strcmp(option->key, key) == 0)
            return option;
    }
    fail_msg("no option [%s] %s", section, key);
    return NULL;
}
