// A side file is identified by its inode alone, because it lies in the same directory as the database.
#include "side_file.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/base/buffer.h"

bool side_file_status(const char *database, const char *suffix, struct stat *ret_status)
{
    struct buffer name = {0};
    bool found = buffer_print(&name, "%s%s", database, suffix) == 0 && stat(name.data, ret_status) == 0;

    buffer_finish(&name);
    return found;
}

int side_file_check(const char *database, const char *suffix, struct error *error)
{
    struct stat status;

    if (!side_file_status(database, suffix, &status) || S_ISREG(status.st_mode))
        return 0;
    return error_set(error, EINVAL, "%s%s: not a regular file; remove it", database, suffix);
}

int side_file_init(struct side_file *file, const char *database, const char *suffix, struct error *error)
{
    struct stat status;

    assert(!file->path);
    if (asprintf(&file->path, "%s%s", database, suffix) < 0) {
        file->path = NULL;
        return error_set(error, ENOMEM, "out of memory");
    }
    if (stat(file->path, &status) < 0)
        return error_set(error, errno, "%s: %s", file->path, strerror(errno));
    file->inode = status.st_ino;
    return 0;
}

bool side_file_in_place(const struct side_file *file)
{
    struct stat found;

    assert(file->path);
    return stat(file->path, &found) == 0 && found.st_ino == file->inode;
}

void side_file_finish(struct side_file *file)
{
    free(file->path);
    *file = (struct side_file){0};
}
