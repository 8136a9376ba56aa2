"""Tests `forward` on a slow or stalled network, with rejected rows, a replaced store, a note that cannot be written, or
a result that does not belong to the statement."""

import socket
import struct
import threading
import time

import pytest

import daemon
import postgres
from daemon import event
from monitoring import metrics
from postgres import has_rows, ship_to, shipping_daemon, verify

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")


@pytest.fixture
def proxy(server):
    made = postgres.Proxy(server.port)
    yield made
    made.close()


def start_with_one_event(make_daemon, server, forward, **keys):
    """Returns a daemon and its forwarder after the first event has been shipped."""
    one = shipping_daemon(make_daemon, server, **keys)
    assert one.post().status == 200
    forwarder = forward(one)
    has_rows(server, 1)
    return one, forwarder


def test_ships_a_large_event_over_a_slow_network_at_the_first_attempt(make_daemon, server, forward):
    """Sending takes longer than the timeout, which restarts whenever bytes move."""
    proxy = postgres.Proxy(server.port, rate=100_000)
    one = shipping_daemon(make_daemon, server, port=proxy.port)
    members = [{"Member_Account": f"{number}-{'x' * 780}"} for number in range(5_000)]
    assert one.post(event(MemberList=members)).status == 200
    forwarder = forward(one)
    has_rows(server, 5_000, "destroyed_group_member", 300)
    assert "shipping failed" not in forwarder.log
    forwarder.stop()
    proxy.close()


def test_writes_no_note_about_a_replaced_store(make_daemon, server, forward, proxy):
    """Ids that were shipped from the old database must not let the daemon delete rows of the new one."""
    one, forwarder = start_with_one_event(make_daemon, server, forward, port=proxy.port)
    note = one.directory / "shipped"
    daemon.eventually(lambda: note.exists() and " groups 1 " in note.read_text(), "the note")
    sending = threading.Event()
    proxy.cut_at = lambda data: sending.set() if b"COMMIT" in data else None
    proxy.stalled.set()
    assert one.post(event(GroupId="in flight")).status == 200
    one.stop()
    old = one.directory / "old"
    old.mkdir()
    for path in one.directory.glob("callbacks.db*"):
        path.rename(old / path.name)
    one.start()
    proxy.stalled.clear()
    daemon.eventually(sending.is_set, "the batch")
    has_rows(server, 2)
    forwarder.wait_logged("moved away or replaced")
    assert not note.exists() or f"inode {one.database.stat().st_ino} " not in note.read_text()


def test_a_rejected_event_blocks_events_but_no_rejected_callbacks(make_daemon, server, forward):
    """The log names the event, no event is skipped, and shipping continues once the destination accepts the event."""
    one, forwarder = start_with_one_event(make_daemon, server, forward)
    server.execute("ALTER TABLE destroyed_group ADD CONSTRAINT strict CHECK (group_id <> 'odd')")
    assert one.post(event(GroupId="odd")).status == 200
    forwarder.wait_logged("shipping failed: events with ids 2 to 2: the destination reports SQLSTATE 23514")
    assert one.post(event(GroupId="next")).status == 200
    assert one.post(b"{").status == 400
    has_rows(server, 1, "rejected_callback")
    server.execute("ALTER TABLE destroyed_group DROP CONSTRAINT strict")
    has_rows(server, 3)
    assert verify(one).returncode == 0


def test_a_rejected_callback_that_the_destination_rejects_blocks_no_events(make_daemon, server, forward):
    one, forwarder = start_with_one_event(make_daemon, server, forward)
    server.execute("ALTER TABLE rejected_callback ADD CONSTRAINT strict CHECK (body <> '{')")
    assert one.post(b"{").status == 400
    forwarder.wait_logged("shipping failed: rejected callbacks with ids 1 to 1: the destination reports SQLSTATE 23514")
    assert one.post(event(GroupId="next")).status == 200
    has_rows(server, 2)
    server.execute("ALTER TABLE rejected_callback DROP CONSTRAINT strict")
    has_rows(server, 1, "rejected_callback")
    assert verify(one).returncode == 0


def test_lag_counts_events_behind_a_rejected_batch(make_daemon, server, forward):
    """After the destination has rejected an event, the next attempt of the forwarder sends the rows of
    rejected_callback first. The event that the destination rejected still adds to the lag."""
    port = daemon.free_port()
    one, forwarder = start_with_one_event(make_daemon, server, forward, admin_port=port)
    server.execute("ALTER TABLE destroyed_group ADD CONSTRAINT strict CHECK (group_id <> 'next')")
    server.execute("ALTER TABLE rejected_callback ADD CONSTRAINT strict CHECK (body <> '{')")
    assert one.post(event(GroupId="next")).status == 200
    forwarder.wait_logged("shipping failed: events")
    assert one.post(b"{").status == 400
    forwarder.wait_logged("shipping failed: rejected callbacks")
    assert metrics(port)["imcallbackd_forward_lag_events"] == 1


def test_reports_the_failure_of_each_host(fresh, server, forward):
    """The first host may only be down for a while, but the second one may need an operator, so the log reports the
    failures of both."""
    wrong = fresh.directory / "password"
    wrong.write_text("wrong-" + postgres.PASSWORD)
    wrong.chmod(0o600)
    hosts = f"127.0.0.1:{daemon.free_port()},127.0.0.1:{server.port}"
    ship_to(fresh, server, url=server.url().replace(f"127.0.0.1:{server.port}", hosts), password_file=wrong)
    fresh.start()
    forward(fresh).wait_logged('Connection refused; connection to server at "127.0.0.1", port '
                             f"{server.port} failed: FATAL:  password authentication failed")


