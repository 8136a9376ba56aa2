// Prepared statements, and the parameters of one of them.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

// The number that a macro stands for, in SQL text.
#define SQL_NUMBER(macro)   SQL_NUMBER_(macro)
#define SQL_NUMBER_(number) #number

// Prepares each of the texts, to be used again and again; the statements are NULL before. Returns SQLite's code. After
// a failure they are to be finalized, too.
int statements_prepare(sqlite3 *connection, const char *const *sql, sqlite3_stmt **statements, size_t count);
void statements_finalize(sqlite3_stmt **statements, size_t count); // leaves them NULL

// Parameters of a statement, bound one after the other. After a failure the rest is skipped, so only the end asks.
// Values are not copied: they must outlive the steps, which is all that SQLite needs.
struct binding {
    sqlite3_stmt *statement;
    int index; // of the last one that was bound; SQLite counts from 1
    int code;  // SQLite's, extended
};

static inline struct binding bind_begin(sqlite3_stmt *statement)
{
    return (struct binding){.statement = statement, .code = SQLITE_OK};
}

void bind_text(struct binding *binding, const char *text);
void bind_int(struct binding *binding, int64_t value);
void bind_null(struct binding *binding);
void bind_bytes(struct binding *binding, const char *data, size_t length); // none of them is not NULL but ''

// SQLITE_ROW for each row, if all was bound. Whatever else comes, bind_end follows.
int bind_step(const struct binding *binding);

// Makes the statement free again. SQLITE_OK, or what went wrong in binding or stepping.
int bind_end(const struct binding *binding);

// Both, for statements that give no row.
int bind_run(const struct binding *binding);
