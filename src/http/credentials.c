// Loads the files into GnuTLS objects. Each step frees what it has not handed over to the credentials object.
#include "imcallbackd/http/credentials.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/file.h"
#include "private_key.h"

#include <gnutls/x509.h>

#define MAX_PEM_BYTES ((size_t)1 << 20)
#define MAX_DNS_NAMES 20

struct http_credentials {
    atomic_uint references;
    gnutls_certificate_credentials_t certificate;
    gnutls_datum_t ticket_key; // GnuTLS regularly derives a new key from this secret, so that old tickets expire
    struct buffer client_ca;   // PEM; empty: the server does not request client certificates
    struct buffer dns_names;   // see http_credentials_dns_names
    int64_t valid_from_ms;
    int64_t expires_ms;
};

static gnutls_datum_t datum_of(const struct buffer *pem)
{
    return (gnutls_datum_t){(unsigned char *)pem->data, (unsigned int)pem->length};
}

// Appends the DNS names of the certificate to the credentials. Skips a name that is too long, and one that is not a
// plain host name or a wildcard. Returns a GnuTLS error code, or 0.
static int list_dns_names(struct http_credentials *credentials, gnutls_x509_crt_t certificate)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_*";
    struct buffer *names = &credentials->dns_names;
    char name[256];
    int type = 0;

    for (unsigned int i = 0; i < MAX_DNS_NAMES && type != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE; i++) {
        size_t length = sizeof name - 1;

        type = gnutls_x509_crt_get_subject_alt_name(certificate, i, name, &length, NULL);
        if (type != GNUTLS_SAN_DNSNAME)
            continue;
        name[length] = '\0';
        if (length == 0 || strspn(name, allowed) != length)
            continue;
        if (buffer_print(names, "%s%s", names->length > 0 ? ", " : "", name) < 0)
            return GNUTLS_E_MEMORY_ERROR;
    }
    return 0;
}

// Sets the names and the validity of the credentials from the first certificate. Returns a GnuTLS error code or the
// number of certificates. On success the caller releases each element of *ret_chain. The caller frees the array even
// after a failure.
static int import_chain(struct http_credentials *credentials, const struct buffer *pem, gnutls_pcert_st **ret_chain)
{
    gnutls_datum_t datum = datum_of(pem);
    gnutls_x509_crt_t *certificates = NULL;
    unsigned int count = 0;
    int r = gnutls_x509_crt_list_import2(&certificates, &count, &datum, GNUTLS_X509_FMT_PEM,
                                         GNUTLS_X509_CRT_LIST_FAIL_IF_UNSORTED);

    if (r < 0)
        return r;
    credentials->valid_from_ms = (int64_t)gnutls_x509_crt_get_activation_time(certificates[0]) * 1000;
    credentials->expires_ms = (int64_t)gnutls_x509_crt_get_expiration_time(certificates[0]) * 1000;
    r = list_dns_names(credentials, certificates[0]);
    *ret_chain = calloc(count, sizeof **ret_chain);
    if (r == 0)
        r = *ret_chain ? gnutls_pcert_import_x509_list(*ret_chain, certificates, &count, 0) : GNUTLS_E_MEMORY_ERROR;
    for (unsigned int i = 0; i < count; i++)
        gnutls_x509_crt_deinit(certificates[i]);
    gnutls_free(certificates);
    return r < 0 ? r : (int)count;
}

static int load_key(const char *path, const struct buffer *certificate_pem, gnutls_privkey_t *ret_key,
                    struct error *error)
{
    struct buffer pem = {0};
    int r = file_read(path, MAX_PEM_BYTES, &pem, error);

    if (r == 0) {
        r = private_key_load(buffer_text(&pem), buffer_text(certificate_pem), ret_key, error);
        if (r < 0)
            error_wrap(error, "%s", path);
    }
    if (pem.data)
        explicit_bzero(pem.data, pem.capacity);
    buffer_finish(&pem);
    return r < 0 ? -EKEYREJECTED : 0;
}

static int load_chain_and_key(struct http_credentials *credentials, const struct http_credentials_files *files,
                              const struct buffer *certificate_pem, struct error *error)
{
    gnutls_pcert_st *chain = NULL;
    gnutls_privkey_t key = NULL;
    int count = import_chain(credentials, certificate_pem, &chain), r;

    if (count < 0) {
        r = error_set(error, EBADMSG,
                      "%s: not a PEM certificate chain that starts with the server's own certificate: %s",
                      files->certificate, gnutls_strerror(count));
    } else if ((r = load_key(files->private_key, certificate_pem, &key, error)) == 0) {
        r = gnutls_certificate_set_key(credentials->certificate, NULL, 0, chain, count, key);
        if (r < 0) {
            gnutls_privkey_deinit(key);
            r = error_set(error, EKEYREJECTED, "%s: %s", files->private_key, gnutls_strerror(r));
        }
    }
    for (int i = 0; r < 0 && i < count; i++) // otherwise the credentials own the key and the content of the chain
        gnutls_pcert_deinit(&chain[i]);
    free(chain);
    return r;
}

