// Temporary directories. The directories are in memory if possible, because the tests only simulate a power failure.
#pragma once

// Creates a directory. directory_remove removes it and frees its path.
char *directory_create(void);

// Removes all files in the directory.
void directory_empty(const char *directory);

// Replaces the files of the target with copies of the source's files. Omits the index of the write-ahead log, which is
// not consistent after a process has ended.
void directory_copy(const char *source, const char *target);

void directory_remove(char *directory);
