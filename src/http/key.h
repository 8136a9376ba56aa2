// A private key that OpenSSL holds and uses on behalf of GnuTLS: it signs about three times as fast with RSA.
#pragma once

#include "imcallbackd/base/error.h"

#include <gnutls/abstract.h>

// pem and certificate_pem: NUL-terminated. Refuses a key that does not belong to the first certificate. The key becomes
// the caller's.
int tls_key_load(const char *pem, const char *certificate_pem, gnutls_privkey_t *ret_key,
                 struct error *error) MUST_CHECK;
