"""`forward` when the line is slow, the store is replaced, an event is refused or nothing answers: what is told of it."""

import threading

import pytest

import daemon
import postgres
from daemon import event
from monitoring import metrics
from postgres import has_rows, ship_to, verify

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")


def test_a_large_event_on_a_slow_line(make_daemon, server, forward):
    """It takes longer than the server may be silent, and gets there at the first try."""
    one = make_daemon()
    proxy = postgres.Proxy(server.port, rate=100_000)
    ship_to(one, server, port=proxy.port)
    one.start()
    members = [{"Member_Account": f"{number}-{'x' * 780}"} for number in range(5_000)]
    assert one.post(event(MemberList=members)).status == 200
    forwarder = forward(one)
    has_rows(server, 5_000, "destroyed_group_member", 300)
    assert "shipping failed" not in forwarder.log
    forwarder.stop()
    proxy.close()


def test_the_note_is_not_on_a_store_that_was_replaced(make_daemon, server, forward):
    """What was shipped from the one before must not let the daemon delete from the one that is there now."""
    one = make_daemon()
    proxy = postgres.Proxy(server.port)
    ship_to(one, server, port=proxy.port)
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    note = one.directory / "shipped"
    daemon.eventually(lambda: note.exists() and " groups 1 " in note.read_text(), "the note")
    sending = threading.Event()
    proxy.cut_at = lambda data: sending.set() if b"COMMIT" in data else None
    proxy.stalled.set()
    assert one.post(event(GroupId="under way")).status == 200
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
    proxy.close()


def test_what_the_destination_does_not_take(make_daemon, server, forward):
    """It is told which event that is, nothing is left out, and all goes on once it is mended."""
    one = make_daemon()
    ship_to(one, server)
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    has_rows(server, 1)
    server.execute("ALTER TABLE destroyed_group ADD CONSTRAINT strict CHECK (group_id <> 'odd')")
    assert one.post(event(GroupId="odd")).status == 200
    forwarder.wait_logged("shipping failed: events with ids 2 to 2: the destination reports SQLSTATE 23514")
    assert one.post(event(GroupId="next")).status == 200
    assert one.post(b"{").status == 400
    has_rows(server, 1, "rejected_callback")  # it does not wait for the events
    server.execute("ALTER TABLE destroyed_group DROP CONSTRAINT strict")
    has_rows(server, 3)
    assert verify(one).returncode == 0


def test_a_rejected_callback_that_is_not_taken(make_daemon, server, forward):
    """It is told which one that is, and events go on."""
    one = make_daemon()
    ship_to(one, server)
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    has_rows(server, 1)
    server.execute("ALTER TABLE rejected_callback ADD CONSTRAINT strict CHECK (body <> '{')")
    assert one.post(b"{").status == 400
    forwarder.wait_logged("shipping failed: rejected callbacks with ids 1 to 1: the destination reports SQLSTATE 23514")
    assert one.post(event(GroupId="next")).status == 200
    has_rows(server, 2)
    server.execute("ALTER TABLE rejected_callback DROP CONSTRAINT strict")
    has_rows(server, 1, "rejected_callback")
    assert verify(one).returncode == 0


def test_lag_while_nothing_is_taken(make_daemon, server, forward):
    """The next try begins with the rejected callbacks, and what is behind it is late all the same."""
    one = make_daemon()
    port = daemon.free_port()
    ship_to(one, server, admin_port=port)
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    has_rows(server, 1)
    server.execute("ALTER TABLE destroyed_group ADD CONSTRAINT strict CHECK (group_id <> 'next')")
    server.execute("ALTER TABLE rejected_callback ADD CONSTRAINT strict CHECK (body <> '{')")
    assert one.post(event(GroupId="next")).status == 200
    forwarder.wait_logged("shipping failed: events")
    assert one.post(b"{").status == 400
    forwarder.wait_logged("shipping failed: rejected callbacks")
    assert metrics(port)["imcallbackd_forward_lag_events"] == 1


def test_each_host_is_told_of(make_daemon, server, forward):
    """The one that has to be mended may come behind one that is merely away."""
    one = make_daemon()
    wrong = one.directory / "password"
    wrong.write_text("wrong-" + postgres.PASSWORD)
    wrong.chmod(0o600)
    hosts = f"127.0.0.1:{daemon.free_port()},127.0.0.1:{server.port}"
    ship_to(one, server, url=server.url().replace(f"127.0.0.1:{server.port}", hosts), password_file=wrong)
    one.start()
    forward(one).wait_logged('Connection refused; connection to server at "127.0.0.1", port '
                             f"{server.port} failed: FATAL:  password authentication failed")


def test_lag_of_what_is_under_way(make_daemon, server, forward):
    """A batch that was sent is not there yet, though nothing has failed."""
    one = make_daemon()
    port = daemon.free_port()
    proxy = postgres.Proxy(server.port)
    ship_to(one, server, port=proxy.port, admin_port=port)
    one.start()
    assert one.post().status == 200
    forward(one)
    has_rows(server, 1)
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_shipped_id"] == 1, "all is there")
    proxy.stalled.set()
    assert one.post(event(GroupId="stalled")).status == 200

    def lag():
        now = metrics(port)
        assert now["imcallbackd_forward_retries_total"] == 0
        return now["imcallbackd_forward_lag_seconds"] > 0
    daemon.eventually(lag, "the lag", 60)
    proxy.stalled.clear()
    has_rows(server, 2)
    daemon.eventually(lambda: metrics(port)["imcallbackd_forward_lag_seconds"] == 0, "no lag")


def test_a_note_that_cannot_be_written(make_daemon, server, forward):
    one = make_daemon()
    place = one.directory / "absent"
    ship_to(one, server, shipped_file=place / "shipped")
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    forwarder.wait_logged("retention deletes no further rows until this file can be written")
    has_rows(server, 1)  # shipping goes on
    place.mkdir()
    daemon.eventually(lambda: (place / "shipped").exists(), "the note")
