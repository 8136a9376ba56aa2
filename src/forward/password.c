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

int password_read(const char *file, char **ret_password, struct error *error)
{
    struct buffer text = {0};
    char *path = NULL;
    int r;

    *ret_password = NULL;
    if (!file)
        return 0;
    r = file_expand_path(file, &path, error);
    if (r == -ENOENT)
        return -EACCES;
    // A buffer that grows would leave a copy of the password in freed memory.
    if (r == 0)
        r = buffer_reserve(&text, MAX_BYTES + 1) < 0 ? error_set(error, ENOMEM, "out of memory")
                                                     : file_read(path, MAX_BYTES, &text, error);
    if (r == 0 && text.length > 0 && text.data[text.length - 1] == '\n')
        text.data[--text.length] = '\0';
    if (r == 0)
        r = check(path, &text, error);
    if (r == 0)
        *ret_password = text.data;
    else if (text.data)
        explicit_bzero(text.data, text.capacity);
    if (r < 0)
        buffer_finish(&text);
    free(path);
    return r;
}

void password_forget(char *password)
{
    if (!password)
        return;
    explicit_bzero(password, strlen(password));
    free(password);
}
