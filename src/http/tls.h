// What the rest of the room needs of GnuTLS.
#pragma once

#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>

struct http_identity;

// TLS 1.2 and 1.3 with AEAD and ECDHE only. AES-128-GCM first: it is the fastest where the processor has AES.
#define TLS_PRIORITIES                                                                                                 \
    "NONE:+VERS-TLS1.3:+VERS-TLS1.2:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:+AEAD:+ECDHE-ECDSA:+ECDHE-RSA:"       \
    "+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+CTYPE-X509:+COMP-NULL:"                                          \
    "+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SECP521R1-SHA512:+SIGN-ECDSA-SHA256:"       \
    "+SIGN-ECDSA-SHA384:+SIGN-EDDSA-ED25519:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-PSS-RSAE-SHA384:"                      \
    "+SIGN-RSA-PSS-SHA256:+SIGN-RSA-PSS-SHA384:+SIGN-RSA-SHA256:+SIGN-RSA-SHA384:%SERVER_PRECEDENCE"

struct tls_identity {
    gnutls_pcert_st *chain;
    unsigned int chain_length;
    gnutls_privkey_t key;
};

const struct tls_identity *http_identity_tls(const struct http_identity *identity);
