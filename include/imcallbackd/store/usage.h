// How much room the store takes, and how much is left where it lies.
#pragma once

#include <stdint.h>

#include "imcallbackd/base/error.h"

// With less than this left, the next callback may not fit.
#define STORE_LEAST_FREE_BYTES (INT64_C(64) << 10)

struct store_usage {
    int64_t database_bytes;
    int64_t log_bytes;   // of the write-ahead log; 0 when there is none
    int64_t free_bytes;  // that the daemon may still use on the file system of the database
    int64_t total_bytes; // that it could use, if nobody used any
};

// path: of the database. Reads no content, needs no lock. -errno when the file system cannot be asked.
int store_measure(const char *path, struct store_usage *ret_usage, struct error *error) MUST_CHECK;
