// A private key that OpenSSL holds and that GnuTLS uses. OpenSSL signs with RSA about three times as fast as GnuTLS.
#pragma once

#include "imcallbackd/base/error.h"

#include <gnutls/abstract.h>

// Both texts must be NUL-terminated. Returns -EKEYREJECTED if the text contains no key, or if the key is encrypted, is
// not supported, or does not match the first certificate. The caller owns *ret_key.
int private_key_load(const char *pem, const char *certificate_pem, gnutls_privkey_t *ret_key,
                     struct error *error) MUST_CHECK;
