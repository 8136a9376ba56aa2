// The password of the destination. It stays in a file, and is read anew for each connection, so that it can be changed
// at any time.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"

// *ret_password is NULL when file is, otherwise the caller's to password_forget. Refuses an empty one and one of
// several lines (-EINVAL). -EACCES: it is there for another user, or as a credential for the service
// (file_expand_path).
int password_read(const char *file, char **ret_password, struct error *error) MUST_CHECK;

// Overwrites and frees it.
void password_forget(char *password);
