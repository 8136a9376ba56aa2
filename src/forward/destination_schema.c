// Creates the tables in the destination. The tables are a contract with the operator's own queries, and every engine in
// imcallbackd-forward(8) has to accept the statements. A change needs a new version and a step that upgrades old
// tables.
#include "destination_schema.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "imcallbackd/store/columns.h"

#define ATTEMPTS     50
#define PAUSE_MAX_MS 200U

#define SQL_INTEGER                             "bigint"
#define SQL_TEXT                                "text"
#define SQL_BYTES                               "bytea"
#define REQUIRED_COLUMN(name, type, part)       ", " #name " " SQL_##type " NOT NULL"
#define OPTIONAL_COLUMN(name, type, part, flag) ", " #name " " SQL_##type

// These are plain tables, so that every engine in imcallbackd-forward(8) accepts them. The values are those of the
// store. Foreign keys are not needed: one transaction writes the rows on both sides of a reference, and imcallbackd
// never deletes rows.
static const char *const tables_sql[] = {
    "CREATE TABLE IF NOT EXISTS imcallbackd_schema (version bigint PRIMARY KEY, created_at timestamptz NOT NULL)",
    "CREATE TABLE IF NOT EXISTS imcallbackd_cursor ("
    " receiver text NOT NULL, stream text NOT NULL, last_id bigint NOT NULL, last_received_at_ms bigint NOT NULL,"
    " updated_at timestamptz NOT NULL, PRIMARY KEY (receiver, stream))",
    "CREATE TABLE IF NOT EXISTS destroyed_group (event_uid bytea PRIMARY KEY, receiver text NOT NULL, id bigint NOT "
    "NULL" DESTROYED_GROUP_COLUMNS(REQUIRED_COLUMN, OPTIONAL_COLUMN) ", forwarded_at timestamptz NOT NULL)",
    // The statement that inserts members finds the events of its batch through this index. The index also serves an
    // operator's queries for the rows of one receiver.
    "CREATE INDEX IF NOT EXISTS destroyed_group_receiver ON destroyed_group (receiver, id)",
    "CREATE TABLE IF NOT EXISTS destroyed_group_member ("
    " event_uid bytea NOT NULL, position bigint NOT NULL, member_account text NOT NULL,"
    " PRIMARY KEY (event_uid, position))",
    "CREATE TABLE IF NOT EXISTS rejected_callback ("
    "callback_uid bytea PRIMARY KEY, receiver text NOT NULL, id bigint NOT NULL" REJECTED_CALLBACK_COLUMNS(
        REQUIRED_COLUMN) ", forwarded_at timestamptz NOT NULL)",
    // The version is inserted last, because its row shows that all tables exist.
    "INSERT INTO imcallbackd_schema (version, created_at) VALUES (1, now()) ON CONFLICT (version) DO NOTHING",
};

// Sets *ret_version to the version of the tables, or to 0 if not all tables exist yet. Returns -EINVAL if the version
// is newer than DESTINATION_SCHEMA_VERSION.
static int read_version(struct destination *destination, int64_t *ret_version, struct error *error)
{
    PGresult *result = NULL;
    int r = destination_query(destination, "SELECT coalesce(max(version), 0) FROM imcallbackd_schema", NULL, 1, &result,
                              error);

    *ret_version = 0;
    if (r == -EPROTO && strcmp(destination->sqlstate, "42P01") == 0)
        return 0; // undefined_table
    if (r < 0)
        return r;
    if (PQntuples(result) > 0)
        *ret_version = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    if (*ret_version <= DESTINATION_SCHEMA_VERSION)
        return 0;
    return error_set(
        error, EINVAL,
        "the tables in the destination have version %lld, but this imcallbackd supports only version %d: a "
        "newer imcallbackd created them; install that version. Nothing was changed",
        (long long)*ret_version, DESTINATION_SCHEMA_VERSION);
}

// Despite IF NOT EXISTS, two forwarders that create the same table at the same time can conflict. One of them then
// fails, for example with a duplicate key or name, and can succeed when it tries again.
static bool lost_creation_race(const struct destination *destination)
{
    static const char *const codes[] = {"23505", "42P07", "42710", "40001", "40P01", "XX000"};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(destination->sqlstate, codes[i]) == 0)
            return true;
    }
    return false;
}

static int create(struct destination *destination, const char *sql, struct error *error)
{
    int r = destination_query(destination, sql, NULL, 0, NULL, error);

    for (int attempts = 1; r < 0 && attempts < ATTEMPTS && lost_creation_race(destination); attempts++) {
        (void)poll(NULL, 0, (int)((unsigned int)random() % PAUSE_MAX_MS));
        r = destination_query(destination, sql, NULL, 0, NULL, error);
    }
    if (r < 0)
        error_wrap(error, "the tables cannot be created in the destination");
    return r;
}

int schema_prepare(struct destination *destination, struct error *error)
{
    int64_t version;
    int r = read_version(destination, &version, error);

    assert(r < 0 || version <= DESTINATION_SCHEMA_VERSION);
    for (size_t i = 0; i < sizeof tables_sql / sizeof tables_sql[0] && r == 0 && version < DESTINATION_SCHEMA_VERSION;
         i++)
        r = create(destination, tables_sql[i], error);
    return r;
}

int schema_check(struct destination *destination, struct error *error)
{
    int64_t version;

    return read_version(destination, &version, error);
}
