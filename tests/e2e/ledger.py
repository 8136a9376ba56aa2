"""Compares the acknowledged events with the database: each must occur once, with all its members in order."""

import sqlite3

ROWS = """
SELECT g.group_id, g.id, g.member_count, count(m.position), coalesce(max(m.position), -1) + 1
FROM destroyed_group g LEFT JOIN destroyed_group_member m ON m.destroyed_group_id = g.id WHERE {} ? GROUP BY g.id"""
NEW_ROWS, ROWS_OF_GROUP = ROWS.format("g.id >"), ROWS.format("g.group_id =")

# Selects the groups whose fields or members differ from what the load generator sent. The event's number is at the end
# of the group's id.
WRONG_CONTENT = """
WITH sent AS (
    SELECT *, CAST(replace(group_id, rtrim(group_id, '0123456789'), '') AS INTEGER) AS event FROM destroyed_group
    WHERE id > ? AND group_id LIKE 'load-%')
SELECT group_id FROM sent
WHERE event_time_ms <> 1700000000000 + event OR name <> 'load' OR owner_account <> 'owner'
    OR operator_account <> 'administrator' OR type <> 'Public'
UNION SELECT group_id FROM sent JOIN destroyed_group_member ON destroyed_group_id = id
WHERE member_account <> 'member-' || event || '-' || position"""


class Ledger:
    """Checks the recorded events of one daemon. Each check starts after the last event of the previous check."""

    def __init__(self, one):
        self.one = one
        self.last_id = 0
        self.checked = 0

    def _query(self, sql, *values):
        connection = sqlite3.connect(f"file:{self.one.database}?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def check(self, acknowledged):
        """Checks the events since the last check. acknowledged: {group id: number of members}.

        Events that were recorded without being acknowledged must be complete, too.
        """
        assert self._query(WRONG_CONTENT, self.last_id) == []
        rows = self._query(NEW_ROWS, self.last_id)
        for group_id, row_id, member_count, members, positions in rows:
            assert members == positions == (member_count or 0), f"{group_id} is recorded in part"
            self.last_id = max(self.last_id, row_id)
        there = {group_id: members for group_id, _, _, members, _ in rows}
        assert len(there) == len(rows), "an event is recorded twice"
        for group_id in acknowledged.keys() - there.keys():  # repeats of events from an earlier check
            ((_, _, _, there[group_id], _),) = self._query(ROWS_OF_GROUP, group_id) or [(None,) * 5]
        lost = {group_id for group_id, members in acknowledged.items() if there.get(group_id) != members}
        assert not lost, f"{len(lost)} acknowledged events are missing or differ, such as {sorted(lost)[:3]}"
        self.checked += len(acknowledged)

    def check_file(self):
        assert self._query("PRAGMA integrity_check") == [("ok",)]
        assert self._query("SELECT count(*) FROM destroyed_group_member WHERE destroyed_group_id NOT IN "
                           "(SELECT id FROM destroyed_group)") == [(0,)]
