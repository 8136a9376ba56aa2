// The note is one line of text: "inode N born S.NS groups ID rejected ID". Writing replaces the file by rename, so that
// a reader always sees a complete line.
#include "imcallbackd/store/shipped.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imcallbackd/base/file.h"
#include "imcallbackd/base/parse.h"

#define MAX_BYTES 256

// Appends the part of the line that identifies the database, up to the space before "groups".
static int print_identity(const char *database, struct buffer *text, struct error *error)
{
    struct statx found;

    if (statx(AT_FDCWD, database, 0, STATX_INO | STATX_BTIME, &found) < 0)
        return error_set(error, errno, "%s: %s", database, strerror(errno));
    if (buffer_print(text, "inode %" PRIu64 " born %" PRIi64 ".%09" PRIu32 " ", (uint64_t)found.stx_ino,
                     (int64_t)found.stx_btime.tv_sec, (uint32_t)found.stx_btime.tv_nsec) < 0)
        return error_set(error, ENOMEM, "out of memory");
    return 0;
}

// The group may read the note, as it may read the database.
static int replace(const char *path, const char *new_path, const struct buffer *text, struct error *error)
{
    int fd = open(new_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    bool written;

    if (fd < 0)
        return error_set(error, errno, "%s: %s", new_path, strerror(errno));
    errno = ENOSPC; // a partial write does not set errno
    written = fchmod(fd, 0640) == 0 && write(fd, text->data, text->length) == (ssize_t)text->length;
    if (close(fd) < 0 || !written || rename(new_path, path) < 0)
        return error_set(error, errno, "%s: cannot be written: %s", path, strerror(errno));
    return 0;
}

int shipped_write(const char *path, const char *database, const struct shipped *shipped, struct error *error)
{
    struct buffer text = {0}, new_path = {0};
    int r = print_identity(database, &text, error);

    if (r == 0 && (buffer_print(&text, "groups %" PRId64 " rejected %" PRId64 "\n", shipped->group_id,
                                shipped->rejection_id) < 0 ||
                   buffer_print(&new_path, "%s.new", path) < 0))
        r = error_set(error, ENOMEM, "out of memory");
    assert(text.length <= MAX_BYTES);
    if (r == 0)
        r = replace(path, buffer_text(&new_path), &text, error);
    buffer_finish(&new_path);
    buffer_finish(&text);
    return r;
}

// Parses the part of the line after the identity.
static bool parse_ids(const char *text, struct shipped *ret_shipped)
{
    char group[20], rejection[20]; // 19 digits hold INT64_MAX
    uint64_t group_id, rejection_id;
    int end = 0;

    if (sscanf(text, "groups %19[0-9] rejected %19[0-9]%n", group, rejection, &end) != 2 ||
        strcmp(text + end, "\n") != 0 || parse_decimal(group, strlen(group), INT64_MAX, &group_id) < 0 ||
        parse_decimal(rejection, strlen(rejection), INT64_MAX, &rejection_id) < 0)
        return false;
    *ret_shipped = (struct shipped){(int64_t)group_id, (int64_t)rejection_id};
    return true;
}

int shipped_read(const char *path, const char *database, struct shipped *ret_shipped, struct error *error)
{
    struct buffer identity = {0}, text = {0};
    int r = file_read_regular(path, MAX_BYTES, &text, error); // the directory belongs to the user of another service

    if (r == 0)
        r = print_identity(database, &identity, error);
    if (r == 0 && strncmp(buffer_text(&text), buffer_text(&identity), identity.length) != 0)
        r = error_set(error, ESTALE, "%s: the note is about a different database than %s", path, database);
    if (r == 0 && !parse_ids(text.data + identity.length, ret_shipped))
        r = error_set(error, ESTALE, "%s: the note is damaged", path);
    buffer_finish(&identity);
    buffer_finish(&text);
    return r;
}
