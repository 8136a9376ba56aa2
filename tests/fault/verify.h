// Looks with SQLite alone whether a database keeps the promise: what was answered OK/0 is there, whole and once, and
// nothing of anything else is there in part.
#pragma once

#include "scenario.h"

// False with a complaint. The store may have the database open.
bool verify_database(struct scenario *scenario);
