// A process that reads the database and outlives the lives of the store, as the forwarder or a followed export does.
// While it is connected SQLite keeps the index of the log as it is.
#pragma once

#include <stdbool.h>

// Returns the descriptor that stands for it, which processes that are forked from now on can use.
int onlooker_start(const char *database);

// '(': it begins to read, and from then on sees nothing new; ')': no longer, but it stays connected. Waits until it is
// so. False: SQLite does not let it.
bool onlooker_tell(int onlooker, char sign);

void onlooker_stop(int onlooker);
