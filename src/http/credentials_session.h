// The identity as TLS sessions see it.
#pragma once

#include <stdbool.h>

#include "imcallbackd/http/credentials.h"

#include <gnutls/gnutls.h>

// Makes a new session use the identity, which must outlive it. False when there is no memory.
bool http_credentials_apply(const struct http_credentials *identity, gnutls_session_t session);
