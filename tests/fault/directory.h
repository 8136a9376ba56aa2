// Temporary directories. They are in memory if possible, because the tests only simulate a loss of power.
#pragma once

// Creates a directory. directory_remove removes it and frees its path.
char *directory_create(void);

// Removes all files in the directory.
void directory_empty(const char *directory);

// Replaces the files of the target by copies of the source's, except for the index of the write-ahead log, which is not
// consistent after the end of a process.
void directory_copy(const char *source, const char *target);

void directory_remove(char *directory);
