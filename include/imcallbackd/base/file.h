// Reads small files, such as the tokens, certificates, keys and passwords that an operator provides.
#pragma once

#include <stdbool.h>
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

// Reads a whole file that holds a secret into `contents`, which must be empty. Expands the path. Reserves the memory at
// once, because a buffer that grows would leave a copy of the secret in freed memory. Returns -EACCES if the process
// may not read the file, or if the path needs $CREDENTIALS_DIRECTORY and the environment does not set this variable, so
// that the file may be a credential of another service. Returns -EFBIG if the file is larger than max_bytes, -EINVAL if
// the path does not name a regular file, or another -errno. Never waits for another process. After a failure,
// `contents` is empty. Sets *ret_readable_by_all to whether the mode of the file lets every user read it.
int file_read_secret(const char *path, size_t max_bytes, struct buffer *contents, bool *ret_readable_by_all,
                     struct error *error) MUST_CHECK;

// Overwrites the memory of the secret and frees it.
void file_forget_secret(struct buffer *contents);
