-- A database as the first release (user_version 1) created it, with one event, its members and one rejected callback.
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE destroyed_group (
    -- One row for each event Group.CallbackAfterGroupDestroyed. Text that did not come is ''.
    -- Times are milliseconds since 1970 in UTC; the view destroyed_group_log shows them as text.
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of recording, never used again
    sdk_appid INTEGER NOT NULL,
    group_id TEXT NOT NULL, -- used anew by the service once the group is gone
    event_time_ms INTEGER, -- NULL: did not come
    type TEXT NOT NULL,
    owner_account TEXT NOT NULL,
    operator_account TEXT NOT NULL,
    name TEXT NOT NULL,
    member_count INTEGER, -- NULL: no list came, as for communities; 0: an empty one
    opt_platform TEXT NOT NULL,
    client_ip TEXT NOT NULL, -- as the caller says
    remote_address TEXT NOT NULL, -- as we saw it
    received_at_ms INTEGER NOT NULL,
    body BLOB -- the bytes as they came; NULL: not kept
) STRICT;
CREATE UNIQUE INDEX destroyed_group_identity ON destroyed_group (sdk_appid, event_time_ms, group_id);
CREATE TABLE destroyed_group_member (
    destroyed_group_id INTEGER NOT NULL, -- destroyed_group.id
    position INTEGER NOT NULL, -- in MemberList, from 0
    member_account TEXT NOT NULL,
    PRIMARY KEY (destroyed_group_id, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE rejected_callback (
    -- Genuine callbacks that were not understood or contradict a recorded event. Bounded: the oldest go first.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at_ms INTEGER NOT NULL,
    remote_address TEXT NOT NULL,
    sdk_appid INTEGER NOT NULL,
    callback_command TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL -- the bytes as they came
) STRICT;
CREATE VIEW destroyed_group_log AS SELECT
    id, sdk_appid, group_id,
    strftime('%Y-%m-%dT%H:%M:%fZ', event_time_ms / 1000.0, 'unixepoch') AS event_time,
    type, owner_account, operator_account, name, member_count, opt_platform, client_ip, remote_address,
    strftime('%Y-%m-%dT%H:%M:%fZ', received_at_ms / 1000.0, 'unixepoch') AS received_at,
    body
FROM destroyed_group;
INSERT INTO destroyed_group VALUES (7, 1400000000, '@TGS#first', 1670574414123, 'Public', 'leckie', 'admin', 'group', 2,
    'RESTAPI', '198.51.100.7', '192.0.2.1', 1670574414200, NULL);
INSERT INTO destroyed_group_member VALUES (7, 0, 'jared'), (7, 1, 'tom');
INSERT INTO rejected_callback VALUES (3, 1670574414201, '192.0.2.1', 1400000000, 'Group.CallbackAfterGroupDestroyed',
    'GroupId is missing', CAST('{}' AS BLOB));
PRAGMA user_version = 1;
COMMIT;