static int load_certificate(struct http_credentials *credentials, const struct http_credentials_files *files,
                            struct error *error)
{
    struct buffer pem = {0};
    int r = -EBADMSG;

    if (file_read(files->certificate, MAX_PEM_BYTES, &pem, error) == 0)
        r = load_chain_and_key(credentials, files, &pem, error);
    buffer_finish(&pem);
    return r;
}

// GnuTLS calls this during the handshake, after the client has sent its certificate.
static int verify_client(gnutls_session_t session)
{
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID, .data = (void *)GNUTLS_KP_TLS_WWW_CLIENT};
    unsigned int status = 0;
    int r = gnutls_certificate_verify_peers(session, &purpose, 1, &status);

    return r == 0 && status == 0 ? 0 : GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
}

static int load_client_ca(struct http_credentials *credentials, const char *path, struct error *error)
{
    gnutls_datum_t datum;
    int r;

    if (!path)
        return 0;
    if (file_read(path, MAX_PEM_BYTES, &credentials->client_ca, error) < 0)
        return -EPROTO;
    datum = datum_of(&credentials->client_ca);
    r = gnutls_certificate_set_x509_trust_mem(credentials->certificate, &datum, GNUTLS_X509_FMT_PEM);
    if (r <= 0)
        return error_set(error, EPROTO, "%s: contains no CA certificate in PEM format%s%s", path, r < 0 ? ": " : "",
                         r < 0 ? gnutls_strerror(r) : "");
    gnutls_certificate_set_verify_function(credentials->certificate, verify_client);
    return 0;
}

static bool has_same_client_ca(const struct http_credentials *credentials, const struct http_credentials *other)
{
    return credentials->client_ca.length == other->client_ca.length &&
           memcmp(buffer_text(&credentials->client_ca), buffer_text(&other->client_ca), other->client_ca.length) == 0;
}

// Copies the key of the predecessor only if its client CA is the same: a client must not resume a session that started
// under another client CA, or without one. Otherwise generates a new key.
static int make_ticket_key(struct http_credentials *credentials, const struct http_credentials *predecessor)
{
    if (!predecessor || !has_same_client_ca(credentials, predecessor))
        return gnutls_session_ticket_key_generate(&credentials->ticket_key);
    credentials->ticket_key.data = gnutls_malloc(predecessor->ticket_key.size);
    if (!credentials->ticket_key.data)
        return GNUTLS_E_MEMORY_ERROR;
    memcpy(credentials->ticket_key.data, predecessor->ticket_key.data, predecessor->ticket_key.size);
    credentials->ticket_key.size = predecessor->ticket_key.size;
    return 0;
}

int http_credentials_load(const struct http_credentials_files *files, const struct http_credentials *predecessor,
                          struct http_credentials **ret_credentials, struct error *error)
{
    struct http_credentials *credentials = calloc(1, sizeof *credentials);
    int r;

    if (!credentials)
        return error_set(error, ENOMEM, "out of memory");
    credentials->references = 1;
    if (gnutls_certificate_allocate_credentials(&credentials->certificate) < 0)
        r = error_set(error, ENOMEM, "out of memory");
    else
        r = load_certificate(credentials, files, error);
    if (r == 0)
        r = load_client_ca(credentials, files->client_ca, error);
    if (r == 0 && make_ticket_key(credentials, predecessor) < 0)
        r = error_set(error, ENOMEM, "GnuTLS cannot generate a session ticket key");
    if (r < 0) {
        http_credentials_unref(credentials);
        return r;
    }
    *ret_credentials = credentials;
    return 0;
}

int64_t http_credentials_valid_from_ms(const struct http_credentials *credentials)
{
    return credentials->valid_from_ms;
}

int64_t http_credentials_expires_ms(const struct http_credentials *credentials)
{
    return credentials->expires_ms;
}

const char *http_credentials_dns_names(const struct http_credentials *credentials)
{
    return buffer_text(&credentials->dns_names);
}

const char *http_tls_library_version(void)
{
    return gnutls_check_version(NULL);
}

bool http_credentials_apply(const struct http_credentials *credentials, struct gnutls_session_int *session)
{
    if (credentials->client_ca.length > 0)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->certificate) == 0 &&
           gnutls_session_ticket_enable_server(session, &credentials->ticket_key) == 0;
}

struct http_credentials *http_credentials_ref(struct http_credentials *credentials)
{
    unsigned int references = credentials->references++;

    assert(references > 0 && references < UINT_MAX);
    return credentials;
}

void http_credentials_unref(struct http_credentials *credentials)
{
    unsigned int references;

    if (!credentials)
        return;
    references = credentials->references--;
    assert(references > 0);
    if (references > 1)
        return;
    if (credentials->certificate)
        gnutls_certificate_free_credentials(credentials->certificate);
    if (credentials->ticket_key.data)
        gnutls_memset(credentials->ticket_key.data, 0, credentials->ticket_key.size);
    gnutls_free(credentials->ticket_key.data);
    buffer_finish(&credentials->client_ca);
    buffer_finish(&credentials->dns_names);
    free(credentials);
}
