// Reads the password of the destination. The forwarder reads the file for each connection, so that an operator can
// change the password at any time.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"

// Reads the password from the file. If `file` is NULL or the function fails, *ret_password is NULL; otherwise the
// caller passes it to password_forget. Returns -EINVAL if the file is empty, has several lines or contains a NUL byte,
// -EFBIG if the file is larger than 1,024 bytes, -EACCES if only another user can read the file or if it is a
// credential of another service (see file_read_secret), or another -errno. Sets *ret_readable_by_all to whether the
// mode of the file lets every user read it.
int password_read(const char *file, char **ret_password, bool *ret_readable_by_all, struct error *error) MUST_CHECK;

// Overwrites the password and frees it. NULL is allowed.
void password_forget(char *password);
