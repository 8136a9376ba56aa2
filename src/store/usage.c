#include "imcallbackd/store/usage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "imcallbackd/base/buffer.h"
#include "side_file.h"

static int64_t size_of(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 ? status.st_size : 0;
}

int store_measure(const char *path, struct store_usage *ret_usage, struct error *error)
{
    char *file = realpath(path, NULL); // SQLite puts the log beside what the path really is
    struct buffer log = {0};
    struct statvfs disk;
    int r = 0;

    if (!file || statvfs(file, &disk) < 0)
        r = error_set(error, errno, "%s: %s", path, strerror(errno));
    else if (buffer_print(&log, "%s" SIDE_FILE_LOG, file) < 0)
        r = error_set(error, ENOMEM, "out of memory");
    else
        *ret_usage = (struct store_usage){
            .database_bytes = size_of(file),
            .log_bytes = size_of(log.data),
            .free_bytes = (int64_t)(disk.f_bavail * disk.f_frsize),
            // Without what is kept for root.
            .total_bytes = (int64_t)((disk.f_blocks - disk.f_bfree + disk.f_bavail) * disk.f_frsize),
        };
    buffer_finish(&log);
    free(file);
    return r;
}
