// Loads the TLS credentials of the server: certificate chain, private key, the CA that must have issued client
// certificates, and the key of the session tickets. Credentials are reference-counted, because a connection keeps its
// credentials after a reload has loaded new ones.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "imcallbackd/base/error.h"

struct http_credentials;
struct gnutls_session_int; // the target of GnuTLS's gnutls_session_t

struct http_credentials_files {
    const char *certificate; // PEM, the server's own certificate first
    const char *private_key; // PEM without a password: RSA, ECDSA or Ed25519
    const char *client_ca;   // PEM; NULL: the server does not request client certificates
};

// Loads the files. The caller releases *ret_credentials with http_credentials_unref. Returns -EBADMSG if the
// certificate is at fault, -EKEYREJECTED if the key is at fault or does not match the certificate, -EPROTO if the
// client CA is at fault, or -ENOMEM. If `predecessor` has the same client CA, clients can resume its sessions with the
// new credentials. `predecessor` may be NULL.
int http_credentials_load(const struct http_credentials_files *files, const struct http_credentials *predecessor,
                          struct http_credentials **ret_credentials, struct error *error) MUST_CHECK;

// Return the start and the end of the validity of the server's own certificate, in milliseconds since 1970.
int64_t http_credentials_valid_from_ms(const struct http_credentials *credentials);
int64_t http_credentials_expires_ms(const struct http_credentials *credentials);

// Returns the DNS names of the server's own certificate, separated by ", ", or "" if the certificate has none. Of many
// names, only the first 20 are listed. The text lives as long as the credentials.
const char *http_credentials_dns_names(const struct http_credentials *credentials);

// Returns the version of GnuTLS.
const char *http_tls_library_version(void);

// Makes a new TLS session use the credentials, which must outlive the session. Returns false if memory is exhausted.
bool http_credentials_apply(const struct http_credentials *credentials, struct gnutls_session_int *session);

// http_credentials_ref adds a reference and returns its argument. http_credentials_unref releases a reference, and
// frees the credentials with the last one. Any thread may call these functions.
struct http_credentials *http_credentials_ref(struct http_credentials *credentials);
void http_credentials_unref(struct http_credentials *credentials); // NULL is allowed
