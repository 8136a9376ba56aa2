// Sets up the TLS sessions of libmicrohttpd. A session gets the credentials of its connection, a hook for handshake
// messages, and socket functions that replace those of libmicrohttpd. The hook changes the stage of the connection at
// the end of the handshake, and the receiving function changes it at the start of a request.
#pragma once

#include <stdbool.h>

#include "connection.h"

#include <gnutls/gnutls.h>

// Allows only TLS 1.2 and 1.3 with AEAD and ECDHE. AES-128-GCM comes first, because it is the fastest on processors
// with AES instructions.
#define TLS_PRIORITIES                                                                                                 \
    "NONE:+VERS-TLS1.3:+VERS-TLS1.2:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:+AEAD:+ECDHE-ECDSA:+ECDHE-RSA:"       \
    "+GROUP-X25519:+GROUP-SECP256R1:+GROUP-SECP384R1:+CTYPE-X509:+COMP-NULL:"                                          \
    "+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SECP384R1-SHA384:+SIGN-ECDSA-SECP521R1-SHA512:+SIGN-ECDSA-SHA256:"       \
    "+SIGN-ECDSA-SHA384:+SIGN-EDDSA-ED25519:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-PSS-RSAE-SHA384:"                      \
    "+SIGN-RSA-PSS-SHA256:+SIGN-RSA-PSS-SHA384:+SIGN-RSA-SHA256:+SIGN-RSA-SHA384:%SERVER_PRECEDENCE"

// The adapter calls this before the handshake. Returns false if memory is exhausted.
bool tls_session_init(gnutls_session_t session, struct http_connection *connection);

// libmicrohttpd sends the head and the body of a response separately. Between these two calls GnuTLS gathers both, so
// that they travel in one record and one packet. The adapter calls tls_begin_response before it queues a response, and
// tls_end_response when libmicrohttpd has passed the whole response on. If the connection ends in between, the adapter
// does not call tls_end_response, and GnuTLS drops the gathered bytes. If the send buffer may lack room for the
// response, GnuTLS does not gather. If sending fails, tls_end_response shuts the connection down.
void tls_begin_response(gnutls_session_t session, struct http_connection *connection);
void tls_end_response(gnutls_session_t session, struct http_connection *connection);

// Counts a failed handshake. Logs it, rate-limited, unless the client has sent nothing, or nothing after a PROXY
// header. The adapter calls this when a connection is closed in stage HANDSHAKE.
void tls_report_failed_handshake(const struct http_connection *connection);
