// Creates and checks the tables in the destination. The errors are those of destination.h, and -EINVAL if the tables
// have a newer version.
#pragma once

#include "destination.h"

#define DESTINATION_SCHEMA_VERSION 1

// Creates the missing tables. Several forwarders may call this function at the same time. If every table exists, the
// function needs no privilege to create tables. Leaves tables of a newer version unchanged and returns -EINVAL.
int schema_prepare(struct destination *destination, struct error *error) MUST_CHECK;

// Checks the version like schema_prepare, but creates nothing.
int schema_check(struct destination *destination, struct error *error) MUST_CHECK;
