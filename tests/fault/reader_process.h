// A process that reads the database and outlives the store, as the forwarder or a following export does. As long as the
// process is connected, SQLite keeps the index of the write-ahead log.
#pragma once

#include <stdbool.h>

// Returns a descriptor for the process. Processes that are forked later can use the descriptor, too.
int reader_process_start(const char *database);

// '(' starts a read transaction, which from then on sees no changes; ')' ends it, but the process stays connected.
// Waits for the process. Returns false if SQLite refuses.
bool reader_process_send(int fd, char sign);

void reader_process_stop(int fd);
