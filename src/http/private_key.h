// Loads a private key that OpenSSL holds and GnuTLS uses. OpenSSL signs with RSA about three times as fast as GnuTLS.
#pragma once

#include "imcallbackd/base/error.h"

#include <gnutls/abstract.h>

// Both texts must be NUL-terminated. Returns -EKEYREJECTED if `pem` contains no key, if the key is encrypted or is not
// supported, or if it does not match the first certificate in `certificate_pem`. The caller owns *ret_key.
int private_key_load(const char *pem, const char *certificate_pem, gnutls_privkey_t *ret_key,
                     struct error *error) MUST_CHECK;
