// Creates the tables and recognizes a database of imcallbackd. The SQL is in schema.c; operators see the SQL with
// `.schema`. Errors do not name the path.
#pragma once

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

#define SCHEMA_VERSION 1 // PRAGMA user_version

// Only reads. Sets *ret_version to the version that schema_upgrade has to start from, which is 0 if the database is
// empty. Returns 0, -EINVAL for a database of another program or of a newer version, or the -errno of sqlite_error if
// the database cannot be read.
int schema_inspect(sqlite3 *connection, int *ret_version, struct error *error) MUST_CHECK;

// Upgrades from the version to SCHEMA_VERSION in one transaction, or changes nothing. Does nothing if the version is
// current.
int schema_upgrade(sqlite3 *connection, int version, struct error *error) MUST_CHECK;
