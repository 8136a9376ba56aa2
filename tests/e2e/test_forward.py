"""Tests that `forward` ships every recorded row into PostgreSQL exactly once, and that --verify finds what differs from
the store."""

import hashlib
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest

import daemon
import postgres
from daemon import BINARY, COLUMNS, event
from documents import example
from monitoring import ask, metrics
from postgres import has_rows, ship_to, shipping_daemon, verify

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")


def shipped_groups(server):
    """Returns the rows of destroyed_group in the destination, in the form of Daemon.groups()."""
    rows = server.sql(f"SELECT {', '.join(COLUMNS)}, encode(body, 'hex') AS body FROM destroyed_group ORDER BY id")
    return [row | {"body": bytes.fromhex(row["body"] or "")} for row in rows]


def shipped_members(server, group_id):
    return [row["member_account"] for row in server.sql(
        f"SELECT member_account FROM destroyed_group JOIN destroyed_group_member USING (event_uid) "
        f"WHERE group_id = '{group_id}' ORDER BY position")]


def member_list(*names):
    return [{"Member_Account": name} for name in names]


def wait_for_note(one, end):
    """Waits until shipped_file, the note for retention, ends with these ids. Returns the path of the file."""
    note = one.directory / "shipped"
    daemon.eventually(lambda: note.exists() and note.read_text().endswith(f"{end}\n"), "the note")
    return note


# Rows

def test_ships_every_column_and_member(make_daemon, server, forward):
    one = shipping_daemon(make_daemon, server, settings={"store": {"keep_body": "yes"}})
    forwarder = forward(one)
    hard = "\" \\ / \u0001 \n \t \x7f \u0085 \u2028 é 张三 😀 {}','"
    for body in (event(), event(GroupId="community", Type="Community", MemberList=None),
                 event(GroupId="empty", MemberList=[]), event(GroupId="untimed", EventTime=None),
                 event(GroupId="cut", Name="cut: @").replace(b"@", b"\xe5\xbc"),
                 event(GroupId="hard", Name=hard, MemberList=member_list(hard, "b", "a"))):
        assert one.post(body).status == 200
    assert one.post(b"{\xff").status == 400
    has_rows(server, 6)
    has_rows(server, 1, "rejected_callback")
    assert shipped_groups(server) == one.groups()
    assert shipped_members(server, "hard") == one.members("hard") == [hard, "b", "a"]
    assert shipped_members(server, "empty") == shipped_members(server, "community") == []
    (rejected,) = server.sql("SELECT id, received_at_ms, remote_address, sdk_appid, callback_command, "
                             "reason, encode(body, 'hex') AS body FROM rejected_callback")
    assert [rejected | {"body": bytes.fromhex(rejected["body"])}] == one.rejected()
    assert {row["receiver"] for row in server.sql("SELECT receiver FROM destroyed_group")} == {"a"}
    forwarder.stop()
    done = verify(one)
    assert done.returncode == 0 and "events: 6 in the store, 6 of them in the destination" in done.stdout, done


def test_ships_large_groups_and_bodies(make_daemon, server, forward):
    one = shipping_daemon(make_daemon, server, settings={"store": {"keep_body": "yes"}})
    members = [f"member-{number}-{'x' * 20}" for number in range(10_000)]
    one.record(*(f"g{number}" for number in range(5)), MemberList=member_list(*members))
    forward(one)
    has_rows(server, 50_000, "destroyed_group_member")
    assert shipped_members(server, "g4") == members
    assert verify(one).returncode == 0


