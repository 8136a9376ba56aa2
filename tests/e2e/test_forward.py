"""`forward`: what was recorded is in PostgreSQL, row by row and once; what is refused, told, and warned of."""

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
from monitoring import ask, metrics
from postgres import has_rows, ship_to, verify
from test_readme import block

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")


def rows_there(server):
    """As daemon.groups() has them, by id."""
    rows = server.sql(f"SELECT {', '.join(COLUMNS)}, encode(body, 'hex') AS body FROM destroyed_group ORDER BY id")
    return [row | {"body": bytes.fromhex(row["body"] or "")} for row in rows]


def members_there(server, group_id):
    return [row["member_account"] for row in server.sql(
        f"SELECT member_account FROM destroyed_group JOIN destroyed_group_member USING (event_uid) "
        f"WHERE group_id = '{group_id}' ORDER BY position")]


# What arrives

def test_every_column_and_member(make_daemon, server, forward):
    one = make_daemon()
    ship_to(one, server, settings={"store": {"keep_body": "yes"}})
    one.start()
    forwarder = forward(one)
    hard = "\" \\ / \u0001 \n \t \x7f \u0085 \u2028 é 张三 😀 {}','"
    for body in (event(), event(GroupId="community", Type="Community", MemberList=None),
                 event(GroupId="empty", MemberList=[]), event(GroupId="untimed", EventTime=None),
                 event(GroupId="cut", Name="cut: @").replace(b"@", b"\xe5\xbc"),
                 event(GroupId="hard", Name=hard, MemberList=[{"Member_Account": name} for name in (hard, "b", "a")])):
        assert one.post(body).status == 200
    assert one.post(b"{\xff").status == 400
    has_rows(server, 6)
    has_rows(server, 1, "rejected_callback")
    assert rows_there(server) == one.groups()
    assert members_there(server, "hard") == one.members("hard") == [hard, "b", "a"]
    assert members_there(server, "empty") == members_there(server, "community") == []
    (rejected,) = server.sql("SELECT id, received_at_ms, remote_address, sdk_appid, callback_command, "
                             "reason, encode(body, 'hex') AS body FROM rejected_callback")
    assert [rejected | {"body": bytes.fromhex(rejected["body"])}] == one.rejected()
    assert {row["receiver"] for row in server.sql("SELECT receiver FROM destroyed_group")} == {"a"}
    forwarder.stop()
    done = verify(one)
    assert done.returncode == 0 and "events: 6 in the store, 6 of them in the destination" in done.stdout, done


def test_large_groups_and_bodies(make_daemon, server, forward):
    one = make_daemon()
    ship_to(one, server, settings={"store": {"keep_body": "yes"}})
    one.start()
    members = [f"member-{number}-{'x' * 20}" for number in range(10_000)]
    for number in range(5):
        assert one.post(event(GroupId=f"g{number}", MemberList=[{"Member_Account": member} for member in members])
                        ).status == 200
    forward(one)
    has_rows(server, 50_000, "destroyed_group_member")
    assert members_there(server, "g4") == members
    assert verify(one).returncode == 0


def test_query_of_the_readme(make_daemon, server, forward):
    one = make_daemon()
    ship_to(one, server)
    one.start()
    assert one.post(event(GroupId="peters", MemberList=[{"Member_Account": "peter"}])).status == 200
    forward(one)
    has_rows(server, 1)
    text = block("USING (event_uid)")
    url = "postgresql://imcallbackd@db1,db2/events?target_session_attrs=any"
    assert url in text
    done = daemon.run("sh", "-c", text.replace(url, server.url(target_session_attrs="any")), env=server.environment())
    assert done.returncode == 0 and " peters " in done.stdout and "(1 row)" in done.stdout, done


def test_same_event_through_two_receivers(make_daemon, server, forward):
    """One row and the members of one, even when the other has more of them; without a time there are two rows."""
    both = [make_daemon(), make_daemon()]
    for receiver, one in zip("ab", both):
        ship_to(one, server, receiver)
        one.start()
        names = ["first"] if receiver == "a" else ["second", "third"]
        assert one.post(event(MemberList=[{"Member_Account": name} for name in names])).status == 200
        assert one.post(event(GroupId="untimed", EventTime=None)).status == 200
        assert one.post(event(GroupId=f"only-{receiver}")).status == 200
        forward(one)
        has_rows(server, 3 if receiver == "a" else 5)
    assert members_there(server, "@TGS#1") == ["first"]
    assert [row["receiver"] for row in server.sql(
        "SELECT receiver FROM destroyed_group WHERE group_id = 'untimed' ORDER BY 1")] == ["a", "b"]
    assert verify(both[0]).returncode == 0
    done = verify(both[1])
    assert done.returncode == 1 and "event with id 1 differs in the destination" in done.stdout, done
    uid = daemon.hashlib.sha256(f"{daemon.COMMAND}\n{daemon.APP}\n1670574414123\n@TGS#1".encode()).hexdigest()
    assert server.value("SELECT encode(event_uid, 'hex') AS u FROM destroyed_group WHERE group_id = '@TGS#1'") == uid


