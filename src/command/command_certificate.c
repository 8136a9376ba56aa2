// `certificate` writes a self-signed certificate and its key, which are for testing only.
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imcallbackd/base/address.h"
#include "imcallbackd/base/buffer.h"
#include "imcallbackd/command/command.h"
#include "options.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#define KEY_FILE         "key.pem"
#define CERTIFICATE_FILE "certificate.pem"
#define MAX_HOSTS        64
#define VALID_SECONDS    (365L * 24 * 3600)

// Appends the hosts to `names` in the syntax of X509V3_EXT_conf_nid, such as "DNS:example.org,IP:127.0.0.1". Checks the
// characters of each host name, because a ',' would start another entry.
static int print_names(struct buffer *names, const char *const *hosts, size_t count, struct error *error)
{
    struct address address;

    for (size_t i = 0; i < count; i++) {
        bool is_address = address_parse(hosts[i], &address);

        if (!is_address &&
            strspn(hosts[i], "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-*") != strlen(hosts[i]))
            return error_set(error, EINVAL, "'%s' is neither a host name nor an IP address", hosts[i]);
        if (buffer_print(names, "%s%s:%s", i > 0 ? "," : "", is_address ? "IP" : "DNS", hosts[i]) < 0)
            return error_set(error, ENOMEM, "out of memory");
    }
    return 0;
}

static bool add_extension(X509 *certificate, int kind, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, kind, value);
    bool added = extension && X509_add_ext(certificate, extension, -1) == 1;

    X509_EXTENSION_free(extension);
    return added;
}

static bool set_serial(X509 *certificate)
{
    uint64_t serial;

    return RAND_bytes((unsigned char *)&serial, sizeof serial) == 1 &&
           ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), serial >> 1) == 1;
}

static X509 *make_certificate(EVP_PKEY *key, const char *first_host, const char *names)
{
    X509 *certificate = X509_new();
    X509_NAME *subject;

    if (!certificate)
        return NULL;
    subject = X509_get_subject_name(certificate);
    if (X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
        X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) &&
        X509_gmtime_adj(X509_getm_notAfter(certificate), VALID_SECONDS) &&
        (strlen(first_host) > 64 ||
         X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)first_host, -1, -1, 0) == 1) &&
        X509_set_issuer_name(certificate, subject) == 1 && X509_set_pubkey(certificate, key) == 1 &&
        add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE") &&
        add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
        add_extension(certificate, NID_subject_alt_name, names) && X509_sign(certificate, key, EVP_sha256()) > 0)
        return certificate;
    X509_free(certificate);
    return NULL;
}

// Creates the file in the working directory. The file has its final permissions from the start, so that no other user
// can read the key. `directory` is only for the error message. Returns NULL if the file exists or cannot be created.
static FILE *create_file(const char *directory, const char *name, mode_t mode, struct error *error)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;

    if (!file)
        error_set(error, errno, "%s/%s: cannot create the file: %s%s", directory, name, strerror(errno),
                  errno == EEXIST ? "; move the existing file away first" : "");
    if (!file && fd >= 0)
        close(fd);
    return file;
}

// Makes the directory the working directory and writes both files there. After a failure, deletes what was written.
static int write_files(const char *directory, EVP_PKEY *key, X509 *certificate, struct error *error)
{
    FILE *key_file, *certificate_file;
    bool written;

    if ((mkdir(directory, 0755) < 0 && errno != EEXIST) || chdir(directory) < 0)
        return error_set(error, errno, "%s: cannot create the directory: %s", directory, strerror(errno));
    key_file = create_file(directory, KEY_FILE, 0600, error);
    if (!key_file)
        return -EEXIST;
    certificate_file = create_file(directory, CERTIFICATE_FILE, 0644, error);
    if (!certificate_file) {
        (void)fclose(key_file);
        (void)unlink(KEY_FILE);
        return -EEXIST;
    }
    written = PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL) == 1;
    written = PEM_write_X509(certificate_file, certificate) == 1 && written;
    written = fclose(key_file) == 0 && written;
    written = fclose(certificate_file) == 0 && written;
    if (written)
        return 0;
    (void)unlink(KEY_FILE);
    (void)unlink(CERTIFICATE_FILE);
    return error_set(error, EIO, "%s: cannot write certificate.pem and key.pem; check the free disk space", directory);
}

static int make_certificate_files(const char *directory, const char *const *hosts, size_t host_count,
                                  struct error *error)
{
    struct buffer names = {0};
    EVP_PKEY *key = NULL;
    X509 *certificate = NULL;
    int r = print_names(&names, hosts, host_count, error);

    if (r == 0) {
        key = EVP_EC_gen("P-256");
        certificate = key ? make_certificate(key, hosts[0], buffer_text(&names)) : NULL;
        r = certificate ? write_files(directory, key, certificate, error)
                        : error_set(error, EIO, "libcrypto failed to create a certificate for these names");
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    buffer_finish(&names);
    return r;
}

int command_certificate(int argc, char **argv)
{
    const char *hosts[MAX_HOSTS] = {NULL}, *directory = NULL;
    struct option_spec specs[] = {{"--host", NULL, hosts, MAX_HOSTS, 0}, {"--out", NULL, &directory, 1, 0}};
    struct error error;

    if (options_read(argc, argv, specs, 2) < 0)
        return EXIT_USAGE;
    if (!directory || specs[0].count == 0)
        return options_wrong_usage(argv[0], "--host NAME and --out DIR are required");
    if (make_certificate_files(directory, hosts, specs[0].count, &error) < 0)
        return command_failed(argv[0], &error);
    printf("wrote %s/certificate.pem and %s/key.pem\n", directory, directory);
    return 0;
}