def test_lag_includes_a_batch_in_flight(make_daemon, server, forward, proxy):
    port = daemon.free_port()
    one, _ = start_with_one_event(make_daemon, server, forward, port=proxy.port, admin_port=port)
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_shipped_id"] == 1, "the commit")
    proxy.stalled.set()
    assert one.post(event(GroupId="stalled")).status == 200

    def lags_without_failure():
        now = metrics(port)
        assert now["imcallbackd_forward_retries_total"] == 0
        return now["imcallbackd_forward_lag_seconds"] > 0

    daemon.eventually(lags_without_failure, "the lag", 60)
    proxy.stalled.clear()
    has_rows(server, 2)
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_lag_seconds"] == 0, "no lag")


def test_ships_although_the_note_cannot_be_written(fresh, server, forward):
    place = fresh.directory / "absent"
    ship_to(fresh, server, shipped_file=place / "shipped")
    fresh.start()
    assert fresh.post().status == 200
    forwarder = forward(fresh)
    forwarder.wait_logged("retention deletes no further rows until this file can be written")
    has_rows(server, 1)
    place.mkdir()
    daemon.eventually(lambda: (place / "shipped").exists(), "the note")


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


def read_message(stream, kind_bytes=1):
    kind = stream.read(kind_bytes)
    (length,) = struct.unpack("!I", stream.read(4))
    return kind, stream.read(length - 4)


def row(*values):
    """Returns the messages of the result of a SELECT: one row of text values."""
    column = b"column\0" + struct.pack("!IhIhih", 0, 0, 25, -1, -1, 0)
    count = struct.pack("!H", len(values))
    return (message(b"T", count + column * len(values)) +
            message(b"D", count + b"".join(struct.pack("!I", len(value)) + value for value in values)) +
            message(b"C", b"SELECT 1\0"))


def accept_login(connection, stream):
    """Accepts the login of a client, and reports that the server waits for a statement."""
    read_message(stream, 0)
    connection.sendall(message(b"R", struct.pack("!I", 0)) + message(b"S", b"server_encoding\0UTF8\0") +
                       message(b"Z", b"I"))


def answer_every_statement(listener, result, answers=()):
    """Acts as a destination that accepts every login and answers each Sync message with one result. The first statement
    before the Sync selects the result: the value in `answers` whose key starts the statement, otherwise `result`."""
    while True:
        try:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                accept_login(connection, stream)
                sql = None
                while True:
                    kind, body = read_message(stream)
                    if kind == b"P" and sql is None:
                        sql = body.split(b"\0")[1]
                    if kind == b"S":
                        found = [answer for start, answer in dict(answers).items() if sql.startswith(start)]
                        connection.sendall(message(b"1") + message(b"2") + (found or [result])[0] +
                                           message(b"Z", b"I"))
                        sql = None
        except struct.error:
            pass  # the forwarder has closed the connection
        except OSError:
            return


@pytest.mark.parametrize("result", [
    pytest.param(message(b"n") + message(b"C", b"SELECT 0\0"), id="no rows"),
    pytest.param(message(b"T", b"\0\0") + message(b"D", b"\0\0") + message(b"C", b"SELECT 1\0"), id="no columns"),
    pytest.param(message(b"G", b"\0\0\0"), id="copy in"),
    pytest.param(message(b"H", b"\0\0\0"), id="copy out"),
    pytest.param(message(b"W", b"\0\0\0"), id="copy both"),
])
def test_survives_a_result_that_does_not_belong_to_the_statement(make_daemon, server, forward, result):
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=answer_every_statement, args=(listener, result), daemon=True).start()
    one = shipping_daemon(make_daemon, server,
                          url=server.url(listener.getsockname()[1], sslmode="disable", gssencmode="disable"))
    forwarder = forward(one)
    forwarder.wait_logged("does not belong to the statement")
    forwarder.stop()
    listener.close()


def test_survives_a_copy_instead_of_the_result_of_a_batch(make_daemon, server, forward):
    listener = socket.create_server(("127.0.0.1", 0))
    answers = {
        b"SELECT coalesce(max(version)": row(b"1"),
        b"SELECT last_id": row(b"0", b"0"),
        b"INSERT INTO imcallbackd_cursor": message(b"n") + message(b"C", b"INSERT 0 1\0"),
    }
    threading.Thread(target=answer_every_statement, args=(listener, message(b"G", b"\0\0\0"), answers),
                     daemon=True).start()
    one = shipping_daemon(make_daemon, server,
                          url=server.url(listener.getsockname()[1], sslmode="disable", gssencmode="disable"))
    assert one.post().status == 200
    forwarder = forward(one)
    forwarder.wait_logged("does not belong to the statement")
    forwarder.stop()
    listener.close()


def test_stops_soon_although_the_destination_is_silent(make_daemon, server, forward):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = shipping_daemon(make_daemon, server,
                              url=server.url(listener.getsockname()[1], sslmode="disable", gssencmode="disable"))
        forwarder = forward(one)
        listener.settimeout(60)
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            accept_login(connection, stream)
            assert read_message(stream)[0] == b"P"
            start = time.monotonic()
            forwarder.stop()
            assert time.monotonic() - start < 11
