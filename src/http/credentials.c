#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "credentials_session.h"
#include "imcallbackd/base/file.h"
#include "key.h"

#include <gnutls/x509.h>

#define MAX_PEM_BYTES ((size_t)1 << 20)

struct http_credentials {
    atomic_uint references;
    gnutls_certificate_credentials_t credentials;
    gnutls_datum_t ticket_key; // GnuTLS derives from it by the hour, so that old tickets end
    struct buffer client_ca;   // PEM; empty when no client certificate is asked for
    int64_t valid_from_ms;
    int64_t expires_ms;
};

static gnutls_datum_t datum_of(const struct buffer *pem)
{
    return (gnutls_datum_t){(unsigned char *)pem->data, (unsigned int)pem->length};
}

// The chain for gnutls_certificate_set_key; the caller frees the array, and its members until that call took them.
static int import_chain(struct http_credentials *identity, const struct buffer *pem, gnutls_pcert_st **ret_chain,
                        unsigned int *ret_count)
{
    gnutls_datum_t datum = datum_of(pem);
    gnutls_x509_crt_t *certificates = NULL;
    gnutls_pcert_st *chain = NULL;
    unsigned int count = 0;
    int r = gnutls_x509_crt_list_import2(&certificates, &count, &datum, GNUTLS_X509_FMT_PEM,
                                         GNUTLS_X509_CRT_LIST_FAIL_IF_UNSORTED);

    if (r >= 0) {
        identity->valid_from_ms = (int64_t)gnutls_x509_crt_get_activation_time(certificates[0]) * 1000;
        identity->expires_ms = (int64_t)gnutls_x509_crt_get_expiration_time(certificates[0]) * 1000;
        *ret_count = count;
        chain = calloc(count, sizeof *chain);
        r = chain ? gnutls_pcert_import_x509_list(chain, certificates, ret_count, 0) : GNUTLS_E_MEMORY_ERROR;
    }
    for (unsigned int i = 0; i < count; i++)
        gnutls_x509_crt_deinit(certificates[i]);
    gnutls_free(certificates);
    if (r < 0)
        free(chain);
    else
        *ret_chain = chain;
    return r;
}

// The chain is consumed. On success the credentials own its members and the key.
static int set_key(struct http_credentials *identity, gnutls_pcert_st *chain, unsigned int count, gnutls_privkey_t key)
{
    int r = gnutls_certificate_set_key(identity->credentials, NULL, 0, chain, (int)count, key);

    for (unsigned int i = 0; i < count && r < 0; i++)
        gnutls_pcert_deinit(&chain[i]);
    if (r < 0)
        gnutls_privkey_deinit(key);
    free(chain);
    return r;
}

static int load_certificate(struct http_credentials *identity, const struct http_credentials_files *files,
                            struct error *error)
{
    struct buffer certificate = {0}, key_pem = {0};
    gnutls_pcert_st *chain = NULL;
    unsigned int count = 0;
    gnutls_privkey_t key = NULL;
    int r = file_read(files->certificate, MAX_PEM_BYTES, &certificate, error), code = -EBADMSG;

    if (r < 0)
        goto finish;
    r = import_chain(identity, &certificate, &chain, &count);
    if (r < 0) {
        error_set(error, EBADMSG, "%s: not a PEM certificate chain that starts with the server's own certificate: %s",
                  files->certificate, gnutls_strerror(r));
        goto finish;
    }
    code = -EKEYREJECTED;
    r = file_read(files->private_key, MAX_PEM_BYTES, &key_pem, error);
    if (r == 0) {
        r = tls_key_load(buffer_text(&key_pem), certificate.data, &key, error);
        if (r < 0)
            error_wrap(error, "%s", files->private_key);
    }
    if (r < 0) {
        for (unsigned int i = 0; i < count; i++)
            gnutls_pcert_deinit(&chain[i]);
        free(chain);
        goto finish;
    }
    r = set_key(identity, chain, count, key);
    if (r < 0)
        error_set(error, EKEYREJECTED, "%s: %s", files->private_key, gnutls_strerror(r));
finish:
    if (key_pem.data)
        explicit_bzero(key_pem.data, key_pem.capacity);
    buffer_finish(&key_pem);
    buffer_finish(&certificate);
    return r < 0 ? code : 0;
}

