// The token file of an app. The file holds one token, or two on separate lines while the token is being rotated.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/callback/callback.h"

struct token_file {
    char *tokens[CALLBACK_MAX_TOKENS];
    size_t count;
    bool readable_by_all; // the mode of the file lets every user read it; the caller warns
};

// Refuses an empty file, an empty token (anyone could sign with it), a token that is not visible ASCII, and a third
// token. On success the caller must call token_file_finish; after an error ret_file holds nothing.
int token_file_read(const char *path, struct token_file *ret_file, struct error *error) MUST_CHECK;

// Overwrites and frees the tokens.
void token_file_finish(struct token_file *file);
