// Runs a process that reads the database and outlives the store, as the forwarder and `export --follow` do. As long as
// the process has the database open, SQLite keeps the index of the write-ahead log.
#pragma once

#include <stdbool.h>

// Starts the process and returns a descriptor for the functions below. The process opens the database at the first
// command. Processes that are forked later can use the descriptor, too.
int reader_process_start(const char *database);

// Sends the character and waits until the process has acted on it: '(' starts a read transaction, which sees no later
// changes, and ')' ends the transaction without disconnecting. Returns false if SQLite reports an error or the process
// has ended.
bool reader_process_send(int fd, char sign);

void reader_process_stop(int fd);