def test_existing_store_from_its_first_row(make_daemon, server, forward):
    """Nobody records any more; an end in between and a new name change nothing that is there."""
    one = make_daemon().start()
    assert one.load(connections=50, total=5_000)[0] == 0
    one.stop()
    ship_to(one, server)
    forwarder = forward(one)
    daemon.eventually(lambda: server.psql("-c", "SELECT 1/count(*) FROM destroyed_group").returncode == 0, "some", 60)
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


def test_verify_tells_what_differs(make_daemon, server, forward):
    one = make_daemon()
    ship_to(one, server)
    one.start()
    for number in range(6):
        assert one.post(event(GroupId=f"g{number}", MemberList=[{"Member_Account": "a"}, {"Member_Account": "b"}])
                        ).status == 200
    assert one.post(b"{").status == 400
    forwarder = forward(one)
    has_rows(server, 6)
    has_rows(server, 1, "rejected_callback")
    forwarder.stop()
    assert one.post(event(GroupId="later")).status == 200
    whole = verify(one)
    assert whole.returncode == 0 and "1 not shipped yet" in whole.stdout, whole
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
    told = done.stdout.splitlines()
    assert sorted(line for line in told if "differs" in line) == [
        f"event with id {number} differs in the destination" for number in (1, 2, 3, 4)]
    assert "event with id 6 is missing in the destination" in told
    assert "rejected callback with id 1 is missing in the destination" in told
    assert "events: 6 in the store, 5 of them in the destination, 1 missing, 4 different; 1 not shipped yet" in told
    now = int(time.time())
    assert verify(one, "--since", now + 100).returncode == 0
    assert verify(one, "--until", now - 1000).returncode == 0
    assert verify(one, "--since", now - 1000, "--until", now + 1000).returncode == 1


def test_verify_tells_twenty_of_many(make_daemon, server, forward):
    one = make_daemon().start()
    ship_to(one, server)
    assert one.load(connections=10, total=150)[0] == 0
    forward(one)
    has_rows(server, 150)
    server.execute("DELETE FROM destroyed_group")
    done = verify(one)
    assert done.returncode == 1 and done.stdout.count(" is missing ") == 20, done
    assert "events: 150 in the store, 0 of them in the destination, 150 missing" in done.stdout, done


def test_verify_that_is_broken_off(make_daemon, server):
    """It has found nothing, which is not the same as that nothing differs."""
    one = make_daemon().start()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        ship_to(one, server, port=mute.getsockname()[1])
        process = subprocess.Popen([BINARY, "forward", "-c", one.config, "--verify"])
        connection, _ = mute.accept()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) != 0
        connection.close()


# Beginning

def test_ten_forwarders_begin_at_once(make_daemon, server, forward):
    first = make_daemon().start()
    assert first.load(connections=20, total=200)[0] == 0
    first.stop()
    all_of_them = [first] + [make_daemon() for _ in range(9)]
    for number, one in enumerate(all_of_them):
        if one is not first:
            shutil.copy(first.database, one.database)
        ship_to(one, server, f"r{number}")
    forwarders = [forward(one) for one in all_of_them]
    daemon.eventually(lambda: "(10," in str(server.psql("-At", "-c", "SELECT (count(*), 0) FROM imcallbackd_cursor "
                                                        "WHERE last_id = 200").stdout), "ten cursors", 60)
    has_rows(server, 200)
    has_rows(server, 600, "destroyed_group_member")
    for forwarder in forwarders:
        forwarder.stop()
        assert "cannot be created" not in forwarder.log, forwarder.log


def test_newer_tables_are_left_alone(make_daemon, server, forward):
    one = make_daemon()
    ship_to(one, server)
    one.start()
    assert one.post().status == 200
    server.execute("CREATE TABLE imcallbackd_schema (version bigint); INSERT INTO imcallbackd_schema VALUES (2)")
    forwarder = forward(one)
    forwarder.wait_logged("the tables in the destination have version 2, but this imcallbackd supports only version 1")
    assert server.value("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()") == 1
    server.execute("DROP TABLE imcallbackd_schema")  # somebody has mended it
    has_rows(server, 1)


def test_no_more_rights_than_needed(make_daemon, server, forward):
    """With the tables made, a user who may neither make nor delete anything will do."""
    one = make_daemon()
    ship_to(one, server)
    one.start()
    assert one.post(event(GroupId="by the owner")).status == 200
    forwarder = forward(one)
    has_rows(server, 1)
    forwarder.stop()
    server.execute(f"CREATE ROLE shipper LOGIN PASSWORD '{postgres.PASSWORD}';"
                   f"GRANT USAGE ON SCHEMA {server.schema} TO shipper;"
               "GRANT SELECT, INSERT ON destroyed_group, destroyed_group_member, rejected_callback TO shipper;"
                   "GRANT SELECT, INSERT, UPDATE ON imcallbackd_cursor TO shipper; GRANT SELECT ON imcallbackd_schema TO"
                   " shipper")
    ship_to(one, server, url=server.url().replace("owner@", "shipper@"))
    assert one.post(event(GroupId="by the shipper")).status == 200
    forward(one)
    has_rows(server, 2)
    server.execute("DROP OWNED BY shipper; DROP ROLE shipper")


