// Prepares statements, binds their parameters and runs them.
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

// Expands a macro whose value is a number into SQL text.
#define SQL_NUMBER(macro)   SQL_NUMBER_(macro)
#define SQL_NUMBER_(number) #number

// Prepares `count` SQL texts for frequent use. All statements must be NULL before the call. The caller finalizes the
// statements even after a failure. Returns SQLITE_OK, or the result code of the first failure.
int statements_prepare(sqlite3 *connection, const char *const *sql, sqlite3_stmt **statements, size_t count);
void statements_finalize(sqlite3_stmt **statements, size_t count); // sets the statements to NULL

// Runs a query once, and copies the first column of the first row to ret_text, truncated to fit into `size` bytes. If
// the query fails, returns no row or returns NULL, ret_text becomes "". Returns SQLITE_OK, even if there is no row, or
// the result code of the failure.
int query_text(sqlite3 *connection, const char *sql, char *ret_text, size_t size);

// Binds the parameters of one statement in their order. After a failed bind, the following bind functions and bind_step
// do nothing, so only the result of bind_end has to be checked. Text and bytes are not copied and must live until
// bind_end.
struct binding {
    sqlite3_stmt *statement;
    int index; // index of the last bound parameter; SQLite counts from 1
    int code;  // SQLITE_OK, or SQLite's extended result code of the first failed bind
};

static inline struct binding bind_begin(sqlite3_stmt *statement)
{
    assert(statement);
    return (struct binding){.statement = statement, .code = SQLITE_OK};
}

void bind_text(struct binding *binding, const char *text);
void bind_int(struct binding *binding, int64_t value);
void bind_null(struct binding *binding);
void bind_bytes(struct binding *binding, const char *data, size_t length); // length 0 binds an empty BLOB

// Steps the statement. Returns SQLITE_ROW for each row. After any other code, no more rows follow. The caller must call
// bind_end after the last step, even after a failure.
int bind_step(const struct binding *binding);

// Resets the statement. Returns SQLITE_OK, or the result code of the first failed bind or of the failed step.
int bind_end(const struct binding *binding);

// Runs a statement that returns no rows: calls bind_step once, and returns the result of bind_end.
int bind_run(const struct binding *binding);
