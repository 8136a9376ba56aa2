// Who the server is in TLS, and whom it lets in: certificate chain, private key, the CA that client certificates must
// come from, the key of its session tickets. Reference counted, since a connection keeps the one it began with while a
// reload brings the next.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

struct http_identity;

struct http_identity_files {
    const char *certificate; // PEM, the server's own certificate first
    const char *private_key; // PEM without a password: RSA, ECDSA or Ed25519
    const char *client_ca;   // PEM; NULL: no client certificate is asked for
};

// -EBADMSG: the fault is in the certificate; -EKEYREJECTED: in the key, or the two do not belong together; -EPROTO: in
// the client CA. With a predecessor of the same client CA, sessions begun with it can be resumed with the new one.
int http_identity_load(const struct http_identity_files *files, const struct http_identity *predecessor,
                       struct http_identity **ret_identity, struct error *error) MUST_CHECK;

// When the server's own certificate becomes and stops being valid, ms since 1970.
int64_t http_identity_valid_from_ms(const struct http_identity *identity);
int64_t http_identity_expires_ms(const struct http_identity *identity);

struct http_identity *http_identity_ref(struct http_identity *identity);
void http_identity_unref(struct http_identity *identity); // NULL is allowed
