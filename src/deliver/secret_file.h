// Reads the file with the secrets for webhook-signature: one secret, or two on separate lines while a secret is being
// rotated.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"
#include "webhook_signature.h"

// Reads the secrets. If `file` is NULL, there are none. Returns -EINVAL if the contents are not one or two secrets,
// -EACCES if the process may not read the file or lacks the variable $CREDENTIALS_DIRECTORY that the path needs, or
// another -errno. After an error, *ret_secrets has no secret. Sets *ret_readable_by_all to whether the mode of the file
// lets every user read it.
int secret_file_read(const char *file, struct webhook_secrets *ret_secrets, bool *ret_readable_by_all,
                     struct error *error) MUST_CHECK;

// Overwrites the secrets.
void secret_file_forget(struct webhook_secrets *secrets);
