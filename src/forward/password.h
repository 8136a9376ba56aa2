// The password of the destination. The forwarder reads the password file for each connection, so that an operator can
// change the password at any time.
#pragma once

#include "imcallbackd/base/error.h"

// Sets *ret_password to NULL if file is NULL; otherwise the caller passes the password to password_forget. Returns
// -EINVAL if the file is empty or has several lines, -EACCES if only another user can read the file or if it is a
// credential of another service (see file_expand_path), or another -errno of file_read.
int password_read(const char *file, char **ret_password, struct error *error) MUST_CHECK;

// Overwrites the password and frees it. NULL is allowed.
void password_forget(char *password);
