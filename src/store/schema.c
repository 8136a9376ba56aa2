// Contains the SQL of all versions of the schema. A step that upgrades one version to the next must never change once
// it has been released.
#include "schema.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

#include "sqlite_error.h"
#include "wal_buffer.h"

// SQLite keeps the text of each CREATE statement, so the comments inside it are for readers of `.schema`.
//
// The index of the identity sorts the events of an app by their time, so that new entries usually go to the end of the
// app's part. The index does not make events without a time unique, because a unique index treats every NULL as
// different. member_account deliberately has no index, because an index would make recording ten times slower.
static const char first_sql[] =
    "CREATE TABLE destroyed_group (\n"
    "    -- One row for each event Group.CallbackAfterGroupDestroyed. Text that was absent is ''.\n"
    "    -- Times are milliseconds since 1970 in UTC; the view destroyed_group_log shows them as text.\n"
    "    id INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of recording, never reused\n"
    "    sdk_appid INTEGER NOT NULL,\n"
    "    group_id TEXT NOT NULL, -- the service may reuse it after the group is destroyed\n"
    "    event_time_ms INTEGER, -- NULL: absent\n"
    "    type TEXT NOT NULL,\n"
    "    owner_account TEXT NOT NULL,\n"
    "    operator_account TEXT NOT NULL,\n"
    "    name TEXT NOT NULL,\n"
    "    member_count INTEGER, -- NULL: no list, as for communities; 0: an empty list\n"
    "    opt_platform TEXT NOT NULL,\n"
    "    client_ip TEXT NOT NULL, -- as the caller claims\n"
    "    remote_address TEXT NOT NULL, -- as the daemon saw it\n"
    "    received_at_ms INTEGER NOT NULL,\n"
    "    body BLOB -- the received bytes; NULL: not kept\n"
    ") STRICT;\n"
    "CREATE UNIQUE INDEX destroyed_group_identity ON destroyed_group (sdk_appid, event_time_ms, group_id);\n"
    "CREATE TABLE destroyed_group_member (\n"
    "    destroyed_group_id INTEGER NOT NULL, -- destroyed_group.id\n"
    "    position INTEGER NOT NULL, -- in MemberList, counted from 0\n"
    "    member_account TEXT NOT NULL,\n"
    "    PRIMARY KEY (destroyed_group_id, position)\n"
    ") STRICT, WITHOUT ROWID;\n"
    "CREATE TABLE rejected_callback (\n"
    "    -- Genuine callbacks that could not be parsed or that contradict a recorded event. Bounded: the oldest are "
    "dropped.\n"
    "    id INTEGER PRIMARY KEY AUTOINCREMENT,\n"
    "    received_at_ms INTEGER NOT NULL,\n"
    "    remote_address TEXT NOT NULL,\n"
    "    sdk_appid INTEGER NOT NULL,\n"
    "    callback_command TEXT NOT NULL,\n"
    "    reason TEXT NOT NULL,\n"
    "    body BLOB NOT NULL -- the received bytes\n"
    ") STRICT;\n"
    "CREATE VIEW destroyed_group_log AS SELECT\n"
    "    id, sdk_appid, group_id,\n"
    "    strftime('%Y-%m-%dT%H:%M:%fZ', event_time_ms / 1000.0, 'unixepoch') AS event_time,\n"
    "    type, owner_account, operator_account, name, member_count, opt_platform, client_ip, remote_address,\n"
    "    strftime('%Y-%m-%dT%H:%M:%fZ', received_at_ms / 1000.0, 'unixepoch') AS received_at,\n"
    "    body\n"
    "FROM destroyed_group;\n"
    "PRAGMA user_version = 1;\n";

// steps[N] upgrades version N to version N + 1 and sets user_version.
static const char *const steps[SCHEMA_VERSION] = {first_sql};

static const char inspect_sql[] =
    "SELECT (SELECT user_version FROM pragma_user_version), count(*), count(*) FILTER (WHERE name IN ("
    "'destroyed_group', 'destroyed_group_identity', 'destroyed_group_member', 'rejected_callback', "
    "'destroyed_group_log')) FROM sqlite_schema";

static const int our_object_count = 5;

int schema_inspect(sqlite3 *connection, int *ret_version, struct error *error)
{
    int version, objects, ours;
    sqlite3_stmt *statement;

    if (sqlite3_prepare_v2(connection, inspect_sql, -1, &statement, NULL) != SQLITE_OK)
        return sqlite_error(connection, error);
    if (sqlite3_step(statement) != SQLITE_ROW) {
        (void)sqlite3_finalize(statement);
        return sqlite_error(connection, error);
    }
    version = sqlite3_column_int(statement, 0);
    objects = sqlite3_column_int(statement, 1);
    ours = sqlite3_column_int(statement, 2);
    (void)sqlite3_finalize(statement);
    *ret_version = version;
    if ((version == 0 && objects == 0) || (version == SCHEMA_VERSION && ours == our_object_count))
        return 0;
    if (version > SCHEMA_VERSION)
        return error_set(
            error, EINVAL,
            "its user_version %d is newer than %d, the newest version that this imcallbackd supports; install the "
            "newer imcallbackd or set another path (nothing was changed)",
            version, SCHEMA_VERSION);
    return error_set(error, EINVAL,
                     "it belongs to another program (user_version %d; %d of %d tables, indexes and views are those of "
                     "imcallbackd); set another path (nothing was changed)",
                     version, ours, objects);
}

int schema_upgrade(sqlite3 *connection, int version, struct error *error)
{
    int code, r;

    assert(version >= 0 && version <= SCHEMA_VERSION);
    if (version == SCHEMA_VERSION)
        return 0;
    code = sqlite3_exec(connection, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (; version < SCHEMA_VERSION && code == SQLITE_OK; version++)
        code = sqlite3_exec(connection, steps[version], NULL, NULL, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_exec(connection, "COMMIT", NULL, NULL, NULL);
    if (code == SQLITE_OK)
        return 0;
    r = sqlite_error(connection, error);
    (void)sqlite3_exec(connection, "ROLLBACK", NULL, NULL, NULL);
    wal_buffer_discard(connection);
    return r;
}
