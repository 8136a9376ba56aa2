// Checks the URL and the files of [deliver] before the sender starts and, for `imcallbackd check`, also the connection
// to the endpoint. Sends no event.
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "endpoint.h"
#include "imcallbackd/base/file.h"
#include "imcallbackd/deliver/deliver.h"
#include "secret_file.h"

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

int deliver_check_file(const char *file, struct error *error)
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
    free(path);
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
