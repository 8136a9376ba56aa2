// Checks the settings before the first event is sent.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoint.h"
#include "imcallbackd/base/file.h"
#include "imcallbackd/deliver/deliver.h"
#include "secret_file.h"

// libcurl reads these files when it connects; a missing file is found earlier here.
static int check_readable(const char *file, const char *key, struct error *error)
{
    char *path = NULL;
    int r;

    if (!file)
        return 0;
    r = file_expand_path(file, &path, error);
    if (r == -ENOENT)
        r = -EACCES;
    if (r == 0 && access(path, R_OK) < 0)
        r = error_set(error, errno, "%s: %s", path, strerror(errno));
    if (r < 0)
        error_wrap(error, "[deliver] %s", key);
    free(path);
    return r;
}

static int check_secrets(const char *file, deliver_report *report, struct error *error)
{
    struct webhook_secrets secrets;
    bool readable_by_all;
    struct error sentence;
    int r = secret_file_read(file, &secrets, &readable_by_all, error);

    secret_file_forget(&secrets);
    if (r < 0)
        error_wrap(error, "[deliver] secret_file");
    else if (readable_by_all) {
        (void)error_set(&sentence, 0,
                        "[deliver] secret_file: every user of this machine can read %s; run chmod o-r on it", file);
        report(sentence.text);
    }
    return r;
}

int deliver_check_files(const struct deliver_settings *settings, deliver_report *report, struct error *error)
{
    int r = check_secrets(settings->secret_file, report, error);

    if (r == 0 && settings->client_key && !settings->client_certificate)
        return error_set(error, EINVAL,
                         "[deliver] client_key: the key has no effect without client_certificate; set both");
    if (r == 0)
        r = check_readable(settings->ca_file, "ca_file", error);
    if (r == 0)
        r = check_readable(settings->client_certificate, "client_certificate", error);
    if (r == 0)
        r = check_readable(settings->client_key, "client_key", error);
    return r;
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
