// Reads to the end of the file instead of relying on st_size, so that file_read works with pipes and files of /proc.
#include "imcallbackd/base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_expand_path(const char *path, char **ret_path, struct error *error)
{
    static const char *const names[] = {"$CREDENTIALS_DIRECTORY", "${CREDENTIALS_DIRECTORY}"};
    struct buffer expanded = {0};
    const char *directory = "", *rest = path;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t length = strlen(names[i]);

        if (strncmp(path, names[i], length) != 0 || (path[length] != '/' && path[length] != '\0'))
            continue;
        directory = getenv("CREDENTIALS_DIRECTORY");
        if (!directory)
            return error_set(error, ENOENT,
                             "%s: CREDENTIALS_DIRECTORY is not set; systemd sets this variable for LoadCredential=; on "
                             "the command line, put "
                             "env CREDENTIALS_DIRECTORY=/etc/imcallbackd before the command",
                             path);
        rest = path + length;
    }
    if (buffer_print(&expanded, "%s%s", directory, rest) < 0)
        return error_set(error, ENOMEM, "%s: out of memory", path);
    *ret_path = expanded.data;
    return 0;
}

// Appends everything that can be read from fd, and closes fd.
static int read_to_end(int fd, const char *path, size_t max_bytes, struct buffer *contents, struct error *error)
{
    size_t before = contents->length;
    char chunk[4096];
    int r = 0;

    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);

        if (got == 0)
            break;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            r = error_set(error, errno, "%s: %s", path, strerror(errno));
        else if ((size_t)got > max_bytes - (contents->length - before))
            r = error_set(error, EFBIG, "%s: the file is larger than the maximum of %zu bytes", path, max_bytes);
        else if (buffer_append(contents, chunk, (size_t)got) < 0)
            r = error_set(error, ENOMEM, "%s: out of memory", path);
        if (r < 0)
            break;
    }
    explicit_bzero(chunk, sizeof chunk); // the file may hold a secret
    close(fd);
    return r;
}

int file_read(const char *path, size_t max_bytes, struct buffer *contents, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

    if (fd < 0)
        return error_set(error, errno, "%s: %s", path, strerror(errno));
    return read_to_end(fd, path, max_bytes, contents, error);
}

int file_read_regular(const char *path, size_t max_bytes, struct buffer *contents, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // otherwise, open waits for a writer of a FIFO
    struct stat status;

    if (fd < 0)
        return error_set(error, errno, "%s: %s", path, strerror(errno));
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return error_set(error, EINVAL, "%s: not a regular file", path);
    }
    return read_to_end(fd, path, max_bytes, contents, error);
}

int file_read_secret(const char *path, size_t max_bytes, struct buffer *contents, bool *ret_readable_by_all,
                     struct error *error)
{
    char *expanded = NULL;
    struct stat status;
    int r = file_expand_path(path, &expanded, error);

    assert(!contents->data);
    *ret_readable_by_all = false;
    if (r < 0)
        return r == -ENOENT ? -EACCES : r;
    assert(expanded);
    r = buffer_reserve(contents, max_bytes + 1) < 0 ? error_set(error, ENOMEM, "%s: out of memory", expanded)
                                                    : file_read_regular(expanded, max_bytes, contents, error);
    if (r < 0)
        file_forget_secret(contents);
    else
        *ret_readable_by_all = stat(expanded, &status) == 0 && (status.st_mode & S_IROTH);
    free(expanded);
    return r;
}

void file_forget_secret(struct buffer *contents)
{
    if (contents->data)
        explicit_bzero(contents->data, contents->capacity);
    buffer_finish(contents);
}
