"""Tests the state of `deliver` after kills, on a full disk, and if it is damaged or in use by another process. Also
tests that retention deletes only delivered events."""

import contextlib
import os
import signal
import sqlite3
import time

import pytest

import daemon
from daemon import BINARY
from delivery import Ledger, deliver_to, wait_delivered
from endpoint import OK, fault, late, status
from monitoring import metrics
from processes import holds

IN_FLIGHT = 4


@pytest.fixture
def disk(fresh):
    """A file system of 8 MiB for the state."""
    path = fresh.directory / "disk"
    path.mkdir()
    if os.geteuid() != 0 or daemon.run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield path
    finally:
        daemon.run("umount", "--lazy", path)


def fill(disk):
    with (disk / "filling").open("ab", buffering=0) as filling, contextlib.suppress(OSError):
        while True:
            filling.write(b"\0" * 4096)


# Kills

def test_a_kill_repeats_at_most_what_was_in_flight(fresh, endpoint, deliver):
    """The test kills deliver at arbitrary moments. Ledger.check() finds events that are lost, repeated too often, or
    sent out of order."""
    endpoint.answer(mix=[(80, OK), (20, late(0.005))])
    deliver_to(fresh, endpoint, in_flight=IN_FLIGHT)
    fresh.start()
    assert fresh.load(connections=20, total=1500, groups=300)[0] == 0
    deliverer = deliver(fresh)
    kills = 8
    for number in range(1, kills + 1):
        endpoint.wait_requests(number * 150)
        deliverer.kill()
        deliverer.start()
    wait_delivered(fresh, endpoint)
    Ledger(fresh, endpoint).check(interrupted=kills * IN_FLIGHT)


def test_a_stop_repeats_nothing(fresh, endpoint, deliver):
    """After SIGTERM, deliver waits for the answers to the requests in flight."""
    endpoint.answer(late(0.05))
    deliver_to(fresh, endpoint, in_flight=IN_FLIGHT)
    fresh.start()
    assert fresh.load(connections=20, total=100, groups=30)[0] == 0
    deliverer = deliver(fresh)
    for number in range(1, 4):
        endpoint.wait_requests(number * 20)
        deliverer.stop()
        deliverer.start()
    wait_delivered(fresh, endpoint)
    assert Ledger(fresh, endpoint).check() == 0


def test_stops_soon_although_the_endpoint_hangs(fresh, endpoint, deliver):
    endpoint.answer(fault("hang"))
    deliver_to(fresh, endpoint, timeout="60s")
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    endpoint.wait_requests(1)
    start = time.monotonic()
    deliverer.stop()
    assert time.monotonic() - start < 11


def test_a_restart_remembers_what_waits(fresh, endpoint, deliver):
    """After a restart, deliver sends the events that failed, but not the later events that were already accepted."""
    endpoint.answer(groups={"bad0": [status(500)], "bad1": [status(400)]})
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0", "bad0", "g1", "bad1", "g2")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("g0", "g1", "g2")
    deliverer.stop()
    endpoint.answer()
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    assert Ledger(fresh, endpoint).check() == 0


def test_survives_the_kill_of_the_receiver(fresh, endpoint, deliver):
    deliver_to(fresh, endpoint, settings={"listen": {"port": daemon.free_port()}})
    fresh.start()
    deliver(fresh)
    for number in range(3):
        fresh.record(f"a{number}")
        fresh.kill()
        fresh.start()
        fresh.record(f"b{number}")
    wait_delivered(fresh, endpoint)
    assert Ledger(fresh, endpoint).check() == 0


# The state file

def test_refuses_a_second_process(fresh, endpoint, deliver):
    """The running process is not disturbed. `check` works meanwhile, because it does not change the state."""
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliver(fresh)
    endpoint.wait_accepted("g0")
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1, done
    assert str(fresh.directory / "state") in done.stderr and "another" in done.stderr, done
    assert daemon.run(BINARY, "check", "-c", fresh.config).returncode == 0
    fresh.record("g1")
    endpoint.wait_accepted("g1")


def test_a_second_process_finds_its_admin_port_in_use(fresh, endpoint, deliver):
    """The port is opened before the state, so its message must name the likely cause, too."""
    deliver_to(fresh, endpoint, admin_port=daemon.free_port())
    fresh.start()
    deliver(fresh).wait_ready()
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and "[deliver] admin_port: another `imcallbackd deliver` may be running: " in done.stderr


