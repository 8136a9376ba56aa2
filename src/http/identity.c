#include "imcallbackd/http/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/file.h"
#include "tls.h"

#define MAX_PEM_BYTES ((size_t)1 << 20)

struct http_identity {
    struct tls_identity tls;
    int64_t valid_from_ms;
    int64_t expires_ms;
};

static int load_chain(struct http_identity *identity, const char *path, struct error *error)
{
    struct buffer pem = {0};
    gnutls_x509_crt_t *chain = NULL;
    unsigned int count = 0;
    int r = file_read(path, MAX_PEM_BYTES, &pem, error);

    if (r < 0)
        goto finish;
    r = gnutls_x509_crt_list_import2(&chain, &count,
                                     &(gnutls_datum_t){(unsigned char *)pem.data, (unsigned int)pem.length},
                                     GNUTLS_X509_FMT_PEM, GNUTLS_X509_CRT_LIST_FAIL_IF_UNSORTED);
    if (r < 0 || count == 0) {
        r = error_set(error, EBADMSG, "%s holds no certificate chain in PEM, the server's own certificate first: %s",
                      path, gnutls_strerror(r));
        goto finish;
    }
    identity->valid_from_ms = (int64_t)gnutls_x509_crt_get_activation_time(chain[0]) * 1000;
    identity->expires_ms = (int64_t)gnutls_x509_crt_get_expiration_time(chain[0]) * 1000;
    identity->tls.chain_length = count;
    identity->tls.chain = calloc(count, sizeof *identity->tls.chain);
    r = identity->tls.chain ? gnutls_pcert_import_x509_list(identity->tls.chain, chain, &identity->tls.chain_length, 0)
                            : GNUTLS_E_MEMORY_ERROR;
    if (r < 0) {
        identity->tls.chain_length = 0;
        r = error_set(error, EBADMSG, "%s: %s", path, gnutls_strerror(r));
    }
finish:
    for (unsigned int i = 0; i < count; i++)
        gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
    buffer_finish(&pem);
    return r < 0 ? -EBADMSG : 0;
}

// The two belong together when their public keys have the same identifier.
static int compare_keys(const struct tls_identity *identity)
{
    unsigned char of_certificate[64], of_key[64];
    size_t certificate_length = sizeof of_certificate, key_length = sizeof of_key;
    gnutls_pubkey_t public_key;
    int r = gnutls_pubkey_init(&public_key);

    if (r < 0)
        return r;
    r = gnutls_pubkey_import_privkey(public_key, identity->key, 0, 0);
    if (r == 0)
        r = gnutls_pubkey_get_key_id(public_key, GNUTLS_KEYID_USE_SHA256, of_key, &key_length);
    if (r == 0)
        r = gnutls_pubkey_get_key_id(identity->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, of_certificate,
                                     &certificate_length);
    if (r == 0 && (key_length != certificate_length || memcmp(of_key, of_certificate, key_length) != 0))
        r = GNUTLS_E_CERTIFICATE_KEY_MISMATCH;
    gnutls_pubkey_deinit(public_key);
    return r;
}

static int load_key(struct http_identity *identity, const char *path, const char *certificate_path, struct error *error)
{
    struct buffer pem = {0};
    int r = file_read(path, MAX_PEM_BYTES, &pem, error);

    if (r < 0)
        goto finish;
    r = gnutls_privkey_init(&identity->tls.key);
    if (r == 0)
        r = gnutls_privkey_import_x509_raw(identity->tls.key,
                                           &(gnutls_datum_t){(unsigned char *)pem.data, (unsigned int)pem.length},
                                           GNUTLS_X509_FMT_PEM, NULL, 0);
    if (r < 0) {
        r = error_set(error, EKEYREJECTED, "%s holds no private key in PEM without a password: %s", path,
                      gnutls_strerror(r));
        goto finish;
    }
    r = compare_keys(&identity->tls);
    if (r == GNUTLS_E_CERTIFICATE_KEY_MISMATCH)
        r = error_set(error, EKEYREJECTED, "%s is not the key of the certificate in %s", path, certificate_path);
    else if (r < 0)
        r = error_set(error, EKEYREJECTED, "%s: %s", path, gnutls_strerror(r));
finish:
    if (pem.data)
        gnutls_memset(pem.data, 0, pem.capacity);
    buffer_finish(&pem);
    return r < 0 ? -EKEYREJECTED : 0;
}

int http_identity_load(const char *certificate_path, const char *private_key_path, struct http_identity **ret_identity,
                       struct error *error)
{
    struct http_identity *identity = calloc(1, sizeof *identity);
    int r;

    if (!identity)
        return error_set(error, ENOMEM, "out of memory");
    r = load_chain(identity, certificate_path, error);
    if (r == 0)
        r = load_key(identity, private_key_path, certificate_path, error);
    if (r < 0) {
        http_identity_destroy(identity);
        return r;
    }
    *ret_identity = identity;
    return 0;
}

int64_t http_identity_valid_from_ms(const struct http_identity *identity)
{
    return identity->valid_from_ms;
}

int64_t http_identity_expires_ms(const struct http_identity *identity)
{
    return identity->expires_ms;
}

const struct tls_identity *http_identity_tls(const struct http_identity *identity)
{
    return &identity->tls;
}

void http_identity_destroy(struct http_identity *identity)
{
    if (!identity)
        return;
    for (unsigned int i = 0; i < identity->tls.chain_length; i++)
        gnutls_pcert_deinit(&identity->tls.chain[i]);
    free(identity->tls.chain);
    if (identity->tls.key)
        gnutls_privkey_deinit(identity->tls.key);
    free(identity);
}
