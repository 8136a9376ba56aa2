#include "wal_index.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "imcallbackd/base/clock.h"
#include "side_file.h"

// From SQLite's "WAL-mode File Format", 2: two copies of a header, in which zeros are good for nothing and have the
// index recovered; the number of frames that were written back; and further on a byte for each lock.
#define WRITTEN_BACK    96
#define FORGOTTEN_BYTES 100
#define WRITE_LOCK      120
#define CHECKPOINT_LOCK 121
#define RECOVERY_LOCK   122
#define LEAST_BYTES     136 // what is shorter SQLite makes anew by itself

#define CHECKPOINT_PATIENCE_MS 5000
#define WRITER_PATIENCE_MS     500
#define PAUSE_MS               10

static int lock(int fd, off_t first, off_t last, int64_t patience_ms)
{
    struct flock bytes = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = first, .l_len = last - first + 1};
    int64_t give_up_at_ms = clock_monotonic_ms() + patience_ms;

    while (fcntl(fd, F_SETLK, &bytes) < 0) {
        if ((errno != EAGAIN && errno != EACCES) || clock_monotonic_ms() >= give_up_at_ms)
            return -errno;
        (void)poll(NULL, 0, PAUSE_MS);
    }
    return 0;
}

static int distrust(int fd, const char *path, struct error *error)
{
    static const unsigned char zeros[FORGOTTEN_BYTES] = {0};
    struct stat status;
    off_t begin = 0;
    int r;

    if (fstat(fd, &status) < 0)
        return error_set(error, errno, "%s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return error_set(error, EINVAL, "%s: this is not a file; remove it", path);
    if (status.st_size < LEAST_BYTES)
        return 0;
    r = lock(fd, CHECKPOINT_LOCK, CHECKPOINT_LOCK, CHECKPOINT_PATIENCE_MS);
    if (r < 0)
        return error_set(error, -r, "%s: another process writes the log back and does not end: %s", path, strerror(-r));
    if (lock(fd, WRITE_LOCK, RECOVERY_LOCK, WRITER_PATIENCE_MS) < 0)
        begin = WRITTEN_BACK;
    if (pwrite(fd, zeros, (size_t)(FORGOTTEN_BYTES - begin), begin) < 0)
        return error_set(error, errno, "%s: %s", path, strerror(errno));
    return 0;
}

int wal_index_distrust(const char *database, struct error *error)
{
    char *path;
    int fd, r = 0;

    if (asprintf(&path, "%s" SIDE_FILE_INDEX, database) < 0)
        return error_set(error, ENOMEM, "out of memory");
    fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0) {
        r = distrust(fd, path, error);
        close(fd);
    } else if (errno != ENOENT) {
        r = error_set(error, errno, "%s: %s", path, strerror(errno));
    }
    free(path);
    return r;
}