@pytest.mark.parametrize("damage", [
    pytest.param(lambda path: path.write_bytes(b"this is not a database" * 100), id="other file"),
    pytest.param(lambda path: path.write_bytes(b"hello\n"), id="short text"),
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:2048] + os.urandom(2048) + path.read_bytes()[4096:]),
                 id="random bytes"),
    pytest.param(lambda path: path.write_bytes(path.read_bytes()[:1000]), id="cut"),
])
def test_refuses_a_damaged_state(fresh, endpoint, deliver, damage):
    """deliver sends nothing, leaves the file unchanged, and names the remedy."""
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("g0")
    deliverer.stop()
    state = fresh.directory / "state"
    damage(state)
    before = state.read_bytes()
    fresh.record("g1")
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and str(state) in done.stderr, done
    assert "delete" in done.stderr or "remove" in done.stderr or "move" in done.stderr, done
    assert state.read_bytes() == before
    assert len(endpoint.requests()) == 1


def test_refuses_a_state_of_a_newer_version(fresh, endpoint, deliver):
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("g0")
    deliverer.stop()
    with contextlib.closing(sqlite3.connect(fresh.directory / "state")) as state:
        state.execute("PRAGMA user_version = 4711")
        state.commit()
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and "version 4711" in done.stderr, done


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_sends_nothing_while_a_file_of_the_state_is_away(fresh, endpoint, deliver, suffix):
    """What deliver wrote to a deleted file would be missing at the next start, which would send the events again."""
    deliver_to(fresh, endpoint, in_flight=1)
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("g0")
    place = fresh.directory / f"state{suffix}"
    away = place.rename(fresh.directory / "away")
    fresh.record("g1", "g2", "g3")
    deliverer.wait_logged("was deleted, moved or replaced")
    assert holds(lambda: len(endpoint.requests()) <= 2)
    away.rename(place)
    endpoint.wait_accepted("g1", "g2", "g3")
    deliverer.stop()
    deliver(fresh).wait_ready()
    assert Ledger(fresh, endpoint).check() == 0


def test_an_unwritable_directory_is_an_error_at_the_start(fresh, endpoint):
    deliver_to(fresh, endpoint, state_file=fresh.directory / "absent" / "state")
    fresh.start()
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and "absent/state: No such file or directory; create the directory" in done.stderr, done
    assert "[deliver] state_file" in done.stderr, done


def test_stops_sending_while_the_disk_of_the_state_is_full(fresh, disk, endpoint, deliver):
    """While the state cannot be written, deliver sends no events beyond those in flight. Delivery continues once there
    is space again."""
    deliver_to(fresh, endpoint, state_file=disk / "state", in_flight=IN_FLIGHT)
    fresh.start()
    fresh.record("first")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("first")
    fill(disk)
    assert fresh.load(connections=10, total=3000, groups=1000)[0] == 0
    deliverer.wait_logged("make room")
    sent = len(endpoint.requests())
    assert sent < 3000
    assert holds(lambda: len(endpoint.requests()) <= sent + IN_FLIGHT)
    (disk / "filling").unlink()
    wait_delivered(fresh, endpoint, 120)
    assert Ledger(fresh, endpoint).check(interrupted=IN_FLIGHT) <= IN_FLIGHT


def test_a_start_on_a_full_disk_fails_with_the_remedy(fresh, disk, endpoint, deliver):
    """deliver may exit, because the service manager restarts it until there is space."""
    deliver_to(fresh, endpoint, state_file=disk / "state")
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("g0")
    deliverer.kill()
    fill(disk)
    fresh.record("g1")
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and "make room" in done.stderr and str(disk) in done.stderr, done
    (disk / "filling").unlink()
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    Ledger(fresh, endpoint).check(interrupted=1)


def break_state(path):
    """Makes each later removal of a waiting event fail with an error that no repetition repairs."""
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as state, state:
        state.execute("CREATE TRIGGER planted BEFORE DELETE ON waiting BEGIN SELECT RAISE(ABORT, 'planted'); END")


def test_an_error_of_the_state_ends_deliver(fresh, endpoint, deliver):
    """deliver does not wait for the request in flight, because deliver could not write the result."""
    endpoint.answer(groups={"hangs": [fault("hang")]})
    deliver_to(fresh, endpoint, timeout="60s")
    fresh.start()
    fresh.record("hangs")
    deliverer = deliver(fresh)
    endpoint.wait_requests(1)
    break_state(fresh.directory / "state")
    fresh.record("g1")
    endpoint.wait_accepted("g1")
    assert deliverer.wait_exit(4) == 1  # a stop would wait 5 s for the request in flight
    assert f"{fresh.directory / 'state'}: planted" in deliverer.log


def test_a_stop_that_cannot_write_the_state_fails(fresh, endpoint, deliver):
    """deliver cannot write the result of the request in flight, so its exit status reports a failure."""
    endpoint.answer(late(3))
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    endpoint.wait_requests(1)
    break_state(fresh.directory / "state")
    assert deliverer.end(signal.SIGTERM) == 1
    assert f"{fresh.directory / 'state'}: planted" in deliverer.log


# Retention and deleted events

