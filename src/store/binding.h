// Prepared statements and the binding of their parameters.
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

// Expands a macro that is a number into SQL text.
#define SQL_NUMBER(macro)   SQL_NUMBER_(macro)
#define SQL_NUMBER_(number) #number

// Prepares each of the texts for frequent use. The caller passes statements that are all NULL, and finalizes them even
// after a failure. Returns SQLite's result code.
int statements_prepare(sqlite3 *connection, const char *const *sql, sqlite3_stmt **statements, size_t count);
void statements_finalize(sqlite3_stmt **statements, size_t count); // sets the statements to NULL

// Runs a query once, and copies the first column of the first row to ret_text, truncated to fit into `size` bytes. If
// the query fails, returns no row or returns NULL, ret_text becomes "". Returns SQLite's result code.
int query_text(sqlite3 *connection, const char *sql, char *ret_text, size_t size);

// Binds the parameters of one statement in their order. After a failure the remaining calls do nothing, so only
// bind_end has to be checked. Values are not copied and must live until bind_end.
struct binding {
    sqlite3_stmt *statement;
    int index; // index of the last bound parameter; SQLite counts from 1
    int code;  // SQLite's extended result code
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

// Returns SQLITE_ROW for each row. After any other code, no more rows follow. The caller must always call bind_end
// afterwards.
int bind_step(const struct binding *binding);

// Resets the statement. Returns SQLITE_OK, or the first failure of binding or stepping.
int bind_end(const struct binding *binding);

// Steps and ends a statement that returns no rows.
int bind_run(const struct binding *binding);
