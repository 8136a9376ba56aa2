// Creates, copies and removes temporary directories, which are in memory if possible: the tests only simulate a power
// failure, so nothing has to reach a disk.
#pragma once

// Creates an empty directory and returns its path. directory_remove removes the directory and frees the path.
char *directory_create(void);

// Removes all files in the directory.
void directory_empty(const char *directory);

// Replaces the files of the target with copies of the source's files. Omits the index of the write-ahead log (-shm),
// because SQLite builds a new one from the log.
void directory_copy(const char *source, const char *target);

void directory_remove(char *directory);
