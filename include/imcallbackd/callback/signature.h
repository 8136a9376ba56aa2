// Computes and compares the signature of the service's "callback authentication": Sign is SHA-256(Token ‖ RequestTime)
// in lower-case hexadecimal digits, with RequestTime in Unix seconds. Sign covers neither the body nor the rest of the
// query.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"

#define SIGNATURE_HEX_LENGTH 64
#define SIGNATURE_MAX_BYTES  8192 // maximum of token and request_time together; a token file is always smaller

// Computes the Sign for a token and a RequestTime. request_time must have exactly the digits of the query, because Sign
// covers the text. Returns 0, -EINVAL if both texts together are longer than SIGNATURE_MAX_BYTES, or -EIO if libcrypto
// fails, for example because it is out of memory.
int signature_compute(const char *token, const char *request_time, char ret_hex[SIGNATURE_HEX_LENGTH + 1]) MUST_CHECK;

// Compares `sign` with the computed Sign, in constant time if `sign` has the right length. Returns the same errors as
// signature_compute(). *ret_matches is set only on success.
int signature_matches(const char *token, const char *request_time, const char *sign, bool *ret_matches) MUST_CHECK;
