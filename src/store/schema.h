// The tables, and what tells our database from others. The SQL is in schema.c; operators see it with `.schema`.
#pragma once

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

#define SCHEMA_VERSION 1 // PRAGMA user_version

// Only reads. *ret_version: what schema_upgrade has to begin with; 0: there is nothing in it yet. A database of another
// program or of a newer version is an error. Errors of both functions do not name the path.
int schema_inspect(sqlite3 *connection, int *ret_version, struct error *error) MUST_CHECK;

// From the version to SCHEMA_VERSION, in one transaction, all or nothing. Does nothing when it is there already.
int schema_upgrade(sqlite3 *connection, int version, struct error *error) MUST_CHECK;
