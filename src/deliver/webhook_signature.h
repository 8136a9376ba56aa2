// Computes the signature of the Standard Webhooks specification: "v1," and the base64 text of HMAC-SHA256 over
// "ID.TIMESTAMP.BODY". During a rotation there are two secrets, and the header has two signatures.
#pragma once

#include <stddef.h>

#include "imcallbackd/base/buffer.h"
#include "imcallbackd/base/error.h"

#define WEBHOOK_MAX_SECRETS      2
#define WEBHOOK_SECRET_MIN_BYTES 16 // the specification recommends 24 to 64 bytes
#define WEBHOOK_SECRET_MAX_BYTES 64

struct webhook_secret {
    unsigned char key[WEBHOOK_SECRET_MAX_BYTES];
    size_t length;
};

struct webhook_secrets {
    struct webhook_secret secrets[WEBHOOK_MAX_SECRETS];
    size_t count; // 0: requests are not signed
};

// Reads one secret: "whsec_" and base64 text. The padding of the text may be missing. Returns 0, or -EINVAL if the text
// has another form or the key is shorter or longer than the limits above.
int webhook_secret_parse(const char *text, size_t length, struct webhook_secret *ret_secret) MUST_CHECK;

// Prints the value of the header webhook-signature into the buffer `signature`, which must be empty and stays empty if
// there is no secret. Returns 0, -ENOMEM, or -EIO if libcrypto fails.
int webhook_sign(const struct webhook_secrets *secrets, const char *id, const char *timestamp, const char *body,
                 size_t length, struct buffer *signature) MUST_CHECK;
