// The password of the destination. It stays in a file, and is read anew for each connection, so that it can be changed
// at any time.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"

// *ret_password is NULL when path is. Refuses an empty one and one of several lines.
int password_read(const char *path, char **ret_password, struct error *error) MUST_CHECK;

// Overwrites and frees it.
void password_forget(char *password);
