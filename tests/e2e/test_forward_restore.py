"""Tests `forward` on a store that is restored from a backup while the forwarder runs. The forwarder must ship every row
of the restored store or refuse the store, but never skip a row."""

import shutil
import signal

import pytest

import daemon
import postgres
from daemon import BINARY
from monitoring import metrics
from postgres import has_rows, shipping_daemon, verify

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")

REFUSED = "the database was replaced or restored from a backup"


def by_rename(one, backup):
    for suffix in ("-wal", "-shm"):
        one.database.with_name(one.database.name + suffix).unlink(missing_ok=True)
    copy = shutil.copy(backup, one.directory / "copy.db")
    copy.rename(one.database)


def into_the_file(one, backup):
    """SQLite overwrites the pages of the file that the forwarder has open."""
    daemon.check_run("sqlite3", one.database, ".timeout 20000", f".restore {backup}")


class DestinationPresent:
    """The forwarder does not run while the store is restored, so it cannot notice a moment with fewer rows."""

    def __init__(self, make_daemon, server, forward):
        self.one = shipping_daemon(make_daemon, server)
        self.server = server
        self.forwarder = forward(self.one)

    def record_last(self, *group_ids):
        """Records events and stops the forwarder after it has shipped them."""
        self.one.record(*group_ids)
        has_rows(self.server, len(self.one.group_ids()))
        self.forwarder.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.forwarder.process.send_signal(signal.SIGCONT)


class DestinationAway:
    """The forwarder waits for the answer to a batch while the store is restored."""

    def __init__(self, make_daemon, server, forward):
        self.proxy = postgres.Proxy(server.port)
        self.admin_port = daemon.free_port()
        self.one = shipping_daemon(make_daemon, server, port=self.proxy.port, admin_port=self.admin_port)
        self.forwarder = forward(self.one)

    def record_last(self, *group_ids):
        self.proxy.stalled.set()
        self.one.record(*group_ids)
        daemon.eventually(lambda: metrics(self.admin_port)["imcallbackd_forward_lag_seconds"] > 0, "a batch in flight")

    def resume(self):
        self.proxy.stalled.clear()


@pytest.fixture(params=[DestinationPresent, DestinationAway])
def shipping(request, make_daemon, server, forward):
    made = request.param(make_daemon, server, forward)
    yield made
    if made.forwarder.process:
        made.resume()


restored = pytest.mark.parametrize("restore", [by_rename, into_the_file])


def back_up(one):
    backup = one.directory / "backup.db"
    daemon.check_run(BINARY, "backup", "-c", one.config, backup)
    return backup


@restored
def test_ships_on_after_a_complete_copy_was_restored(shipping, server, restore):
    one = shipping.one
    one.record("g1", "g2")
    has_rows(server, 2)
    shipping.record_last("g3", "g4")
    one.stop()
    restore(one, back_up(one))
    one.start()
    one.record("g5", "g6", "g7")
    shipping.resume()
    has_rows(server, 7)
    assert REFUSED not in shipping.forwarder.log
    assert verify(one).returncode == 0


@restored
def test_skips_no_event_after_an_older_copy_was_restored(shipping, server, forward, restore):
    """The new events get the ids of lost events that were shipped, and more ids than those."""
    one = shipping.one
    one.record("g1", "g2")
    has_rows(server, 2)
    backup = back_up(one)
    shipping.record_last("old3", "old4", "old5")
    one.stop()
    restore(one, backup)
    one.start()
    new = [f"new{number}" for number in range(3, 10)]
    one.record(*new)
    shipping.resume()
    shipping.forwarder.wait_logged(REFUSED)
    daemon.eventually(lambda: not (one.directory / "shipped").exists(), "no note")  # so that retention deletes nothing
    shipping.forwarder.stop()
    server.execute("DELETE FROM imcallbackd_cursor WHERE receiver = 'a'")  # the remedy in the message
    forward(one)
    daemon.eventually(lambda: server.value("SELECT count(*) FROM destroyed_group WHERE group_id LIKE 'new%'") ==
                      len(new), "the new events", 60)
    assert verify(one).returncode == 0
