// Sign = lower-case hex of SHA-256(Token ‖ RequestTime), with RequestTime in unix seconds (the service's "callback
// authentication"). It covers neither the body nor the rest of the query.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"

#define SIGNATURE_HEX_LENGTH 64
#define SIGNATURE_MAX_BYTES  8192 // of token and request_time together; a token file is far smaller

// request_time goes in exactly as it stands in the query. -EINVAL when the two are longer than
// SIGNATURE_MAX_BYTES, -EIO when libcrypto fails, which takes memory.
int signature_compute(const char *token, const char *request_time, char ret_hex[SIGNATURE_HEX_LENGTH + 1]) MUST_CHECK;

// In constant time for a sign of the right length. Fails as signature_compute does.
int signature_matches(const char *token, const char *request_time, const char *sign, bool *ret_matches) MUST_CHECK;
