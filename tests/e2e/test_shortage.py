"""What the operator's disk and the operator do to the store: no room, somebody's lock, somebody's long look."""

import contextlib
import os
import pathlib
import threading

import pytest

from daemon import event, eventually, free_port, run
from monitoring import ask


@pytest.fixture
def make_small(make_daemon):
    """Makes daemons whose database lies on a disk of a few MB."""
    disks = []

    def make(settings=None):
        one = make_daemon()
        disk = one.directory / "disk"
        disk.mkdir()
        if os.geteuid() != 0 or run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk).returncode != 0:
            pytest.skip("a small disk can be made by root alone")
        disks.append((one, disk))
        one.database = disk / "callbacks.db"
        one.write_config({"store": {"database": one.database}, "limits": {"store_wait": "1s"}} | (settings or {}))
        return one

    try:
        yield make
    finally:
        for one, disk in disks:
            if one.process:
                one.kill()
            run("umount", "--lazy", disk)


def fill(one):
    with open(one.database.parent / "filling", "ab", buffering=0) as filling, contextlib.suppress(OSError):
        while True:
            filling.write(b"\0" * 4096)


def make_room(one):
    (one.database.parent / "filling").unlink()


def post_until_full(one):
    """Events until one is refused. Returns the ids of those that were recorded, and the refused one with its answer."""
    recorded = []
    for number in range(1000):
        answer = one.post(event(GroupId=f"@TGS#{number}", Name="x" * 8000))
        if answer.status != 200:
            return recorded, f"@TGS#{number}", answer
        recorded.append(f"@TGS#{number}")
    raise AssertionError("the disk was never full")


def in_background(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


def readiness(port):
    """The status of /readyz, and the reason in words."""
    status, _, text = ask(port, "/readyz")
    return status, text


def test_a_full_disk(make_small):
    port = free_port()
    one = make_small({"admin": {"port": port}}).start()
    assert one.post(event(GroupId="@TGS#first")).status == 200
    fill(one)
    recorded, refused, answer = post_until_full(one)
    assert answer.status == 503 and "retry-after" in answer.headers, answer
    assert "make room" in one.log
    (line,) = [line for line in one.lines if line.startswith("<2>")]
    assert f'"GroupId":"{refused}"' in line and "x" * 8000 in line
    status, reason = readiness(port)
    assert status == 503 and str(one.database) in reason, reason

    # What is held is recorded when room returns, and recovery needs no restart.
    one.write_config({"store": {"database": one.database}, "limits": {"store_wait": "30s"}})
    one.reload()
    thread, answers = in_background(lambda: one.post(event(GroupId="@TGS#held")))
    make_room(one)
    thread.join()
    assert answers[0].status == 200
    assert one.post(event(GroupId="@TGS#after")).status == 200
    eventually(lambda: "can be recorded again" in one.log, "the line that says so")
    assert one.group_ids() == ["@TGS#first", *recorded, "@TGS#held", "@TGS#after"]
    assert readiness(port)[0] == 200
    one.stop()


def test_a_start_on_a_full_disk(make_small):
    one = make_small().start()
    assert one.post(event(GroupId="@TGS#first")).status == 200
    one.kill()
    fill(one)
    one.start()
    thread, answers = in_background(lambda: post_until_full(one))
    thread.join()
    make_room(one)
    recorded, refused, _ = answers[0]
    assert one.post(event(GroupId=refused)).status == 200
    assert one.group_ids() == ["@TGS#first", *recorded, refused]
    one.stop()


def test_a_stop_on_a_full_disk(make_small):
    one = make_small({"limits": {"store_wait": "1h"}}).start()
    fill(one)
    thread, answers = in_background(lambda: post_until_full(one))
    eventually(lambda: "make room" in one.log, "a commit that does not fit")
    one.stop()
    thread.join()
    recorded, refused, answer = answers[0]
    assert answer.status == 503
    assert f'"GroupId":"{refused}"' in one.log
    make_room(one)
    one.start()
    assert one.group_ids() == recorded


def test_no_room_for_a_new_database(make_small):
    one = make_small()
    fill(one)
    done = run(os.environ["IMCALLBACKD"], "serve", "-c", one.config)
    assert done.returncode == 1
    assert str(one.database) in done.stderr and "make room" in done.stderr, done.stderr


@pytest.mark.parametrize("wait, status", [("30s", 200), ("0s", 503)])
def test_a_lock_in_the_shell(make_daemon, wait, status):
    one = make_daemon({"limits": {"store_wait": wait}}).start()
    with one.locked():
        thread, answers = in_background(lambda: one.post(event(GroupId="@TGS#waits")))
        eventually(lambda: "another process is in the way" in one.log, "a commit that meets the lock")
        if status == 503:
            thread.join()
    thread.join()
    assert answers[0].status == status
    assert one.group_ids() == (["@TGS#waits"] if status == 200 else [])
    eventually(lambda: "can be recorded again" in one.log, "the line that says so")


def test_a_start_under_a_lock(make_daemon):
    one = make_daemon({"limits": {"store_wait": "30s"}}).start()
    one.stop()
    with one.locked():
        one.start()
        thread, answers = in_background(lambda: one.post(event(GroupId="@TGS#waits")))
    thread.join()
    assert answers[0].status == 200
    assert one.group_ids() == ["@TGS#waits"]


def test_a_long_look_costs_nothing(make_daemon):
    one = make_daemon().start()
    assert one.post(event(GroupId="@TGS#1")).status == 200
    with one.reading():
        for number in range(2, 5):
            assert one.post(event(GroupId=f"@TGS#{number}")).status == 200
        one.kill()
        one.start()
        assert one.post(event(GroupId="@TGS#5")).status == 200
        one.stop()
        assert pathlib.Path(f"{one.database}-wal").stat().st_size > 0  # the reader is in the way to the very end
    assert one.group_ids() == [f"@TGS#{number}" for number in range(1, 6)]
