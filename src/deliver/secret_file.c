// Parses the file. No message repeats a part of its contents.
#include "secret_file.h"

#include <errno.h>
#include <string.h>

#include "imcallbackd/base/file.h"

#define MAX_BYTES 1024

static int add_line(struct webhook_secrets *secrets, const char *file, const char *line, size_t length,
                    struct error *error)
{
    if (secrets->count == WEBHOOK_MAX_SECRETS)
        return error_set(error, EINVAL, "%s: the file has more than two lines; keep only the old and the new secret",
                         file);
    if (webhook_secret_parse(line, length, &secrets->secrets[secrets->count]) < 0)
        return error_set(error, EINVAL,
                         "%s: line %zu is not a Standard Webhooks secret; write whsec_ and the base64 text of 24 to 64 "
                         "random bytes, for example with: echo \"whsec_$(openssl rand -base64 32)\"",
                         file, secrets->count + 1);
    secrets->count++;
    return 0;
}

static int parse(struct webhook_secrets *secrets, const char *file, const struct buffer *text, struct error *error)
{
    const char *line = buffer_text(text);
    int r = 0;

    if (strlen(line) != text->length)
        return error_set(error, EINVAL, "%s: the file contains a NUL byte; write one secret per line", file);
    do {
        size_t length = strcspn(line, "\r\n");

        r = add_line(secrets, file, line, length, error);
        line += length;
        line += line[0] == '\r' && line[1] == '\n' ? 2 : line[0] != '\0';
    } while (r == 0 && *line != '\0');
    return r;
}

int secret_file_read(const char *file, struct webhook_secrets *ret_secrets, bool *ret_readable_by_all,
                     struct error *error)
{
    struct buffer text = {0};
    int r;

    *ret_secrets = (struct webhook_secrets){0};
    *ret_readable_by_all = false;
    if (!file)
        return 0;
    r = file_read_secret(file, MAX_BYTES, &text, ret_readable_by_all, error);
    if (r == 0)
        r = parse(ret_secrets, file, &text, error);
    if (r < 0)
        secret_file_forget(ret_secrets);
    file_forget_secret(&text);
    return r;
}

void secret_file_forget(struct webhook_secrets *secrets)
{
    explicit_bzero(secrets, sizeof *secrets);
}