def test_examples_of_the_manual_work(make_daemon, server, forward):
    one = shipping_daemon(make_daemon, server)
    one.record("peters", MemberList=member_list("peter"))
    forward(one)
    has_rows(server, 1)
    text = example("imcallbackd-forward.8", "USING (event_uid)")
    url = "postgresql://imcallbackd@db1,db2/events?target_session_attrs=any"
    assert url in text
    done = daemon.run("sh", "-c", text.replace(url, server.url(target_session_attrs="any")), env=server.environment())
    assert done.returncode == 0 and " peters " in done.stdout and "(1 row)" in done.stdout, done
    text = example("imcallbackd-forward.8", "--verify").replace("/etc/imcallbackd/imcallbackd.conf", str(one.config))
    done = daemon.run("sh", "-c", text.replace("imcallbackd forward", f"{BINARY} forward"))
    assert done.returncode == 0 and "events: 0 in the store" in done.stdout, done
    section = example("imcallbackd-forward.8", "[forward]")
    assert set(re.findall(r"(?m)^(\w+) =", section)) == {"url", "password_file"}
    keys = dict(re.findall(r"(?m)^(\w+) = (.*)$", section))
    shutil.copy(server.password_file, one.directory / "forward-password")
    settings = {key: value.replace("/etc/imcallbackd", str(one.directory)).replace("@db1,db2/", "@127.0.0.1:1/")
                for key, value in keys.items()}
    one.write_config({"forward": settings})
    done = daemon.run(BINARY, "check", "-c", one.config)
    assert done.returncode == 0 and "[forward] url: " in done.stderr, done


def test_stores_an_event_of_two_receivers_once(make_daemon, server, forward):
    """The members are those that the first receiver recorded, even if the second receiver recorded more. An event
    without a time is stored once per receiver, because nothing shows that both are the same event."""
    both = {name: shipping_daemon(make_daemon, server, name) for name in "ab"}
    for (name, one), names, rows in zip(both.items(), (["first"], ["second", "third"]), (3, 5)):
        assert one.post(event(MemberList=member_list(*names))).status == 200
        one.record("untimed", EventTime=None)
        one.record(f"only-{name}")
        forward(one)
        has_rows(server, rows)
    assert shipped_members(server, "@TGS#1") == ["first"]
    assert [row["receiver"] for row in server.sql(
        "SELECT receiver FROM destroyed_group WHERE group_id = 'untimed' ORDER BY 1")] == ["a", "b"]
    assert verify(both["a"]).returncode == 0
    done = verify(both["b"])
    assert done.returncode == 1 and "event with id 1 differs in the destination" in done.stdout, done
    uid = hashlib.sha256(f"{daemon.COMMAND}\n{daemon.APP}\n1670574414123\n@TGS#1".encode()).hexdigest()
    assert server.value("SELECT encode(event_uid, 'hex') AS u FROM destroyed_group WHERE group_id = '@TGS#1'") == uid


def test_ships_an_existing_store_from_its_first_row(one, server, forward):
    """The daemon is stopped. Neither a kill of the forwarder nor a change of the receiver's name loses or repeats a
    row."""
    assert one.load(connections=50, total=5_000)[0] == 0
    one.stop()
    ship_to(one, server)
    forwarder = forward(one)
    daemon.eventually(lambda: server.query("SELECT 1/count(*) FROM destroyed_group")[0], "a row", 60)
    forwarder.kill()
    forward(one)
    has_rows(server, 5_000)
    has_rows(server, 15_000, "destroyed_group_member")
    assert verify(one).returncode == 0
    ship_to(one, server, "renamed")
    forward(one)
    daemon.eventually(lambda: server.value("SELECT count(*) FROM imcallbackd_cursor WHERE last_id = 5000") == 2,
                      "the second cursor", 60)
    has_rows(server, 5_000)
    assert verify(one).returncode == 0


# --verify

def test_verify_reports_each_difference(make_daemon, server, forward):
    one = shipping_daemon(make_daemon, server)
    one.record(*(f"g{number}" for number in range(6)), MemberList=member_list("a", "b"))
    assert one.post(b"{").status == 400
    forwarder = forward(one)
    has_rows(server, 6)
    has_rows(server, 1, "rejected_callback")
    forwarder.stop()
    one.record("later")
    done = verify(one)
    assert done.returncode == 0 and "1 not shipped yet" in done.stdout, done
    uid = "(SELECT event_uid FROM destroyed_group WHERE group_id = 'g{}')"
    for statement in ("UPDATE destroyed_group SET name = 'other' WHERE group_id = 'g0'",
                      f"DELETE FROM destroyed_group_member WHERE event_uid = {uid.format(1)} AND position = 1",
                      f"UPDATE destroyed_group_member SET member_account = 'c' WHERE event_uid = {uid.format(2)}",
                      "UPDATE destroyed_group SET remote_address = '' WHERE group_id = 'g3'",
                      f"DELETE FROM destroyed_group_member WHERE event_uid = {uid.format(5)}",
                      "DELETE FROM destroyed_group WHERE group_id = 'g5'", "DELETE FROM rejected_callback"):
        server.execute(statement)
    done = verify(one)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert sorted(line for line in lines if "differs" in line) == [
        f"event with id {number} differs in the destination" for number in (1, 2, 3, 4)]
    assert "event with id 6 is missing in the destination" in lines
    assert "rejected callback with id 1 is missing in the destination" in lines
    assert "events: 6 in the store, 5 of them in the destination, 1 missing, 4 different; 1 not shipped yet" in lines
    now = int(time.time())
    assert verify(one, "--since", now + 100).returncode == 0
    assert verify(one, "--until", now - 1000).returncode == 0
    assert verify(one, "--since", now - 1000, "--until", now + 1000).returncode == 1


