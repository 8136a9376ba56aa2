// Asks the file system only.
#include "disk_usage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "imcallbackd/base/buffer.h"

static int64_t size_of(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 ? status.st_size : 0;
}

int disk_usage_measure(const char *database, struct disk_usage *ret_usage, struct error *error)
{
    char *file = realpath(database, NULL); // SQLite creates the log next to the target of a symbolic link
    struct buffer log = {0};
    struct statvfs disk;
    int r = 0;

    if (!file || statvfs(file, &disk) < 0)
        r = error_set(error, errno, "%s: %s", database, strerror(errno));
    else if (buffer_print(&log, "%s-wal", file) < 0)
        r = error_set(error, ENOMEM, "out of memory");
    else
        *ret_usage = (struct disk_usage){
            .database_bytes = size_of(file),
            .log_bytes = size_of(log.data),
            .free_bytes = (int64_t)(disk.f_bavail * disk.f_frsize),
            // Blocks reserved for root do not count.
            .total_bytes = (int64_t)((disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize),
        };
    buffer_finish(&log);
    free(file);
    return r;
}
