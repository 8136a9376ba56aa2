// The tables in the destination. Errors are those of destination.h; -EINVAL: the tables are of a newer version.
#pragma once

#include "destination.h"

#define SCHEMA_VERSION_THERE 1

// Makes what is missing. Safe beside others that do the same, and with nothing to make needs no right to make anything.
// Tables of a newer version are refused and stay as they are.
int schema_prepare(struct destination *destination, struct error *error) MUST_CHECK;

// What schema_prepare would say, without making anything.
int schema_look(struct destination *destination, struct error *error) MUST_CHECK;
