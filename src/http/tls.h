// One TLS session under MHD: what MHD sets up by itself is replaced by what the daemon wants.
#pragma once

#include <stdbool.h>

#include "connection.h"

#include <gnutls/gnutls.h>

// TLS 1.2 and 1.3 with AEAD and ECDHE only. AES-128-GCM first: it is the fastest where the processor has AES.
#define TLS_PRIORITIES                                                                                                 \
    "NONE:+VERS-TLS1.3:+VERS-TLS1.2:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:+AEAD:+ECDHE-ECDSA:+ECDHE-RSA:"       \
    "+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+CTYPE-X509:+COMP-NULL:"                                          \
    "+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SECP521R1-SHA512:+SIGN-ECDSA-SHA256:"       \
    "+SIGN-ECDSA-SHA384:+SIGN-EDDSA-ED25519:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-PSS-RSAE-SHA384:"                      \
    "+SIGN-RSA-PSS-SHA256:+SIGN-RSA-PSS-SHA384:+SIGN-RSA-SHA256:+SIGN-RSA-SHA384:%SERVER_PRECEDENCE"

// Before the handshake. The first byte of a request and the end of the handshake change the connection's stage. False
// when there is no memory.
bool tls_session_begin(gnutls_session_t session, struct http_connection *connection);
