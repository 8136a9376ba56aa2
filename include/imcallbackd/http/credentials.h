// Who the server is in TLS, and whom it lets in: certificate chain, private key, the CA that client certificates must
// come from, the key of its session tickets. Reference counted, since a connection keeps the one it began with while a
// reload brings the next.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

struct http_credentials;

struct http_credentials_files {
    const char *certificate; // PEM, the server's own certificate first
    const char *private_key; // PEM without a password: RSA, ECDSA or Ed25519
    const char *client_ca;   // PEM; NULL: no client certificate is asked for
};

// -EBADMSG: the fault is in the certificate; -EKEYREJECTED: in the key, or the two do not belong together; -EPROTO: in
// the client CA. With a predecessor of the same client CA, sessions begun with it can be resumed with the new one.
int http_credentials_load(const struct http_credentials_files *files, const struct http_credentials *predecessor,
                          struct http_credentials **ret_identity, struct error *error) MUST_CHECK;

// When the server's own certificate becomes and stops being valid, ms since 1970.
int64_t http_credentials_valid_from_ms(const struct http_credentials *identity);
int64_t http_credentials_expires_ms(const struct http_credentials *identity);

struct http_credentials *http_credentials_ref(struct http_credentials *identity);
void http_credentials_unref(struct http_credentials *identity); // NULL is allowed
