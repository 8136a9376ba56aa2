"""Tests temporary conditions: a full disk, a lock that another process holds, a long read transaction, and a lack of
file descriptors."""

import contextlib
import os
import pathlib
import resource
import threading

import pytest

from daemon import event, eventually, free_port, run
from monitoring import ask
from processes import cpu_seconds, holds


@pytest.fixture
def make_small(make_daemon):
    """Makes daemons whose database is on a file system of 4 MiB."""
    disks = []

    def make(settings=None):
        one = make_daemon()
        disk = one.directory / "disk"
        disk.mkdir()
        if os.geteuid() != 0 or run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", disk).returncode != 0:
            pytest.skip("only root can mount a small disk")
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
    """Fills the disk."""
    with open(one.database.parent / "filling", "ab", buffering=0) as filling, contextlib.suppress(OSError):
        while True:
            filling.write(b"\0" * 4096)


def free_space(one):
    """Undoes fill()."""
    (one.database.parent / "filling").unlink()


def post_until_full(one):
    """Posts events until one is refused. Returns the recorded ids, the refused id and its answer."""
    recorded = []
    for number in range(1000):
        answer = one.post(event(GroupId=f"@TGS#{number}", Name="x" * 8000))
        if answer.status != 200:
            return recorded, f"@TGS#{number}", answer
        recorded.append(f"@TGS#{number}")
    raise AssertionError("the disk did not become full")


def in_background(work):
    """Runs the function in a new thread. Returns the thread and a list, to which the thread appends the result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    return thread, results


def readiness(port):
    """Returns the status and the text of /readyz."""
    status, _, text = ask(port, "/readyz")
    return status, text


def test_recovers_from_a_full_disk_without_a_restart(make_small):
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

    # A held callback is recorded once there is space again.
    one.reload({"store": {"database": one.database}, "limits": {"store_wait": "30s"}})
    thread, answers = in_background(lambda: one.post(event(GroupId="@TGS#held")))
    free_space(one)
    thread.join()
    assert answers[0].status == 200
    assert one.post(event(GroupId="@TGS#after")).status == 200
    eventually(lambda: "can be recorded again" in one.log, "the line about the recovery")
    assert one.group_ids() == ["@TGS#first", *recorded, "@TGS#held", "@TGS#after"]
    assert readiness(port)[0] == 200
    one.stop()


def test_starts_on_a_full_disk(make_small):
    one = make_small().start()
    assert one.post(event(GroupId="@TGS#first")).status == 200
    one.kill()
    fill(one)
    one.start()
    thread, answers = in_background(lambda: post_until_full(one))
    thread.join()
    free_space(one)
    recorded, refused, _ = answers[0]
    assert one.post(event(GroupId=refused)).status == 200
    assert one.group_ids() == ["@TGS#first", *recorded, refused]
    one.stop()


def test_stops_on_a_full_disk(make_small):
    one = make_small({"limits": {"store_wait": "1h"}}).start()
    fill(one)
    thread, answers = in_background(lambda: post_until_full(one))
    eventually(lambda: "make room" in one.log, "a commit that fails")
    one.stop()
    thread.join()
    recorded, refused, answer = answers[0]
    assert answer.status == 503
    assert f'"GroupId":"{refused}"' in one.log
    free_space(one)
    one.start()
    assert one.group_ids() == recorded


def test_refuses_to_create_a_database_on_a_full_disk(make_small):
    one = make_small()
    fill(one)
    done = run(os.environ["IMCALLBACKD"], "serve", "-c", one.config)
    assert done.returncode == 1
    assert str(one.database) in done.stderr and "make room" in done.stderr, done.stderr


@pytest.mark.parametrize("wait, status", [("30s", 200), ("0s", 503)])
def test_holds_callbacks_while_another_process_locks_the_database(make_daemon, wait, status):
    one = make_daemon({"limits": {"store_wait": wait}}).start()
    with one.locked():
        thread, answers = in_background(lambda: one.post(event(GroupId="@TGS#waits")))
        eventually(lambda: "end the process that holds the lock" in one.log, "a commit that meets the lock")
        if status == 503:
            thread.join()
    thread.join()
    assert answers[0].status == status
    assert one.group_ids() == (["@TGS#waits"] if status == 200 else [])
    eventually(lambda: "can be recorded again" in one.log, "the line about the recovery")


def test_starts_while_another_process_locks_the_database(make_daemon):
    one = make_daemon({"limits": {"store_wait": "30s"}}).start()
    one.stop()
    with one.locked():
        one.start()
        thread, answers = in_background(lambda: one.post(event(GroupId="@TGS#waits")))
    thread.join()
    assert answers[0].status == 200
    assert one.group_ids() == ["@TGS#waits"]


def test_a_long_read_transaction_fails_no_callback(one):
    assert one.post(event(GroupId="@TGS#1")).status == 200
    with one.reading():
        one.record(*(f"@TGS#{number}" for number in range(2, 5)))
        one.kill()
        one.start()
        assert one.post(event(GroupId="@TGS#5")).status == 200
        one.stop()
        assert pathlib.Path(f"{one.database}-wal").stat().st_size > 0  # the reader blocks even the last checkpoint
    assert one.group_ids() == [f"@TGS#{number}" for number in range(1, 6)]


@pytest.mark.timing
def test_recovers_after_the_descriptors_ran_out(make_daemon):
    """Clients wait in the queue of the kernel. Meanwhile the daemon does not try to accept them without a pause."""
    one = make_daemon().start()
    pid = one.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (one.open_files(), before[1]))
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(one.connect_plain())
        eventually(lambda: "raise LimitNOFILE=" in one.log, "the log line")
        used = cpu_seconds(pid)
        assert holds(lambda: one.process.poll() is None, 1)
        assert cpu_seconds(pid) - used < 0.1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert one.post().status == 200