def test_verify_reports_twenty_differences_at_most(make_daemon, server, forward):
    one = shipping_daemon(make_daemon, server)
    assert one.load(connections=10, total=150)[0] == 0
    forward(one)
    has_rows(server, 150)
    server.execute("DELETE FROM destroyed_group")
    done = verify(one)
    assert done.returncode == 1 and done.stdout.count(" is missing ") == 20, done
    assert "events: 150 in the store, 0 of them in the destination, 150 missing" in done.stdout, done


def test_verify_fails_if_the_store_is_damaged(one, server, forward):
    ship_to(one, server)
    one.record("g0", MemberList=member_list("a"))
    forwarder = forward(one)
    has_rows(server, 1)
    forwarder.stop()
    one.stop()
    root = one.value("SELECT rootpage FROM sqlite_schema WHERE name = 'destroyed_group_member'")
    with one.database.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 64)
    done = verify(one)
    assert done.returncode == 1 and f"{one.database}: database disk image is malformed" in done.stderr, done


def test_interrupted_verify_fails(one, server):
    """An interrupted comparison has not compared every row, so it must not look like a successful one."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        ship_to(one, server, port=mute.getsockname()[1])
        process = subprocess.Popen([BINARY, "forward", "-c", one.config, "--verify"])
        connection, _ = mute.accept()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) != 0
        connection.close()


# Tables, privileges and cursors

def test_ten_forwarders_create_the_tables_at_once(make_daemon, server, forward):
    first = make_daemon().start()
    assert first.load(connections=20, total=200)[0] == 0
    first.stop()
    daemons = [first] + [make_daemon() for _ in range(9)]
    for number, one in enumerate(daemons):
        if one is not first:
            shutil.copy(first.database, one.database)
        ship_to(one, server, f"r{number}")
    forwarders = [forward(one) for one in daemons]
    cursors = "SELECT count(*) FROM imcallbackd_cursor WHERE last_id = 200"
    daemon.eventually(lambda: server.query(cursors) == (True, "10\n"), "ten cursors", 60)
    has_rows(server, 200)
    has_rows(server, 600, "destroyed_group_member")
    for forwarder in forwarders:
        forwarder.stop()
        assert "cannot be created" not in forwarder.log, forwarder.log


def test_refuses_newer_tables_and_leaves_them_unchanged(make_daemon, server, forward):
    one = shipping_daemon(make_daemon, server)
    assert one.post().status == 200
    server.execute("CREATE TABLE imcallbackd_schema (version bigint); INSERT INTO imcallbackd_schema VALUES (2)")
    forwarder = forward(one)
    forwarder.wait_logged("the tables in the destination have version 2, but this imcallbackd supports only version 1")
    assert server.value("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()") == 1
    server.execute("DROP TABLE imcallbackd_schema")
    has_rows(server, 1)


def test_needs_only_the_documented_privileges(make_daemon, server, forward):
    """Once the tables exist, the user needs no privilege to create tables or to delete rows."""
    one = shipping_daemon(make_daemon, server)
    one.record("by the owner")
    forwarder = forward(one)
    has_rows(server, 1)
    forwarder.stop()
    server.execute(f"CREATE ROLE shipper LOGIN PASSWORD '{postgres.PASSWORD}';"
                   f"GRANT USAGE ON SCHEMA {server.schema} TO shipper;"
                   "GRANT SELECT, INSERT ON destroyed_group, destroyed_group_member, rejected_callback TO shipper;"
                   "GRANT SELECT, INSERT, UPDATE ON imcallbackd_cursor TO shipper")
    ship_to(one, server, url=server.url().replace("owner@", "shipper@"))
    one.record("by the shipper")
    forwarder = forward(one)
    forwarder.wait_logged("permission denied for table imcallbackd_schema")
    server.execute("GRANT SELECT ON imcallbackd_schema TO shipper")
    has_rows(server, 2)
    server.execute("DROP OWNED BY shipper; DROP ROLE shipper")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_refuses_other_encodings(make_daemon, server, forward, encoding):
    server.execute(f"CREATE DATABASE other ENCODING '{encoding}' TEMPLATE template0")
    one = shipping_daemon(make_daemon, server, url=server.url().replace("/postgres", "/other"))
    forwarder = forward(one)
    forwarder.wait_logged("CREATE DATABASE ... ENCODING 'UTF8'")
    forwarder.stop()
    server.execute("DROP DATABASE other WITH (FORCE)")


def test_refuses_a_replaced_store(make_daemon, server, forward):
    """The new database reuses ids: at first it has fewer rows than were shipped, and later more."""
    one = shipping_daemon(make_daemon, server)
    one.record("old0", "old1", "old2")
    forwarder = forward(one)
    has_rows(server, 3)
    note = wait_for_note(one, " groups 3 rejected 0")
    one.stop()
    for path in one.directory.glob("callbacks.db*"):
        path.unlink()
    one.start()
    one.record("new0")
    forwarder.wait_logged("the database was replaced or restored from a backup")
    assert not note.exists()  # so that retention deletes nothing
    forwarder.stop()
    one.record(*(f"new{number}" for number in range(1, 5)))
    forwarder = forward(one)
    forwarder.wait_logged("the database was replaced or restored from a backup")
    has_rows(server, 3)
    server.execute("DELETE FROM imcallbackd_cursor WHERE receiver = 'a'")  # the remedy in the message
    has_rows(server, 8)
    assert verify(one).returncode == 0


def test_reports_a_second_forwarder_with_the_same_receiver(one, server, forward):
    assert one.load(connections=50, total=8_000)[0] == 0
    ship_to(one, server)
    both = [forward(one), forward(one)]
    posted = iter(range(100_000))

    def is_reported():
        """Posts one more event, which both forwarders try to ship."""
        one.record(f"posted-{next(posted)}")
        return any("another forwarder uses this receiver name" in each.log for each in both)

    daemon.eventually(is_reported, "the message", 60)
    has_rows(server, 8_000 + next(posted))
    assert verify(one).returncode == 0


# Metrics and the note for retention

def test_metrics_show_the_lag_while_the_server_is_away(make_daemon, server, forward):
    port = daemon.free_port()
    proxy = postgres.Proxy(server.port)
    one = shipping_daemon(make_daemon, server, port=proxy.port, admin_port=port)
    assert one.post().status == 200
    forwarder = forward(one)
    has_rows(server, 1)
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_lag_seconds"] == 0, "no lag")
    now = metrics(port)
    assert now['imcallbackd_forward_shipped_total{kind="event"}'] == 1
    assert now['imcallbackd_forward_shipped_total{kind="member"}'] == 1
    assert (now["imcallbackd_forward_connected"], now["imcallbackd_forward_lag_events"]) == (1, 0)
    proxy.close()
    one.record("g0", "g1", "g2")
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_lag_events"] == 3, "the lag", 60)
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_lag_seconds"] > 0.5, "its age", 60)
    now = metrics(port)
    assert now["imcallbackd_forward_connected"] == 0 and now["imcallbackd_forward_retries_total"] > 0
    assert now["imcallbackd_forward_last_error_timestamp_seconds"] > time.time() - 600
    assert ask(port, "/healthz")[0] == 200
    forwarder.wait_logged("shipping failed: ")


def test_note_names_the_database_and_the_shipped_ids(make_daemon, server, forward):
    one = shipping_daemon(make_daemon, server)
    one.record("g0", "g1", "g2", MemberList=None)  # the batch has no member at all
    forward(one)
    note = wait_for_note(one, " groups 3 rejected 0")
    assert f"inode {one.database.stat().st_ino} " in note.read_text()


def test_version_tells_that_forward_is_built():
    assert daemon.run(BINARY, "--version").stdout.split("\n")[1:4] == ["forward: yes", "deliver: yes", "systemd: yes"]
