// The identity as TLS sessions see it.
#pragma once

#include <stdbool.h>

#include "imcallbackd/http/identity.h"

#include <gnutls/gnutls.h>

// Makes a new session use the identity, which must outlive it. False when there is no memory.
bool http_identity_apply(const struct http_identity *identity, gnutls_session_t session);
