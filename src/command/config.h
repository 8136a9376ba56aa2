// Reads, checks and prints the configuration. One table in config.c defines all keys, and config_read.c reads the file
// according to this table.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

// One value from the file, or its default.
struct config_value {
    char *text;        // NULL: the file does not set the key, and the key has no default
    uint64_t number;   // depending on the type: number, milliseconds, bytes, 0 or 1, or the index of the choice
    unsigned int line; // line number in the file; 0: default value
};

struct config_app {
    int64_t sdk_appid;
    unsigned int line;
    struct config_value token_file;
    struct config_value request_time_window;
};

// Each member except path, apps and app_count is the value of one key, and is named section_key.
struct config {
    char *path;
    struct config_value listen_address;
    struct config_value listen_port;
    struct config_value listen_path;
    struct config_value listen_threads;
    struct config_value listen_trusted_proxies;
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
    struct config_value deliver_url;
    struct config_value deliver_secret_file;
    struct config_value deliver_ca_file;
    struct config_value deliver_client_certificate;
    struct config_value deliver_client_key;
    struct config_value deliver_timeout;
    struct config_value deliver_in_flight;
    struct config_value deliver_give_up_after;
    struct config_value deliver_state_file;
    struct config_value deliver_admin_port;
    struct config_value limits_body;
    struct config_value limits_connections;
    struct config_value limits_connections_per_address;
    struct config_value limits_idle_timeout;
    struct config_value limits_request_timeout;
    struct config_value limits_store_wait;
    struct config_value admin_address;
    struct config_value admin_port;
    struct config_value admin_host;
    struct config_value log_level;
    struct config_value log_format;
    struct config_app *apps;
    size_t app_count;
};

enum config_type {
    CONFIG_ADDRESS,        // numeric IPv4 or IPv6 address
    CONFIG_ADDRESS_BLOCKS, // list of addresses and CIDR blocks; further lines with the key extend the list
    CONFIG_URL_PATH,
    CONFIG_FILE,         // file name; $CREDENTIALS_DIRECTORY at the start is expanded
    CONFIG_SERVICE_FILE, // file name; the service that reads the file expands its own $CREDENTIALS_DIRECTORY
    CONFIG_NUMBER,
    CONFIG_DURATION,
    CONFIG_RETENTION, // a duration, or "forever", for which the number is 0
    CONFIG_PATIENCE,  // a duration, or "never", for which the number is 0
    CONFIG_SIZE,
    CONFIG_BOOLEAN,
    CONFIG_CHOICE,
    CONFIG_DESTINATION, // libpq URI without a password
    CONFIG_ENDPOINT,    // https URL, or http URL of localhost or a loopback address; without a user name
    CONFIG_HOSTS,       // list of host names, shorter than HTTP_ADMIN_HOSTS_BYTES
    CONFIG_NAME,        // at most 64 letters, digits, '.', '_' and '-'
};

struct config_option {
    const char *section; // "app" stands for every [app SDKAPPID]
    const char *key;
    enum config_type type;
    size_t offset;              // offset of the struct config_value in struct config, or in struct config_app for "app"
    const char *default_text;   // NULL: no default
    bool required;              // the file must set the key
    uint64_t min, max;          // limits of numbers, durations (in milliseconds) and sizes (in bytes)
    const char *const *choices; // for CONFIG_CHOICE; ends with NULL
    bool needs_restart;         // a reload does not apply a new value
};

extern const struct config_option config_options[]; // ends with a NULL section

// Returns true if the option belongs to the sections [app SDKAPPID].
bool config_option_is_per_app(const struct config_option *option);

// Returns the option's value in base. base is a struct config_app if the option is per app, otherwise a struct config.
// The caller must not change the value of a const base.
struct config_value *config_option_value(const struct config_option *option, const void *base);

enum config_other_commands { CONFIG_REJECT, CONFIG_ACKNOWLEDGE };

// Reads and checks the file, but does not read the files that it names. Unless memory is exhausted, an error names the
// file, and the line and the key if there are any. The caller must call config_finish, even after an error.
int config_read(const char *path, struct config *ret_config, struct error *error) MUST_CHECK;
void config_finish(struct config *config);

// Checks the form and the range of the text, and sets *ret_value, whose text the caller frees. Returns 0, or -errno
// without changing *ret_value. The error does not name the file, the line or the key.
int config_value_set(const struct config_option *option, const char *text, unsigned int line,
                     struct config_value *ret_value, struct error *error) MUST_CHECK;

// Applies the section [log] to the log.
void config_configure_log(const struct config *config);

// Puts "FILE:LINE: [section] key: " before the error's text. If the file does not set the value, the line is that of
// the [app SDKAPPID] section, or is left out in any other section. value must point into config.
void config_wrap_error(const struct config *config, const struct config_value *value, struct error *error);

// Does the same if `result`, which a function that used the value has returned, is negative. Returns `result`.
int config_wrap_result(const struct config *config, const struct config_value *value, int result,
                       struct error *error) MUST_CHECK;

// Calls report with one sentence for each key whose value differs between the running and the next configuration and
// that takes effect only after a restart.
void config_report_unapplied(const struct config *running, const struct config *next,
                             void (*report)(const char *sentence));

// Appends the effective configuration in the syntax of the file. Returns 0 or -ENOMEM.
int config_print(const struct config *config, struct buffer *text) MUST_CHECK;
