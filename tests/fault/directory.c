// On failure, the functions abort the test program, so that callers need not check for errors.
#include "directory.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

static char *path_in(const char *directory, const char *name)
{
    char *path;
    int length = asprintf(&path, "%s/%s", directory, name);

    assert(length > 0);
    return path;
}

char *directory_create(void)
{
    char *path = path_in(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", "imcallbackd-fault-XXXXXX");
    const char *made = mkdtemp(path);

    assert(made);
    return path;
}

static void for_each_file(const char *directory, void (*function)(const char *directory, const char *name, void *),
                          void *context)
{
    DIR *stream = opendir(directory);

    assert(stream);
    for (const struct dirent *entry; (entry = readdir(stream));) {
        if (entry->d_name[0] != '.')
            function(directory, entry->d_name, context);
    }
    closedir(stream);
}

static void remove_file(const char *directory, const char *name, void *context)
{
    char *path = path_in(directory, name);
    int r = unlink(path);

    (void)context;
    assert(r == 0);
    free(path);
}

void directory_empty(const char *directory)
{
    for_each_file(directory, remove_file, NULL);
}

static bool is_index(const char *name)
{
    const char *end = strstr(name, "-shm");

    return end && !end[4];
}

static void copy_file(const char *directory, const char *name, void *context)
{
    char *from, *to;
    int source, target;
    ssize_t copied;

    if (is_index(name))
        return;
    from = path_in(directory, name);
    to = path_in(context, name);
    source = open(from, O_RDONLY | O_CLOEXEC);
    target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    assert(source >= 0 && target >= 0);
    do {
        copied = sendfile(target, source, NULL, 1 << 20);
    } while (copied > 0);
    assert(copied == 0);
    close(source);
    close(target);
    free(from);
    free(to);
}

void directory_copy(const char *source, const char *target)
{
    directory_empty(target);
    for_each_file(source, copy_file, (void *)target);
}

void directory_remove(char *directory)
{
    int r;

    directory_empty(directory);
    r = rmdir(directory);
    assert(r == 0);
    free(directory);
}
