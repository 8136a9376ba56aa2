// Reads small files, such as the tokens, certificates, keys and passwords that an operator provides.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

// Copies the path. If its first component is $CREDENTIALS_DIRECTORY or ${CREDENTIALS_DIRECTORY}, replaces the component
// with the value of this environment variable; see systemd.exec(5). Returns 0, -ENOMEM, or -ENOENT if the path needs
// the variable but the environment does not set it. The caller frees *ret_path.
int file_expand_path(const char *path, char **ret_path, struct error *error) MUST_CHECK;

// Appends the whole file to contents. Returns 0, -EFBIG if the file is larger than max_bytes, or another -errno. After
// a failure, contents may hold a part of the file. The error text names the path.
int file_read(const char *path, size_t max_bytes, struct buffer *contents, struct error *error) MUST_CHECK;

// Like file_read, but returns -EINVAL if the path does not name a regular file, and never waits for another process.
// For files that another user can replace, for example with a FIFO.
int file_read_regular(const char *path, size_t max_bytes, struct buffer *contents, struct error *error) MUST_CHECK;
