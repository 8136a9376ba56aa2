// Tokens are secrets: every buffer that held one is overwritten before it is freed.
#include "token.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "imcallbackd/base/file.h"

#define MAX_FILE_BYTES ((size_t)4096)

static int add_token(struct token_file *file, const char *path, const char *text, size_t length, struct error *error)
{
    if (length == 0)
        return error_set(error, EINVAL,
                         "%s: the token is empty, so anyone could sign a call; write the token of the console into "
                         "the file",
                         path);
    if (file->count == CALLBACK_MAX_TOKENS)
        return error_set(error, EINVAL, "%s: the file holds more than two tokens; keep only the old and the new one",
                         path);
    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return error_set(
                error, EINVAL,
                "%s: line %zu contains a byte that is not visible ASCII; write one token per line, without spaces",
                path, file->count + 1);
    }
    file->tokens[file->count] = strndup(text, length);
    if (!file->tokens[file->count])
        return error_set(error, ENOMEM, "out of memory");
    file->count++;
    return 0;
}

int token_file_read(const char *path, struct token_file *ret_file, struct error *error)
{
    struct buffer contents = {0};
    struct stat status;
    const char *line;
    int r = file_read(path, MAX_FILE_BYTES, &contents, error);

    *ret_file = (struct token_file){.readable_by_all = stat(path, &status) == 0 && (status.st_mode & S_IROTH)};
    line = buffer_text(&contents);
    do {
        size_t length = strcspn(line, "\r\n");

        if (r == 0)
            r = add_token(ret_file, path, line, length, error);
        line += length;
        line += line[0] == '\r' && line[1] == '\n' ? 2 : line[0] != '\0';
    } while (r == 0 && *line != '\0');
    if (r == 0 && strlen(contents.data) != contents.length)
        r = error_set(error, EINVAL, "%s: the file contains a NUL byte; write one token per line", path);
    if (r < 0)
        token_file_finish(ret_file);
    if (contents.data)
        explicit_bzero(contents.data, contents.capacity);
    buffer_finish(&contents);
    return r;
}

void token_file_finish(struct token_file *file)
{
    for (size_t i = 0; i < file->count; i++) {
        explicit_bzero(file->tokens[i], strlen(file->tokens[i]));
        free(file->tokens[i]);
    }
    *file = (struct token_file){0};
}
