// Checks with SQLite alone that the database keeps the store's promise: every acknowledged event is in it, completely
// and exactly once, unless the retention may have deleted the event. Any other event is in it completely or not at all.
#pragma once

#include "scenario.h"

// Returns true if the database keeps the promise. Otherwise reports the first problem with scenario_report() and
// returns false. The store may have the database open.
bool verify_database(struct scenario *scenario);
