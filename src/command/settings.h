// The configuration with everything read that it names: tokens, certificate, key. What `serve` runs on and `check`
// checks.
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
    atomic_uint references; // a request keeps those with which it began, while a reload brings the next
    struct config config;
    struct token_file *tokens; // one for each app of the configuration
    struct callback_app *apps;
    struct callback_rules rules;
    struct address_block *allow_from;
    struct http_limits limits;
    int64_t store_wait_ms;
    int64_t keep_ms; // 0: for ever
    struct http_credentials *identity;
};

// Gives a reference. Errors name file, line and key. The predecessor's TLS sessions can be resumed under the new
// settings, and what it protects from must still be protected from; NULL: none.
int settings_read(const char *path, const struct settings *predecessor, struct settings **ret_settings,
                  struct error *error) MUST_CHECK;

// The configuration and the tokens alone, for `sign`.
int settings_read_apps(const char *path, struct settings **ret_settings, struct error *error) MUST_CHECK;

// Any thread may call these two.
struct settings *settings_ref(struct settings *settings);
void settings_unref(struct settings *settings); // NULL is allowed

// Says what works but should not stay as it is, through `tell`, one sentence each.
void settings_warn(const struct settings *settings, int64_t now_ms, void (*tell)(const char *sentence));
