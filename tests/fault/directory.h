// Directories for a test alone; in memory where that is possible, as nobody here loses power.
#pragma once

// Made once; removed with directory_remove. The caller frees it.
char *directory_create(void);

// Removes the files in it.
void directory_empty(const char *directory);

// Empties the target, and copies the files but for the index of the log, which no end of a process leaves in order.
void directory_copy(const char *source, const char *target);

void directory_remove(char *directory);
