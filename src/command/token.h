// A token file: the token of an app on one line, or the old and the new one on two, while the token is rotated.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "imcallbackd/base/error.h"
#include "imcallbackd/callback/callback.h"

struct token_file {
    char *tokens[CALLBACK_MAX_TOKENS];
    size_t count;
    bool readable_by_all; // a reason for a warning
};

// Refuses an empty file, an empty token (with it, anyone can sign), one with space or control bytes in it, a third one.
// After a success token_file_finish has to follow.
int token_file_read(const char *path, struct token_file *ret_file, struct error *error) MUST_CHECK;

// Overwrites and frees the tokens.
void token_file_finish(struct token_file *file);
