// Joins the token and the time on the stack to hash them, and then erases the token, so that no copy stays there.
#include "imcallbackd/callback/signature.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/sha.h>

int signature_compute(const char *token, const char *request_time, char ret_hex[SIGNATURE_HEX_LENGTH + 1])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char joined[SIGNATURE_MAX_BYTES], hash[SHA256_DIGEST_LENGTH];
    size_t token_length = strlen(token), time_length = strlen(request_time);
    bool hashed;

    if (token_length > sizeof joined || time_length > sizeof joined - token_length)
        return -EINVAL;
    memcpy(joined, token, token_length);
    memcpy(joined + token_length, request_time, time_length);
    hashed = SHA256(joined, token_length + time_length, hash) != NULL;
    OPENSSL_cleanse(joined, token_length);
    if (!hashed)
        return -EIO;
    static_assert(2 * sizeof hash == SIGNATURE_HEX_LENGTH, "two digits per byte");
    for (size_t i = 0; i < sizeof hash; i++) {
        ret_hex[2 * i] = digits[hash[i] >> 4];
        ret_hex[2 * i + 1] = digits[hash[i] & 15];
    }
    ret_hex[SIGNATURE_HEX_LENGTH] = '\0';
    return 0;
}

int signature_matches(const char *token, const char *request_time, const char *sign, bool *ret_matches)
{
    char expected[SIGNATURE_HEX_LENGTH + 1];
    int r = signature_compute(token, request_time, expected);

    if (r == 0)
        *ret_matches = strlen(sign) == SIGNATURE_HEX_LENGTH && CRYPTO_memcmp(expected, sign, SIGNATURE_HEX_LENGTH) == 0;
    return r;
}
