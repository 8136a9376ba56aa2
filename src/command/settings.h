// The configuration with everything read that it names: tokens, certificate, key. What `serve` runs on and `check`
// checks.
#pragma once

#include "config.h"
#include "imcallbackd/callback/callback.h"
#include "imcallbackd/http/identity.h"
#include "token.h"

struct settings {
    struct config config;
    struct token_file *tokens; // one for each app of the configuration
    struct callback_app *apps;
    struct callback_rules rules;
    struct http_identity *identity;
};

// Errors name file, line and key. The caller finishes the settings in every case.
int settings_read(const char *path, struct settings *ret_settings, struct error *error) MUST_CHECK;

// The configuration and the tokens alone, for `sign`.
int settings_read_apps(const char *path, struct settings *ret_settings, struct error *error) MUST_CHECK;

// Says what works but should not stay as it is, through `tell`, one sentence each.
void settings_warn(const struct settings *settings, int64_t now_ms, void (*tell)(const char *sentence));

void settings_finish(struct settings *settings);
