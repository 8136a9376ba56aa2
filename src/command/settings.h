// The configuration together with the contents of all files that it names: tokens, certificate, private key. `check`
// validates settings, and `serve` uses them. Settings never change after they have been read; a reload reads new
// settings.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#include "config.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/callback/callback.h"
#include "imcallbackd/http/credentials.h"
#include "imcallbackd/http/server.h"
#include "token.h"

struct settings {
    atomic_uint references; // a request keeps the settings that were in effect when the request started
    struct config config;
    struct token_file *tokens; // one element per app of the configuration
    struct callback_app *apps;
    struct callback_rules rules;
    struct address_block *allow_from;
    struct http_limits limits;
    int64_t store_wait_ms;
    int64_t retention_ms; // 0: nothing is ever deleted
    struct http_credentials *credentials;
};

// Reads the configuration at this path and the files that it names. On success the caller owns one reference. Errors
// name the file, the line and the key.
//
// The predecessor is NULL, or the settings that the daemon currently uses. TLS sessions of the predecessor can be
// resumed with the new settings. Settings that lack a protection of the predecessor are refused with -EPERM.
int settings_read(const char *path, const struct settings *predecessor, struct settings **ret_settings,
                  struct error *error) MUST_CHECK;

// Reads only the configuration and the tokens; `sign` needs no more. On success the caller owns one reference.
int settings_read_apps(const char *path, struct settings **ret_settings, struct error *error) MUST_CHECK;

// Any thread may call the next two functions.
struct settings *settings_ref(struct settings *settings);
void settings_unref(struct settings *settings); // NULL is allowed

// Calls report with one sentence for each setting that works but needs attention: a certificate that expires soon, a
// token file that is readable by every user, an app without a token.
void settings_warn(const struct settings *settings, int64_t now_ms, void (*report)(const char *sentence));
