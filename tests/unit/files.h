// Creates, reads and removes the files and directories of a unit test. A function that fails makes the running test
// fail.
#pragma once

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"

// Creates a directory below /tmp and writes its path into ret_path.
static inline void make_directory(char *ret_path, size_t size)
{
    assert_true((size_t)snprintf(ret_path, size, "/tmp/imcallbackd-XXXXXX") < size);
    assert_non_null(mkdtemp(ret_path));
}

static inline int remove_entry(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status;
    (void)type;
    (void)where;
    return remove(path);
}

static inline void remove_directory(const char *path)
{
    assert_int_equal(nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

// Replaces the contents of the file. Creates the file with mode 0600 if it does not exist.
static inline void write_file(const char *path, const void *data, size_t length)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, length), (ssize_t)length);
    assert_int_equal(close(fd), 0);
}

static inline void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

// Returns the whole file followed by a NUL byte, which *ret_length does not count. The caller frees the memory.
static inline char *read_file(const char *path, size_t *ret_length)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    char *data;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &status), 0);
    data = malloc((size_t)status.st_size + 1);
    assert_non_null(data);
    assert_int_equal(read(fd, data, (size_t)status.st_size), status.st_size);
    data[status.st_size] = '\0';
    close(fd);
    *ret_length = (size_t)status.st_size;
    return data;
}
