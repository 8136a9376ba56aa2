// The password of the destination. The forwarder reads its file for each connection, so that an operator can change the
// password at any time.
#pragma once

#include "imcallbackd/base/error.h"

// Sets *ret_password to NULL if file is NULL; otherwise the caller passes the password to password_forget. -EINVAL: the
// file is empty or has several lines. -EACCES: only another user can read the file, or it is a credential of another
// service (see file_expand_path).
int password_read(const char *file, char **ret_password, struct error *error) MUST_CHECK;

// Overwrites the password and frees it. NULL is allowed.
void password_forget(char *password);
