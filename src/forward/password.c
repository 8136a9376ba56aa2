// Keeps the password in a single heap block, which is overwritten before it is freed.
#include "password.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/file.h"

#define MAX_BYTES 1024

static int check(const char *path, const struct buffer *text, struct error *error)
{
    if (text->length == 0)
        return error_set(error, EINVAL, "%s: the password is empty; write the password into the file", path);
    if (strlen(text->data) != text->length || strpbrk(text->data, "\r\n"))
        return error_set(error, EINVAL, "%s: the file must contain the password on a single line", path);
    return 0;
}

int password_read(const char *file, char **ret_password, bool *ret_readable_by_all, struct error *error)
{
    struct buffer text = {0};
    int r;

    *ret_password = NULL;
    *ret_readable_by_all = false;
    if (!file)
        return 0;
    r = file_read_secret(file, MAX_BYTES, &text, ret_readable_by_all, error);
    if (r < 0)
        return r;
    if (text.length > 0 && text.data[text.length - 1] == '\n')
        text.data[--text.length] = '\0';
    r = check(file, &text, error);
    if (r == 0)
        *ret_password = text.data;
    else
        file_forget_secret(&text);
    return r;
}

void password_forget(char *password)
{
    if (!password)
        return;
    explicit_bzero(password, strlen(password));
    free(password);
}
