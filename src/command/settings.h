// Holds the configuration together with the contents of the files that the daemon needs: tokens, certificate, private
// key and client CA. Settings never change after they have been read; a reload reads new settings.
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"
#include "imcallbackd/base/error.h"
#include "imcallbackd/callback/callback.h"
#include "imcallbackd/forward/forward.h"
#include "imcallbackd/http/credentials.h"
#include "imcallbackd/http/server.h"

// The token file of an app. The file holds one token, or two on separate lines while the token is being rotated.
struct token_file {
    char *tokens[CALLBACK_MAX_TOKENS];
    size_t count;
    bool readable_by_all; // according to the mode of the file; settings_warn reports such a file
};

// Reads the tokens. Refuses an empty file, a file of more than 4,096 bytes or with a NUL byte, an empty token (anyone
// could sign with it), a token that is not visible ASCII, and a third token. On success the caller must call
// token_file_finish; after an error *ret_file is empty.
int token_file_read(const char *path, struct token_file *ret_file, struct error *error) MUST_CHECK;

// Overwrites and frees the tokens.
void token_file_finish(struct token_file *file);

struct settings {
    atomic_uint references; // a request keeps the settings that were in effect when the request started
    struct config config;
    struct token_file *tokens; // one element per app of the configuration
    struct callback_app *apps;
    struct callback_rules rules;
    struct address_block *allow_from, *trusted_proxies;
    struct http_limits limits;
    int64_t store_wait_ms;
    int64_t retention_ms; // 0: nothing is ever deleted
    struct http_credentials *credentials;
};

// Reads the configuration at this path and the files that the daemon needs. On success the caller owns one reference.
// Every error about a key names the configuration file and the key, and the line if the file sets the key.
//
// The predecessor is NULL, or the settings that the daemon currently uses. If the client CA is the same, clients can
// resume TLS sessions of the predecessor with the new settings. Returns -EPERM if the new settings lack a token_file,
// allow_from or client_ca that the predecessor has, or add an app without a token_file.
int settings_read(const char *path, const struct settings *predecessor, struct settings **ret_settings,
                  struct error *error) MUST_CHECK;

// Reads only the configuration and the tokens; `sign` and `deliver` need no more. On success the caller owns one
// reference.
int settings_read_apps(const char *path, struct settings **ret_settings, struct error *error) MUST_CHECK;

// Any thread may call the next two functions.
struct settings *settings_ref(struct settings *settings);
void settings_unref(struct settings *settings); // NULL is allowed

// Calls report with one sentence for each setting that works but needs attention: a certificate that is not valid at
// now_ms, in milliseconds since 1970, or expires within 21 days after it; trusted proxies with a block that is too wide
// (see address_block_is_wide); a token file that every user can read; and an app without a token.
void settings_warn(const struct settings *settings, int64_t now_ms, void (*report)(const char *sentence));

#define HOST_NAME_BYTES 65

// Derives the settings of the forward module from the configuration, checks them, and reports insecure settings. The
// settings contain pointers to the configuration and, if it sets no receiver, to host_name, which receives the name of
// this host. Returns -EINVAL if the configuration has no url or a value is wrong, -EACCES if only another user or
// another service can read the password, -ENOSYS if this build has no forward command, or another -errno if the
// password cannot be read.
int forward_settings_get(const struct config *config, char host_name[HOST_NAME_BYTES],
                         struct forward_settings *ret_settings, forward_report *report, struct error *error) MUST_CHECK;
