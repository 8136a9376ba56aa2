// The file with the secrets of webhook-signature: one secret, or two on separate lines while a secret is being rotated.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"
#include "webhook_signature.h"

// NULL stands for no file and gives no secret. -EACCES: the process may not read the file, or $CREDENTIALS_DIRECTORY is
// not set. After an error *ret_secrets has no secret. *ret_readable_by_all: every user of the machine can read the
// file.
int secret_file_read(const char *file, struct webhook_secrets *ret_secrets, bool *ret_readable_by_all,
                     struct error *error) MUST_CHECK;

// Overwrites the secrets.
void secret_file_forget(struct webhook_secrets *secrets);
