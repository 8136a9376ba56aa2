// Who the server is in TLS: a certificate chain and its private key.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

struct http_identity;

// Reads PEM files: the chain with the server's own certificate first; any of RSA, ECDSA and Ed25519 as the key. Returns
// -EBADMSG when the fault is in the certificate, -EKEYREJECTED when it is in the key or the two do not belong together.
int http_identity_load(const char *certificate_path, const char *private_key_path, struct http_identity **ret_identity,
                       struct error *error) MUST_CHECK;

// When the server's own certificate becomes and stops being valid, ms since 1970.
int64_t http_identity_valid_from_ms(const struct http_identity *identity);
int64_t http_identity_expires_ms(const struct http_identity *identity);

void http_identity_destroy(struct http_identity *identity);
