// Examines the files of a database by name. No function in this file allocates memory, so that running out of memory
// never looks like a missing file.
#include "database_files.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>

static const char *const suffixes[] = {"", SIDE_FILE_LOG, SIDE_FILE_INDEX};

bool side_file_status(const char *database, const char *suffix, struct stat *ret_status)
{
    char name[PATH_MAX];

    return snprintf(name, sizeof name, "%s%s", database, suffix) < (int)sizeof name && stat(name, ret_status) == 0;
}

int side_file_check(const char *database, const char *suffix, struct error *error)
{
    struct stat status;

    if (!side_file_status(database, suffix, &status) || S_ISREG(status.st_mode))
        return 0;
    return error_set(error, EINVAL, "%s%s: not a regular file; remove it", database, suffix);
}

void database_files_record(struct database_files *files, const char *database)
{
    struct stat status;

    *files = (struct database_files){0};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        if (!side_file_status(database, suffixes[i], &status))
            continue;
        if (i == 0)
            files->device = status.st_dev;
        files->inodes[i] = status.st_ino;
    }
}

enum database_files_state database_files_check(const struct database_files *files, const char *database)
{
    struct database_files found;

    database_files_record(&found, database);
    if (found.device != files->device || found.inodes[0] != files->inodes[0])
        return DATABASE_FILES_REPLACED;
    return found.inodes[1] == files->inodes[1] && found.inodes[2] == files->inodes[2] ? DATABASE_FILES_CURRENT
                                                                                      : DATABASE_FILES_OUTDATED;
}
