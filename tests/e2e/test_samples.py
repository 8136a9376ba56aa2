"""Sends every file of tests/samples as an operator would: with curl and the output of `sign`."""

import datetime
import subprocess
import time

import pytest

import daemon


@pytest.fixture(scope="module")
def recorded(shared):
    """Sends all samples once. Returns the answers by file name."""
    return {sample.name: send(shared, sample) for sample in sorted(daemon.SAMPLES.iterdir())}


def send(shared, sample):
    signed = daemon.run(daemon.BINARY, "sign", "-c", shared.config).stdout.strip()
    query = (f"SdkAppid={daemon.APP}&CallbackCommand={daemon.COMMAND}&contenttype=json&ClientIP=203.0.113.7"
             f"&OptPlatform=iOS&{signed}")
    answer = shared.curl("-H", "Content-Type: application/json", "--data-binary", f"@{sample}", shared.url(query))
    return answer.check_form()


# The values are group_id, event_time_ms, type, owner, operator, name, member_count and members.
EXPECTED = {
    # The next sample is the same event: it has the same time and the same content.
    "documented.json": ("@TGS#2J4SZEAEL", 1670574414123, "Public", "leckie", "", "MyFirstGroup", 3,
                        ["leckie", "peter", "bob"]),
    "as-documented.txt": ("@TGS#2J4SZEAEL", 1670574414123, "Public", "leckie", "", "MyFirstGroup", 3,
                          ["leckie", "peter", "bob"]),
    "sorted-integer-time.json": ("@TGS#2Z4CLQE5CM", 1682914763569, "Public", "PLNJEE0k", "PLNJEE0k", "test8888", 1,
                                 ["PLNJEE0k"]),
    "community-no-member-list.json": ("@TGS#_@TGS#cQVLVHIM62CJ", 1707300330000, "Community", "leckie", "administrator",
                                      "社区", None, []),
    "old-edition-no-event-time.json": ("22097", None, "ChatRoom", "", "", "r", 0, []),
}


def test_covers_every_sample(recorded):
    assert set(recorded) == set(EXPECTED) | {"topic-destroyed.json"}


@pytest.mark.parametrize("name", EXPECTED)
def test_records_sample(shared, recorded, name):
    group_id, event_time_ms, kind, owner, operator, group_name, member_count, members = EXPECTED[name]
    assert recorded[name].status == 200
    assert recorded[name].text.replace(" ", "") == '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}'
    (row,) = shared.groups(group_id)
    received_at_ms = row.pop("received_at_ms")
    assert time.time() * 1000 - 300_000 < received_at_ms <= time.time() * 1000
    assert row.pop("id") > 0
    # Without an event time, the daemon recognizes a repeat by its body, so it keeps the body.
    assert row.pop("body") == (b"" if event_time_ms else (daemon.SAMPLES / name).read_bytes())
    assert row == {
        "sdk_appid": daemon.APP, "group_id": group_id, "event_time_ms": event_time_ms, "type": kind,
        "owner_account": owner, "operator_account": operator, "name": group_name, "member_count": member_count,
        "opt_platform": "iOS", "client_ip": "203.0.113.7", "remote_address": "127.0.0.1",
    }
    assert shared.members(group_id) == members


def test_positions_start_at_zero(shared, recorded):
    rows = shared.sql("SELECT position FROM destroyed_group_member JOIN destroyed_group ON id = destroyed_group_id "
                      "WHERE group_id = '@TGS#2J4SZEAEL' ORDER BY 1")
    assert [row["position"] for row in rows] == [0, 1, 2]


def test_both_spellings_of_the_documented_sample_are_one_event(shared, recorded):
    assert len(shared.groups("@TGS#2J4SZEAEL")) == 1
    assert shared.rejected() == []


@pytest.mark.parametrize("name", EXPECTED)
def test_records_sample_in_an_empty_database(one, name):
    assert send(one, daemon.SAMPLES / name).status == 200
    assert [row["group_id"] for row in one.groups()] == [EXPECTED[name][0]]
    assert one.members(EXPECTED[name][0]) == EXPECTED[name][7]


def test_refuses_a_destroyed_topic(one):
    sample = daemon.SAMPLES / "topic-destroyed.json"
    # The first request has the command of the sample in the query, as the service sends it. The second one has the
    # command of a destroyed group.
    answer = one.post(sample.read_bytes(), CallbackCommand="Group.CallbackAfterTopicDestroyed")
    assert (answer.status, answer.code) == (400, 120133)
    answer = one.post(sample.read_bytes())
    assert (answer.status, answer.code) == (400, 120134)
    assert one.groups() == [] and one.rejected() == []


def test_log_view_shows_times_as_text(shared, recorded):
    rows = shared.sql("SELECT * FROM destroyed_group_log ORDER BY id")
    assert [list(row) for row in rows] == [[
        "id", "sdk_appid", "group_id", "event_time", "type", "owner_account", "operator_account", "name",
        "member_count", "opt_platform", "client_ip", "remote_address", "received_at", "body"]] * len(rows)
    times = {row["group_id"]: row["event_time"] for row in rows}
    assert times == {"@TGS#2J4SZEAEL": "2022-12-09T08:26:54.123Z", "@TGS#2Z4CLQE5CM": "2023-05-01T04:19:23.569Z",
                     "@TGS#_@TGS#cQVLVHIM62CJ": "2024-02-07T10:05:30.000Z", "22097": None}
    for row in rows:
        received = datetime.datetime.fromisoformat(row["received_at"])
        assert abs(datetime.datetime.now(datetime.timezone.utc) - received) < datetime.timedelta(minutes=5)


def test_schema_is_what_operators_query(shared):
    assert shared.value("PRAGMA user_version") == 1
    tables = {row["name"]: row for row in shared.sql("PRAGMA table_list")}
    for name in ("destroyed_group", "destroyed_group_member", "rejected_callback"):
        assert tables[name]["strict"] == 1
    assert tables["destroyed_group_member"]["wr"] == 1
    columns = {name: [(row["name"], row["type"], row["notnull"]) for row in shared.sql(f"PRAGMA table_info({name})")]
               for name in ("destroyed_group", "destroyed_group_member", "rejected_callback")}
    may_be_null = {"id", "event_time_ms", "member_count", "body"}
    numbers = {"id", "sdk_appid", "event_time_ms", "member_count", "received_at_ms"}
    assert columns["destroyed_group"] == [
        (name, "BLOB" if name == "body" else "INTEGER" if name in numbers else "TEXT", int(name not in may_be_null))
        for name in (*daemon.COLUMNS, "body")]
    assert columns["destroyed_group_member"] == [
        ("destroyed_group_id", "INTEGER", 1), ("position", "INTEGER", 1), ("member_account", "TEXT", 1)]
    assert [name for name, _, _ in columns["rejected_callback"]] == [
        "id", "received_at_ms", "remote_address", "sdk_appid", "callback_command", "reason", "body"]


def test_sqlite3_shell_reads_while_the_daemon_runs(shared, recorded):
    """Queries the view in the default output format of the shell, as an operator does."""
    shown = subprocess.run(
        ["sqlite3", "-readonly", shared.database,
         "SELECT group_id, name, member_count FROM destroyed_group_log WHERE name = 'MyFirstGroup'"],
        capture_output=True, text=True, timeout=30)
    assert shown.stdout == "@TGS#2J4SZEAEL|MyFirstGroup|3\n"
