#include "rewrite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES ((size_t)256 * 1024)

static int rewrite_pieces(int fd, char *piece)
{
    off_t at = 0;

    for (;;) {
        ssize_t length = pread(fd, piece, PIECE_BYTES, at);

        if (length == 0)
            return fdatasync(fd) < 0 ? -errno : 0;
        if (length < 0)
            return -errno;
        for (ssize_t done = 0, r; done < length; done += r) {
            r = pwrite(fd, piece + done, (size_t)(length - done), at + done);
            if (r < 0)
                return -errno;
        }
        at += length;
    }
}

int rewrite_file(const char *path, struct error *error)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY), r = -ENOMEM;
    char *piece;

    if (fd < 0)
        return errno == ENOENT ? 0 : error_set(error, errno, "%s: %s", path, strerror(errno));
    piece = malloc(PIECE_BYTES);
    if (piece)
        r = rewrite_pieces(fd, piece);
    free(piece);
    close(fd);
    return r == 0 ? 0 : error_set(error, -r, "%s: %s", path, strerror(-r));
}
