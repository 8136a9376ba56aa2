// Reading the small files that an operator hands in.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

// The path with a leading $CREDENTIALS_DIRECTORY or ${CREDENTIALS_DIRECTORY} replaced from the environment (see
// systemd.exec(5)). The caller frees *ret_path.
int file_expand_path(const char *path, char **ret_path, struct error *error) MUST_CHECK;

// The whole file, appended to contents; one over max_bytes is an error, -EFBIG. After an error, any -errno, a part may
// have been appended. The error text names the path.
int file_read(const char *path, size_t max_bytes, struct buffer *contents, struct error *error) MUST_CHECK;
