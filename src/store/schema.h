// The tables, and what tells our database from others. The SQL is in schema.c; operators see it with `.schema`.
#pragma once

#include <stdbool.h>

#include "imcallbackd/base/error.h"

#include <sqlite3.h>

#define SCHEMA_VERSION 1 // PRAGMA user_version

// Only reads. *ret_empty: there is nothing in it yet, schema_create may follow. A database of another program or of a
// newer version is an error.
int schema_inspect(sqlite3 *db, bool *ret_empty, struct error *error) MUST_CHECK;

// In one transaction, all or nothing.
int schema_create(sqlite3 *db, struct error *error) MUST_CHECK;
