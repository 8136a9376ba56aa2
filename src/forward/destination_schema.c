#include "destination_schema.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define TRIES        50
#define PAUSE_MAX_MS 200U

// Plain tables, so that every engine that speaks PostgreSQL's protocol takes them. Texts, times and member_count are as
// in the store. There are no foreign keys: both sides of one are written in one transaction, and none is ever deleted.
static const char *const tables_sql[] = {
    "CREATE TABLE IF NOT EXISTS imcallbackd_schema (version bigint PRIMARY KEY, created_at timestamptz NOT NULL)",
    "CREATE TABLE IF NOT EXISTS imcallbackd_cursor ("
    " receiver text NOT NULL, stream text NOT NULL, last_id bigint NOT NULL, last_received_at_ms bigint NOT NULL,"
    " updated_at timestamptz NOT NULL, PRIMARY KEY (receiver, stream))",
    "CREATE TABLE IF NOT EXISTS destroyed_group ("
    " event_uid bytea PRIMARY KEY, receiver text NOT NULL, id bigint NOT NULL, sdk_appid bigint NOT NULL,"
    " group_id text NOT NULL, event_time_ms bigint, type text NOT NULL, owner_account text NOT NULL,"
    " operator_account text NOT NULL, name text NOT NULL, member_count bigint, opt_platform text NOT NULL,"
    " client_ip text NOT NULL, remote_address text NOT NULL, received_at_ms bigint NOT NULL, body bytea,"
    " forwarded_at timestamptz NOT NULL)",
    // By which a batch finds what is its own, and an operator what a receiver has recorded.
    "CREATE INDEX IF NOT EXISTS destroyed_group_receiver ON destroyed_group (receiver, id)",
    "CREATE TABLE IF NOT EXISTS destroyed_group_member ("
    " event_uid bytea NOT NULL, position bigint NOT NULL, member_account text NOT NULL,"
    " PRIMARY KEY (event_uid, position))",
    "CREATE TABLE IF NOT EXISTS rejected_callback ("
    " callback_uid bytea PRIMARY KEY, receiver text NOT NULL, id bigint NOT NULL, received_at_ms bigint NOT NULL,"
    " remote_address text NOT NULL, sdk_appid bigint NOT NULL, callback_command text NOT NULL, reason text NOT NULL,"
    " body bytea NOT NULL, forwarded_at timestamptz NOT NULL)",
    // Last, because it says that all others are there.
    "INSERT INTO imcallbackd_schema (version, created_at) VALUES (1, now()) ON CONFLICT (version) DO NOTHING",
};

// *ret_version: 0 when there is none yet.
static int read_version(struct destination *destination, int64_t *ret_version, struct error *error)
{
    PGresult *result = NULL;
    int r = destination_query(destination, "SELECT coalesce(max(version), 0) FROM imcallbackd_schema", NULL, &result,
                              error);

    *ret_version = 0;
    if (r == -EPROTO && strcmp(destination->sqlstate, "42P01") == 0)
        return 0; // there is no such table
    if (r < 0)
        return r;
    *ret_version = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    if (*ret_version <= SCHEMA_VERSION_THERE)
        return 0;
    return error_set(
        error, EINVAL,
        "the tables in the destination have version %lld, but this imcallbackd supports only version %d: a "
        "newer imcallbackd created them; install that version. Nothing was changed",
        (long long)*ret_version, SCHEMA_VERSION_THERE);
}

// IF NOT EXISTS does not keep two that come at the same instant apart: the later one is told of a key or a name that is
// there already, and finds all well when it looks again.
static bool was_beside_another(const struct destination *destination)
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
    int r = destination_query(destination, sql, NULL, NULL, error);

    for (int tries = 1; r < 0 && tries < TRIES && was_beside_another(destination); tries++) {
        (void)poll(NULL, 0, (int)((unsigned int)random() % PAUSE_MAX_MS));
        r = destination_query(destination, sql, NULL, NULL, error);
    }
    if (r < 0)
        error_wrap(error, "the tables cannot be created in the destination");
    return r;
}

int schema_prepare(struct destination *destination, struct error *error)
{
    int64_t version;
    int r = read_version(destination, &version, error);

    for (size_t i = 0; i < sizeof tables_sql / sizeof tables_sql[0] && r == 0 && version < SCHEMA_VERSION_THERE; i++)
        r = create(destination, tables_sql[i], error);
    return r;
}

int schema_look(struct destination *destination, struct error *error)
{
    int64_t version;

    return read_version(destination, &version, error);
}
