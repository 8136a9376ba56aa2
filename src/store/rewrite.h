// Makes sure of bytes that one has read.
#pragma once

#include "imcallbackd/base/error.h"

// Writes a file's bytes over themselves and syncs them. After a failed fsync the system takes pages for clean that
// never reached the disk: they can be read, and are gone with the next loss of power. A file that does not exist is
// well. Nobody else may write to it meanwhile. The error names the path.
int rewrite_file(const char *path, struct error *error) MUST_CHECK;
