// OpenSSL computes the HMAC, and decodes and encodes base64. After decoding a key, webhook_secret_parse erases its
// copies of the key on the stack.
#include "webhook_signature.h"

#include <errno.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#define PREFIX           "whsec_"
#define MAX_BASE64_BYTES 88 // length of WEBHOOK_SECRET_MAX_BYTES in base64
#define HASH_BYTES       32

// EVP_DecodeBlock also accepts white space around the text, and counts the padding as bytes of the key. This function
// therefore checks the alphabet itself and subtracts the padding.
int webhook_secret_parse(const char *text, size_t length, struct webhook_secret *ret_secret)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char padded[MAX_BASE64_BYTES + 1] = "";
    unsigned char decoded[MAX_BASE64_BYTES / 4 * 3];
    size_t digits, padding;
    int decoded_length;

    if (length <= strlen(PREFIX) || memcmp(text, PREFIX, strlen(PREFIX)) != 0 ||
        length - strlen(PREFIX) > MAX_BASE64_BYTES)
        return -EINVAL;
    memcpy(padded, text + strlen(PREFIX), length - strlen(PREFIX));
    digits = strspn(padded, alphabet);
    padding = (4 - digits % 4) % 4;
    if (padding == 3 || digits + padding > MAX_BASE64_BYTES ||
        (padded[digits] && (strspn(padded + digits, "=") != padding || digits + padding != length - strlen(PREFIX))))
        return -EINVAL;
    memset(padded + digits, '=', padding);
    decoded_length = EVP_DecodeBlock(decoded, (unsigned char *)padded, (int)(digits + padding));
    *ret_secret = (struct webhook_secret){.length = decoded_length < 0 ? 0 : (size_t)decoded_length - padding};
    if (ret_secret->length <= WEBHOOK_SECRET_MAX_BYTES)
        memcpy(ret_secret->key, decoded, ret_secret->length);
    OPENSSL_cleanse(decoded, sizeof decoded);
    OPENSSL_cleanse(padded, sizeof padded);
    return ret_secret->length >= WEBHOOK_SECRET_MIN_BYTES && ret_secret->length <= WEBHOOK_SECRET_MAX_BYTES ? 0
                                                                                                            : -EINVAL;
}

static int append_signature(const struct webhook_secret *secret, const struct buffer *content, struct buffer *signature)
{
    unsigned char hash[HASH_BYTES], text[(HASH_BYTES + 2) / 3 * 4 + 1];
    unsigned int hash_length = 0;

    if (!HMAC(EVP_sha256(), secret->key, (int)secret->length, (const unsigned char *)content->data, content->length,
              hash, &hash_length) ||
        hash_length != sizeof hash || EVP_EncodeBlock(text, hash, sizeof hash) != sizeof text - 1)
        return -EIO;
    return buffer_print(signature, "%sv1,%s", signature->length > 0 ? " " : "", (const char *)text);
}

int webhook_sign(const struct webhook_secrets *secrets, const char *id, const char *timestamp, const char *body,
                 size_t length, struct buffer *signature)
{
    struct buffer content = {0};
    int r = buffer_print(&content, "%s.%s.", id, timestamp);

    if (r == 0)
        r = buffer_append(&content, body, length);
    for (size_t i = 0; i < secrets->count && r == 0; i++)
        r = append_signature(&secrets->secrets[i], &content, signature);
    buffer_finish(&content);
    return r;
}