def test_sets_an_event_aside_that_was_deleted(fresh, endpoint, deliver):
    """The next event of the group follows. No replay can send the deleted event, so the log does not suggest one."""
    endpoint.answer(groups={"a": [status(500), OK]})
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("a")
    fresh.record("a", EventTime=2)
    deliverer = deliver(fresh)
    endpoint.wait_requests(1)
    with contextlib.closing(sqlite3.connect(fresh.database, timeout=20)) as database, database:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("DELETE FROM destroyed_group WHERE id = 1")
    deliverer.wait_logged("event 1 is set aside")
    endpoint.wait_accepted("a")
    assert "retention" in deliverer.log and "--replay" not in deliverer.log
    assert [request.json["EventTime"] for request in endpoint.requests() if request.accepted] == ["2"]


def make_old(one):
    """Makes all recorded events ten days older, and records one that is too young for retention."""
    one.stop()
    with contextlib.closing(sqlite3.connect(one.database)) as database, database:
        database.execute("UPDATE destroyed_group SET received_at_ms = received_at_ms - 864000000")
    one.start()
    one.record("recent")


def apply_retention(one, write):
    """Applies retention at once by changing its value. Without a change, the daemon looks for old events only once a
    minute. The second event is recorded only after the writer has seen the value that was set before the first one."""
    for retention in ("2d", "1d"):
        write(retention)
        one.reload()
        one.record("after the reload")
        one.record("after the reload")


def test_retention_deletes_only_what_was_delivered(fresh, endpoint, deliver):
    """Retention keeps an event that fails, and all later events, because the note states only the id up to which every
    event is delivered."""
    def write(retention):
        deliver_to(fresh, endpoint, {"store": {"retention": retention}})

    endpoint.answer(groups={"bad": [status(500)]})
    write("1d")
    fresh.start()
    fresh.record("g1", "g2", "bad", "good")
    make_old(fresh)
    apply_retention(fresh, write)
    assert holds(lambda: len(fresh.group_ids()) == 6)  # deliver never ran
    deliverer = deliver(fresh)
    endpoint.wait_accepted("good", "after the reload")
    note = fresh.directory / "state.shipped"
    daemon.eventually(lambda: note.exists() and " groups 2 " in note.read_text(), "the note")
    apply_retention(fresh, write)
    daemon.eventually(lambda: fresh.group_ids() == ["bad", "good", "recent", "after the reload"], "deletion",
                      90)  # if a pass is missed, the next one is a minute later
    endpoint.answer()
    endpoint.wait_accepted("bad")
    daemon.eventually(lambda: " groups 6 " in note.read_text(), "the note")
    apply_retention(fresh, write)
    daemon.eventually(lambda: fresh.group_ids() == ["recent", "after the reload"], "deletion", 90)
    deliverer.stop()
    fresh.record("later")
    deliver(fresh)
    endpoint.wait_accepted("later")


def test_retention_waits_for_forward_too(fresh, endpoint, deliver):
    """Retention deletes only events that both services have sent. All events are delivered, but the forwarder has no
    note at first, and then a note that states only the first event."""
    def write(retention):
        deliver_to(fresh, endpoint, {"store": {"retention": retention}, "forward": {
            "receiver": "a", "url": "postgresql://owner@127.0.0.1:1/x", "shipped_file": fresh.directory / "shipped",
            "admin_port": 0}})

    write("1d")
    fresh.start()
    fresh.record("g1", "g2")
    make_old(fresh)
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    note = fresh.directory / "state.shipped"
    daemon.eventually(lambda: note.exists() and " groups 3 " in note.read_text(), "the note")
    apply_retention(fresh, write)
    assert holds(lambda: fresh.group_ids()[:2] == ["g1", "g2"])
    (fresh.directory / "shipped").write_text(note.read_text().replace(" groups 3 ", " groups 1 "))
    apply_retention(fresh, write)
    daemon.eventually(lambda: fresh.group_ids()[0] == "g2", "deletion")
    assert holds(lambda: fresh.group_ids()[0] == "g2")


# Many events

def test_bounds_what_waits(fresh, endpoint, deliver):
    """While the endpoint is away, at most 10,000 events wait, so neither the memory nor the state of deliver grows
    without limit."""
    port = daemon.free_port()
    endpoint.stop()
    deliver_to(fresh, endpoint, admin_port=port)
    fresh.start()
    assert fresh.load(connections=50, total=12_000)[0] == 0
    deliver(fresh).wait_ready()
    daemon.eventually(lambda: metrics(port)["imcallbackd_deliver_lag_events"] == 12_000, "the lag")
    assert metrics(port)["imcallbackd_deliver_waiting"] <= 10_000
    endpoint.start()
    wait_delivered(fresh, endpoint, 240)
    assert Ledger(fresh, endpoint).check() == 0