// GnuTLS calls this in the handshake, when the client has shown its certificate.
static int verify_client(gnutls_session_t session)
{
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (void *)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned int status = 0;
    int r = gnutls_certificate_verify_peers(session, &purpose, 1, &status);

    return r == 0 && status == 0 ? 0 : GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
}

static int load_client_ca(struct http_credentials *identity, const char *path, struct error *error)
{
    gnutls_datum_t datum;
    int r;

    if (!path)
        return 0;
    if (file_read(path, MAX_PEM_BYTES, &identity->client_ca, error) < 0)
        return -EPROTO;
    datum = datum_of(&identity->client_ca);
    r = gnutls_certificate_set_x509_trust_mem(identity->credentials, &datum, GNUTLS_X509_FMT_PEM);
    if (r <= 0)
        return error_set(error, EPROTO, "%s: contains no CA certificate in PEM format%s%s", path, r < 0 ? ": " : "",
                         r < 0 ? gnutls_strerror(r) : "");
    gnutls_certificate_set_verify_function(identity->credentials, verify_client);
    return 0;
}

// A session that began under another client CA, or under none, must not be resumed.
static int make_ticket_key(struct http_credentials *identity, const struct http_credentials *predecessor)
{
    if (!predecessor || identity->client_ca.length != predecessor->client_ca.length ||
        memcmp(buffer_text(&identity->client_ca), buffer_text(&predecessor->client_ca), identity->client_ca.length) !=
            0)
        return gnutls_session_ticket_key_generate(&identity->ticket_key);
    identity->ticket_key.data = gnutls_malloc(predecessor->ticket_key.size);
    if (!identity->ticket_key.data)
        return GNUTLS_E_MEMORY_ERROR;
    memcpy(identity->ticket_key.data, predecessor->ticket_key.data, predecessor->ticket_key.size);
    identity->ticket_key.size = predecessor->ticket_key.size;
    return 0;
}

int http_credentials_load(const struct http_credentials_files *files, const struct http_credentials *predecessor,
                          struct http_credentials **ret_identity, struct error *error)
{
    struct http_credentials *identity = calloc(1, sizeof *identity);
    int r;

    if (!identity)
        return error_set(error, ENOMEM, "out of memory");
    identity->references = 1;
    if (gnutls_certificate_allocate_credentials(&identity->credentials) < 0)
        r = error_set(error, ENOMEM, "out of memory");
    else
        r = load_certificate(identity, files, error);
    if (r == 0)
        r = load_client_ca(identity, files->client_ca, error);
    if (r == 0 && make_ticket_key(identity, predecessor) < 0)
        r = error_set(error, ENOMEM, "GnuTLS cannot generate a session ticket key");
    if (r < 0) {
        http_credentials_unref(identity);
        return r;
    }
    *ret_identity = identity;
    return 0;
}

int64_t http_credentials_valid_from_ms(const struct http_credentials *identity)
{
    return identity->valid_from_ms;
}

int64_t http_credentials_expires_ms(const struct http_credentials *identity)
{
    return identity->expires_ms;
}

bool http_credentials_apply(const struct http_credentials *identity, gnutls_session_t session)
{
    if (identity->client_ca.length > 0)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, identity->credentials) == 0 &&
           gnutls_session_ticket_enable_server(session, &identity->ticket_key) == 0;
}

struct http_credentials *http_credentials_ref(struct http_credentials *identity)
{
    identity->references++;
    return identity;
}

void http_credentials_unref(struct http_credentials *identity)
{
    if (!identity || --identity->references > 0)
        return;
    if (identity->credentials)
        gnutls_certificate_free_credentials(identity->credentials);
    if (identity->ticket_key.data)
        gnutls_memset(identity->ticket_key.data, 0, identity->ticket_key.size);
    gnutls_free(identity->ticket_key.data);
    buffer_finish(&identity->client_ca);
    free(identity);
}