@pytest.mark.parametrize("options", ["ENCODING 'SQL_ASCII' TEMPLATE template0", "ENCODING 'LATIN1' TEMPLATE template0"])
def test_other_encodings_are_refused(make_daemon, server, forward, options):
    server.execute(f"CREATE DATABASE other {options}")
    one = make_daemon()
    ship_to(one, server, url=server.url().replace("/postgres", "/other"))
    one.start()
    forwarder = forward(one)
    forwarder.wait_logged("CREATE DATABASE ... ENCODING 'UTF8'")
    forwarder.stop()
    server.execute("DROP DATABASE other WITH (FORCE)")


def test_a_replaced_store_is_not_shipped(make_daemon, server, forward):
    """Its ids begin anew: with fewer rows than were shipped, and with as many."""
    one = make_daemon()
    ship_to(one, server)
    one.start()
    for number in range(3):
        assert one.post(event(GroupId=f"old{number}")).status == 200
    forwarder = forward(one)
    has_rows(server, 3)
    note = one.directory / "shipped"
    daemon.eventually(lambda: note.exists() and " groups 3 " in note.read_text(), "the note")
    one.stop()
    for path in one.directory.glob("callbacks.db*"):
        path.unlink()
    one.start()
    assert one.post(event(GroupId="new0")).status == 200
    forwarder.wait_logged("the database was replaced or restored from a backup")
    assert not note.exists()  # retention deletes nothing
    forwarder.stop()
    for number in range(1, 5):
        assert one.post(event(GroupId=f"new{number}")).status == 200
    forwarder = forward(one)
    forwarder.wait_logged("the database was replaced or restored from a backup")
    has_rows(server, 3)
    server.execute("DELETE FROM imcallbackd_cursor WHERE receiver = 'a'")  # as it is told to do
    has_rows(server, 8)
    assert verify(one).returncode == 0


def test_two_forwarders_of_one_name(make_daemon, server, forward):
    one = make_daemon().start()
    assert one.load(connections=50, total=8_000)[0] == 0
    ship_to(one, server)
    both = [forward(one), forward(one)]
    posted = iter(range(100_000))

    def noticed():
        """Each event that comes is there for both of them."""
        assert one.post(event(GroupId=f"posted-{next(posted)}")).status == 200
        return any("another forwarder uses this receiver name" in each.log for each in both)

    daemon.eventually(noticed, "the words", 60)
    has_rows(server, 8_000 + next(posted))
    assert verify(one).returncode == 0


# Being watched

def test_lag_is_told(make_daemon, server, forward):
    one = make_daemon()
    port = daemon.free_port()
    proxy = postgres.Proxy(server.port)
    ship_to(one, server, port=proxy.port, admin_port=port)
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    has_rows(server, 1)
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_lag_seconds"] == 0, "no lag")
    now = metrics(port)
    assert now['imcallbackd_forward_shipped_total{kind="event"}'] == 1
    assert now['imcallbackd_forward_shipped_total{kind="member"}'] == 1
    assert (now["imcallbackd_forward_connected"], now["imcallbackd_forward_lag_events"]) == (1, 0)
    proxy.close()  # the server is away
    for number in range(3):
        assert one.post(event(GroupId=f"g{number}")).status == 200
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_lag_events"] == 3, "the lag", 60)
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_lag_seconds"] > 0.5, "its age", 60)
    now = metrics(port)
    assert now["imcallbackd_forward_connected"] == 0 and now["imcallbackd_forward_retries_total"] > 0
    assert now["imcallbackd_forward_last_error_timestamp_seconds"] > time.time() - 600
    assert ask(port, "/healthz")[0] == 200
    forwarder.wait_logged("shipping failed: ")


def test_the_note_for_retention(make_daemon, server, forward):
    one = make_daemon()
    ship_to(one, server)
    one.start()
    for number in range(3):
        assert one.post(event(GroupId=f"g{number}", MemberList=None)).status == 200  # a batch without any member
    forward(one)
    note = one.directory / "shipped"
    daemon.eventually(lambda: note.exists() and note.read_text().endswith(" groups 3 rejected 0\n"), "the note")
    assert note.stat().st_ino and f"inode {one.database.stat().st_ino} " in note.read_text()


def test_the_version_says_so():
    assert daemon.run(BINARY, "--version").stdout.split("\n")[1] == "forward: yes"
