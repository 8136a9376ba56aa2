// GnuTLS calls back for each signature; the callbacks translate between the algorithm names of both libraries.
#include "private_key.h"

#include <errno.h>
#include <stdbool.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

static gnutls_pk_algorithm_t pk_of(EVP_PKEY *key)
{
    switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA:
        return GNUTLS_PK_RSA;
    case EVP_PKEY_RSA_PSS:
        return GNUTLS_PK_RSA_PSS;
    case EVP_PKEY_EC:
        return GNUTLS_PK_ECDSA;
    case EVP_PKEY_ED25519:
        return GNUTLS_PK_EDDSA_ED25519;
    default:
        return GNUTLS_PK_UNKNOWN;
    }
}

// Ed25519 hashes internally. GnuTLS names SHA-512 for Ed25519, but libcrypto requires that no digest is named.
static const EVP_MD *digest_of(gnutls_sign_algorithm_t algorithm)
{
    const char *name = gnutls_digest_get_name(gnutls_sign_get_hash_algorithm(algorithm));
    bool hashes_internally = gnutls_sign_get_pk_algorithm(algorithm) == GNUTLS_PK_EDDSA_ED25519;

    return name && !hashes_internally ? EVP_get_digestbyname(name) : NULL;
}

// RFC 8446, 4.2.3: the salt of RSASSA-PSS is as long as the digest.
static bool set_padding(EVP_PKEY_CTX *context, gnutls_sign_algorithm_t algorithm)
{
    switch (gnutls_sign_get_pk_algorithm(algorithm)) {
    case GNUTLS_PK_RSA_PSS:
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) > 0 &&
               EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) > 0;
    case GNUTLS_PK_RSA:
        return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) > 0;
    default:
        return true;
    }
}

static bool allocate_signature(EVP_PKEY *key, gnutls_datum_t *signature, size_t *ret_length)
{
    *ret_length = (size_t)EVP_PKEY_get_size(key);
    signature->data = gnutls_malloc(*ret_length);
    return signature->data != NULL;
}

static int finish_signature(bool made, size_t length, gnutls_datum_t *signature)
{
    if (made) {
        signature->size = (unsigned int)length;
        return 0;
    }
    gnutls_free(signature->data);
    signature->data = NULL;
    return GNUTLS_E_PK_SIGN_FAILED;
}

// GnuTLS calls this function for Ed25519, which signs the whole message and not a hash that was computed before.
static int sign_data(gnutls_privkey_t handle, gnutls_sign_algorithm_t algorithm, void *userdata, unsigned int flags,
                     const gnutls_datum_t *data, gnutls_datum_t *signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *padding = NULL; // owned by context
    size_t length = 0;
    bool made = context && allocate_signature(userdata, signature, &length) &&
                EVP_DigestSignInit(context, &padding, digest_of(algorithm), NULL, userdata) > 0 &&
                set_padding(padding, algorithm) &&
                EVP_DigestSign(context, signature->data, &length, data->data, data->size) > 0;

    (void)handle;
    (void)flags;
    EVP_MD_CTX_free(context);
    return finish_signature(made, length, signature);
}

// GnuTLS calls this function after it has hashed the handshake. For PKCS#1, GnuTLS names no hash, because the data is a
// DigestInfo.
static int sign_hash(gnutls_privkey_t handle, gnutls_sign_algorithm_t algorithm, void *userdata, unsigned int flags,
                     const gnutls_datum_t *hash, gnutls_datum_t *signature)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(userdata, NULL);
    const EVP_MD *digest = digest_of(algorithm);
    size_t length = 0;
    bool made = context && allocate_signature(userdata, signature, &length) && EVP_PKEY_sign_init(context) > 0 &&
                set_padding(context, algorithm) && (!digest || EVP_PKEY_CTX_set_signature_md(context, digest) > 0) &&
                EVP_PKEY_sign(context, signature->data, &length, hash->data, hash->size) > 0;

    (void)handle;
    (void)flags;
    EVP_PKEY_CTX_free(context);
    return finish_signature(made, length, signature);
}

static int describe(gnutls_privkey_t handle, unsigned int flags, void *userdata)
{
    gnutls_pk_algorithm_t pk = pk_of(userdata);

    (void)handle;
    if (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO)
        return (int)pk;
    if (flags & GNUTLS_PRIVKEY_INFO_PK_ALGO_BITS)
        return EVP_PKEY_get_bits(userdata);
    if (flags & GNUTLS_PRIVKEY_INFO_HAVE_SIGN_ALGO)
        return gnutls_sign_supports_pk_algorithm(GNUTLS_FLAGS_TO_SIGN_ALGO(flags), pk) != 0;
    return -1;
}

static void release(gnutls_privkey_t handle, void *userdata)
{
    (void)handle;
    EVP_PKEY_free(userdata);
}

static bool matches(EVP_PKEY *key, const char *certificate_pem)
{
    BIO *bio = BIO_new_mem_buf(certificate_pem, -1);
    X509 *certificate = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
    bool same = certificate && X509_check_private_key(certificate, key) == 1;

    X509_free(certificate);
    BIO_free(bio);
    return same;
}

// If the key is encrypted, the empty password keeps libcrypto from asking for one on the terminal.
static EVP_PKEY *read_key(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;

    BIO_free(bio);
    return key;
}

// On success GnuTLS owns the key and frees it through `release`.
static int hand_over(EVP_PKEY *key, gnutls_privkey_t *ret_key)
{
    int r = gnutls_privkey_init(ret_key);

    if (r < 0)
        return r;
    r = gnutls_privkey_import_ext4(*ret_key, key, sign_data, sign_hash, NULL, release, describe, 0);
    if (r < 0)
        gnutls_privkey_deinit(*ret_key);
    return r;
}

int private_key_load(const char *pem, const char *certificate_pem, gnutls_privkey_t *ret_key, struct error *error)
{
    EVP_PKEY *key = read_key(pem);
    const char *fault;

    if (!key)
        return error_set(error, EKEYREJECTED, "contains no private key in PEM format without a password");
    if (pk_of(key) == GNUTLS_PK_UNKNOWN)
        fault = "the key is not an RSA, ECDSA or Ed25519 key";
    else if (!matches(key, certificate_pem)) // for Ed25519, GnuTLS does not check this
        fault = "the key does not match the certificate; install a certificate and key that were issued together";
    else if (hand_over(key, ret_key) < 0)
        fault = "GnuTLS rejects the key";
    else
        return 0;
    EVP_PKEY_free(key);
    return error_set(error, EKEYREJECTED, "%s", fault);
}
