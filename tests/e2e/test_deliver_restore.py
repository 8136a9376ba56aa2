"""Tests `deliver` on a database that was replaced, or restored from a backup. Its ids stand for other events then, so
deliver must refuse the database."""

import contextlib
import shutil
import signal
import sqlite3

import daemon
from daemon import BINARY
from delivery import Ledger, deliver_to
from endpoint import status


def restore(one, backup):
    one.stop()
    for path in one.directory.glob("callbacks.db*"):
        path.unlink()
    shutil.copy(backup, one.database)
    one.start()


def restore_in_place(one, backup):
    """Restores the backup into the existing file of the database, which other processes keep open."""
    one.stop()
    with contextlib.closing(sqlite3.connect(backup)) as source, contextlib.closing(
            sqlite3.connect(one.database, timeout=20)) as target:
        source.backup(target)
    one.start()


def deliver_and_back_up(one, endpoint, deliver, **settings):
    """Delivers the event g1, and takes a backup. Returns the running deliver and the path of the backup."""
    deliver_to(one, endpoint, **settings)
    one.start()
    one.record("g1")
    deliverer = deliver(one)
    endpoint.wait_accepted("g1")
    backup = one.directory / "backup.db"
    assert daemon.run(BINARY, "backup", "-c", one.config, backup).returncode == 0
    return deliverer, backup


def test_refuses_a_database_that_was_put_back(fresh, endpoint, deliver):
    """The restored database reuses the ids of the lost events, so deliver refuses to send the new events. After the
    remedy in the message, deliver sends them."""
    deliverer, backup = deliver_and_back_up(fresh, endpoint, deliver)
    fresh.record("g2", "g3")
    endpoint.wait_accepted("g2", "g3")
    note = fresh.directory / "state.shipped"
    daemon.eventually(lambda: note.exists() and " 3 " in note.read_text(), "the note")
    restore(fresh, backup)
    deliverer.wait_logged("restored from a backup")
    assert not note.exists()  # so that retention deletes nothing
    fresh.record("new2", "new3", "new4")
    deliverer.stop()
    deliverer = deliver(fresh)
    deliverer.wait_logged("restored from a backup")
    assert endpoint.accepted() == ["g1", "g2", "g3"]
    assert str(fresh.directory / "state") in deliverer.log
    deliverer.stop()
    for path in fresh.directory.glob("state*"):
        path.unlink()
    deliver(fresh)
    endpoint.wait_accepted("new2", "new3", "new4")
    Ledger(fresh, endpoint)


def test_notices_a_new_database_while_events_wait(fresh, endpoint, deliver):
    """The new database reuses the ids of the events that wait. deliver must not send the new events in their place."""
    endpoint.answer(groups={"old1": [status(500)], "old2": [status(500)]})
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("old1", "old2", "old3")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("old3")
    deliverer.stop()
    fresh.stop()
    for path in fresh.directory.glob("callbacks.db*"):
        path.unlink()
    fresh.start()
    fresh.record("new1", "new2", "new3", "new4")
    endpoint.answer()
    deliverer = deliver(fresh)
    deliverer.wait_logged("restored from a backup")
    assert [group for group in endpoint.accepted() if group.startswith("new")] == []


def test_notices_a_restore_into_the_open_database(fresh, endpoint, deliver):
    """While the endpoint is away, an older database is restored into the file that deliver has open, and the new ids
    soon pass those that were lost. deliver must not skip the new events with the ids of the lost ones."""
    deliverer, backup = deliver_and_back_up(fresh, endpoint, deliver, in_flight=2)
    endpoint.answer(status(500))
    fresh.record("old2", "old3", "old4", "old5", "old6")
    deliverer.wait_logged("accepts no event now")
    endpoint.wait_requests(5)
    restore_in_place(fresh, backup)
    fresh.record(*(f"new{number}" for number in range(2, 12)))
    endpoint.answer()
    deliverer.wait_logged("restored from a backup")
    deliverer.stop()
    for path in fresh.directory.glob("state*"):
        path.unlink()
    deliver(fresh)
    endpoint.wait_accepted(*(f"new{number}" for number in range(2, 12)))


def test_notices_a_restore_into_the_open_database_at_the_first_new_id(fresh, endpoint, deliver):
    """No event waits. When deliver reads the database again, exactly one event follows the last one that it has
    delivered."""
    deliverer, backup = deliver_and_back_up(fresh, endpoint, deliver)
    fresh.record("old2", "old3")
    endpoint.wait_accepted("old2", "old3")
    deliverer.process.send_signal(signal.SIGSTOP)
    restore_in_place(fresh, backup)
    fresh.record("new2", "new3", "new4")
    deliverer.process.send_signal(signal.SIGCONT)
    deliverer.wait_logged("restored from a backup")
    assert endpoint.accepted() == ["g1", "old2", "old3"]
