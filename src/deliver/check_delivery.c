// Checks the URL and the files of [deliver] before the sender starts and, for `imcallbackd check`, also the connection
// to the endpoint. Sends no event.
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoint.h"
#include "imcallbackd/base/file.h"
#include "imcallbackd/deliver/deliver.h"
#include "secret_file.h"

#include <openssl/err.h>
#include <openssl/pem.h>

int deliver_check_url(const char *url, struct error *error)
{
    return endpoint_check_url(url, error);
}

int deliver_check_secrets(const char *file, deliver_report *report, struct error *error)
{
    struct webhook_secrets secrets;
    bool readable_by_all;
    struct error sentence;
    int r = secret_file_read(file, &secrets, &readable_by_all, error);

    secret_file_forget(&secrets);
    if (r == 0 && readable_by_all) {
        (void)error_set(&sentence, 0,
                        "[deliver] secret_file: every user of this machine can read %s; run chmod o-r on it", file);
        report(sentence.text);
    }
    return r;
}

static int check_readable(const char *path, struct error *error)
{
    return access(path, R_OK) < 0 ? error_set(error, errno, "%s: %s", path, strerror(errno)) : 0;
}

static int check_certificates(const char *path, struct error *error)
{
    FILE *file = fopen(path, "re");
    X509 *first;

    if (!file)
        return error_set(error, errno, "%s: %s", path, strerror(errno));
    first = PEM_read_X509(file, NULL, NULL, NULL);
    (void)fclose(file);
    X509_free(first);
    ERR_clear_error();
    return first ? 0
                 : error_set(error, EINVAL,
                             "%s: the file does not contain a certificate; write CA certificates in PEM format into it",
                             path);
}

static int check_file(const char *file, int (*check)(const char *path, struct error *error), struct error *error)
{
    char *path = NULL;
    int r;

    if (!file)
        return 0;
    r = file_expand_path(file, &path, error);
    if (r == -ENOENT)
        r = -EACCES;
    if (r == 0)
        r = check(path, error);
    free(path);
    return r;
}

int deliver_check_file(const char *file, struct error *error)
{
    return check_file(file, check_readable, error);
}

int deliver_check_ca_file(const char *file, struct error *error)
{
    return check_file(file, check_certificates, error);
}

void deliver_check_state_file(const char *state_file, deliver_report *report)
{
    char *copy = strdup(state_file), *directory = copy ? dirname(copy) : NULL;
    struct error sentence;

    if (directory && access(directory, F_OK) < 0 && errno == ENOENT) {
        (void)error_set(&sentence, 0,
                        "[deliver] state_file: %s: %s; create the directory for the user of the service, unless its "
                        "unit has a StateDirectory= that creates it",
                        directory, strerror(ENOENT));
        report(sentence.text);
    }
    free(copy);
}

int deliver_check_endpoint(const struct deliver_settings *settings, deliver_report *report, struct error *error)
{
    struct buffer found = {0};
    int r = endpoint_check(settings, &found, error);

    if (r == 0)
        report(buffer_text(&found));
    buffer_finish(&found);
    return r;
}

const char *deliver_libcurl_version(void)
{
    return endpoint_library_version();
}
