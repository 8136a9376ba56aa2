// Checks, using SQLite alone, that a database keeps the store's promise: every acknowledged event is there, whole and
// once, and no other event is there in part.
#pragma once

#include "scenario.h"

// Returns false after reporting what is wrong. The store may have the database open.
bool verify_database(struct scenario *scenario);
