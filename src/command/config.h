// The configuration: one table says what there is (config.c), the file says what is wanted (config_read.c).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

// One value as it stands in the file, or its default.
struct config_value {
    char *text;        // NULL: neither given nor defaulted
    uint64_t number;   // numbers; ms; bytes; 0 or 1; the index of a choice
    unsigned int line; // 0: the default
};

struct config_app {
    int64_t sdk_appid;
    unsigned int line;
    struct config_value token_file;
    struct config_value request_time_window;
};

struct config {
    char *path;
    struct config_value listen_address;
    struct config_value listen_port;
    struct config_value listen_path;
    struct config_value listen_threads;
    struct config_value tls_certificate;
    struct config_value tls_private_key;
    struct config_value tls_client_ca;
    struct config_value callback_other_commands;
    struct config_value callback_allow_from;
    struct config_value store_database;
    struct config_value store_keep_body;
    struct config_value store_retention;
    struct config_value forward_url;
    struct config_value forward_password_file;
    struct config_value forward_receiver;
    struct config_value forward_shipped_file;
    struct config_value forward_admin_port;
    struct config_value limits_body;
    struct config_value limits_connections;
    struct config_value limits_connections_per_address;
    struct config_value limits_idle_timeout;
    struct config_value limits_request_timeout;
    struct config_value limits_store_wait;
    struct config_value admin_address;
    struct config_value admin_port;
    struct config_value log_level;
    struct config_value log_format;
    struct config_app *apps;
    size_t app_count;
};

enum config_type {
    CONFIG_ADDRESS,
    CONFIG_ADDRESS_BLOCKS, // a list; may stand there several times, which makes it longer
    CONFIG_URL_PATH,
    CONFIG_FILE,
    CONFIG_SERVICE_FILE, // of one service alone, which looks itself where $CREDENTIALS_DIRECTORY is
    CONFIG_NUMBER,
    CONFIG_DURATION,
    CONFIG_RETENTION, // a duration, or "forever", whose number is 0
    CONFIG_SIZE,
    CONFIG_BOOLEAN,
    CONFIG_CHOICE,
    CONFIG_DESTINATION, // a libpq URI without a password
    CONFIG_NAME,        // letters, digits, '.', '_' and '-'
};

struct config_option {
    const char *section; // "app" stands for each [app SDKAPPID]
    const char *key;
    enum config_type type;
    size_t offset;            // of the config_value in struct config; for "app" in struct config_app
    const char *default_text; // NULL: none
    bool required;
    uint64_t min, max;          // for numbers, durations (ms) and sizes
    const char *const *choices; // for CONFIG_CHOICE, ends with NULL
    bool fixed;                 // a reload cannot change it
};

extern const struct config_option config_options[]; // ends with a NULL section

bool config_option_is_of_app(const struct config_option *option);

// Where the option's value is in base, a struct config or, for an option of an app, a struct config_app; not to be
// changed if base must not be.
struct config_value *config_option_value(const struct config_option *option, const void *base);

enum config_other_commands { CONFIG_REJECT, CONFIG_ACKNOWLEDGE };

// Reads and checks the file, but none of the files that it names. Errors name file, line and key. The caller finishes
// the configuration in every case.
int config_read(const char *path, struct config *ret_config, struct error *error) MUST_CHECK;
void config_finish(struct config *config);

// Sets a value from text: checks form and range. The error text does not name the place.
int config_value_set(const struct config_option *option, const char *text, unsigned int line,
                     struct config_value *ret_value, struct error *error) MUST_CHECK;

// Has the log follow [log].
void config_use_log(const struct config *config);

// Puts "FILE:LINE: [section] key: " before the error's text; value is one of the configuration's own.
void config_blame(const struct config *config, const struct config_value *value, struct error *error);

// Tells, one sentence each, what differs between the two but cannot change before the next start.
void config_compare_fixed(const struct config *running, const struct config *wanted,
                          void (*tell)(const char *sentence));

// Appends the effective configuration in the form of the file.
int config_print(const struct config *config, struct buffer *text) MUST_CHECK;
