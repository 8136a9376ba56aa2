// bind_text, bind_int, bind_null and bind_bytes increment binding->index and bind the parameter that then has this
// index. After a failure they do nothing.
#include "binding.h"

#include <stdio.h>

int statements_prepare(sqlite3 *connection, const char *const *sql, sqlite3_stmt **statements, size_t count)
{
    int code = SQLITE_OK;

    for (size_t i = 0; i < count && code == SQLITE_OK; i++) {
        assert(sql[i] && !statements[i]);
        code = sqlite3_prepare_v3(connection, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &statements[i], NULL);
    }
    return code;
}

void statements_finalize(sqlite3_stmt **statements, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)sqlite3_finalize(statements[i]);
        statements[i] = NULL;
    }
}

int query_text(sqlite3 *connection, const char *sql, char *ret_text, size_t size)
{
    sqlite3_stmt *statement;
    int code = sqlite3_prepare_v2(connection, sql, -1, &statement, NULL);
    const unsigned char *text = NULL;

    if (code == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
        text = sqlite3_column_text(statement, 0);
    (void)snprintf(ret_text, size, "%s", text ? (const char *)text : "");
    return code == SQLITE_OK ? sqlite3_finalize(statement) : code;
}

void bind_text(struct binding *binding, const char *text)
{
    if (binding->code == SQLITE_OK)
        binding->code = sqlite3_bind_text(binding->statement, ++binding->index, text, -1, SQLITE_STATIC);
}

void bind_int(struct binding *binding, int64_t value)
{
    if (binding->code == SQLITE_OK)
        binding->code = sqlite3_bind_int64(binding->statement, ++binding->index, value);
}

void bind_null(struct binding *binding)
{
    if (binding->code == SQLITE_OK)
        binding->code = sqlite3_bind_null(binding->statement, ++binding->index);
}

void bind_bytes(struct binding *binding, const char *data, size_t length)
{
    if (binding->code == SQLITE_OK)
        binding->code =
            sqlite3_bind_blob64(binding->statement, ++binding->index, length > 0 ? data : "", length, SQLITE_STATIC);
}

int bind_step(const struct binding *binding)
{
    return binding->code == SQLITE_OK ? sqlite3_step(binding->statement) : binding->code;
}

int bind_end(const struct binding *binding)
{
    int code = sqlite3_reset(binding->statement); // returns the failure of the last step

    return binding->code == SQLITE_OK ? code : binding->code;
}

int bind_run(const struct binding *binding)
{
    (void)bind_step(binding);
    return bind_end(binding);
}
