// Overwrites the buffer of the file before freeing it, because the buffer holds secrets.
#include "secret_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "imcallbackd/base/file.h"

#define MAX_BYTES 1024

static int add_line(struct webhook_secrets *secrets, const char *path, const char *line, size_t length,
                    struct error *error)
{
    if (secrets->count == WEBHOOK_MAX_SECRETS)
        return error_set(error, EINVAL, "%s: the file has more than two lines; keep only the old and the new secret",
                         path);
    if (webhook_secret_parse(line, length, &secrets->secrets[secrets->count]) < 0)
        return error_set(error, EINVAL,
                         "%s: line %zu is not a Standard Webhooks secret; write whsec_ and the base64 text of 24 to 64 "
                         "random bytes, for example with: echo \"whsec_$(openssl rand -base64 32)\"",
                         path, secrets->count + 1);
    secrets->count++;
    return 0;
}

static int parse(struct webhook_secrets *secrets, const char *path, const struct buffer *text, struct error *error)
{
    const char *line = buffer_text(text);
    int r = 0;

    if (strlen(line) != text->length)
        return error_set(error, EINVAL, "%s: the file contains a NUL byte; write one secret per line", path);
    do {
        size_t length = strcspn(line, "\r\n");

        r = add_line(secrets, path, line, length, error);
        line += length;
        line += line[0] == '\r' && line[1] == '\n' ? 2 : line[0] != '\0';
    } while (r == 0 && *line != '\0');
    return r;
}

int secret_file_read(const char *file, struct webhook_secrets *ret_secrets, bool *ret_readable_by_all,
                     struct error *error)
{
    struct buffer text = {0};
    struct stat status;
    char *path = NULL;
    int r;

    *ret_secrets = (struct webhook_secrets){0};
    *ret_readable_by_all = false;
    if (!file)
        return 0;
    r = file_expand_path(file, &path, error);
    if (r == -ENOENT)
        return -EACCES;
    // A buffer that grows would leave a copy of the secret in freed memory.
    if (r == 0)
        r = buffer_reserve(&text, MAX_BYTES + 1) < 0 ? error_set(error, ENOMEM, "out of memory")
                                                     : file_read(path, MAX_BYTES, &text, error);
    if (r == 0)
        r = parse(ret_secrets, path, &text, error);
    if (r < 0)
        secret_file_forget(ret_secrets);
    *ret_readable_by_all = r == 0 && stat(path, &status) == 0 && (status.st_mode & S_IROTH);
    if (text.data)
        explicit_bzero(text.data, text.capacity);
    buffer_finish(&text);
    free(path);
    return r;
}

void secret_file_forget(struct webhook_secrets *secrets)
{
    explicit_bzero(secrets, sizeof *secrets);
}
