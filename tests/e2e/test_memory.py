"""Too little memory, and too few files: callbacks are refused, the daemon stays, and what it acknowledged is there."""

import concurrent.futures
import contextlib
import resource
import threading

import pytest

import daemon
from daemon import event
from processes import memory_bytes

MEMBERS = 40000
SENDERS = 24
HEADROOM = 16 << 20  # bytes, far less than all the bodies together


def large(name):
    return event(GroupId=name, MemberList=[{"Member_Account": f"member {i}"} for i in range(MEMBERS)])


def status_of(connection, data):
    """Of the answer to what ends with this data; None when the connection ends without one."""
    with contextlib.suppress(OSError, AssertionError):
        connection.send(data)
        return connection.read_answer().status
    return None


def recorded(one):
    """The recorded groups, by id, with how many members there are of each."""
    rows = one.sql("SELECT group_id, member_count, (SELECT count(*) FROM destroyed_group_member"
                   " WHERE destroyed_group_id = id) AS members FROM destroyed_group")
    assert all(row["member_count"] == row["members"] for row in rows)
    return {row["group_id"] for row in rows}


@pytest.mark.parametrize("loops", [1, 2])
def test_address_space(make_daemon, loops):
    """Many large bodies that wait for the disk at once, in an address space that has room for few of them."""
    one = make_daemon({"listen": {"threads": loops}, "limits": {"store_wait": "60s"}})
    # For each other arena malloc keeps an address space of 64 MiB, in which all of them would find room.
    one.start(environment={"MALLOC_ARENA_MAX": "1"})
    names = [f"large {i}" for i in range(SENDERS)]
    if memory_bytes(one.process.pid, "VmSize") > 1 << 40:
        pytest.skip("a sanitizer has an address space of its own")
    assert one.post(large("before")).status == 200
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(one.connect()) for _ in names]
        limit = memory_bytes(one.process.pid, "VmSize") + HEADROOM
        resource.prlimit(one.process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        all_are_there = threading.Barrier(SENDERS)

        def send(connection, name):
            whole = daemon.request(large(name))
            with contextlib.suppress(OSError):
                connection.send(whole[:-1])
            all_are_there.wait(60)
            return status_of(connection, whole[-1:])

        with concurrent.futures.ThreadPoolExecutor(SENDERS) as pool:
            with one.locked():
                answers = [pool.submit(send, *each) for each in zip(connections, names)]
                daemon.eventually(lambda: any(answer.done() for answer in answers), "one that finds no room", 60)
            statuses = [answer.result() for answer in answers]
    print(statuses)
    assert one.process.poll() is None, one.log
    assert set(statuses) - {200} and set(statuses) <= {200, 503, None}
    assert one.post(event(GroupId="under the limit")).status == 200
    resource.prlimit(one.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert one.post(large("after")).status == 200
    acknowledged = {name for name, status in zip(names, statuses) if status == 200}
    assert acknowledged | {"before", "under the limit", "after"} <= recorded(one)
    one.stop()
    assert one.value("PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize("files, loops", [(96, 2), (240, 40)])
def test_files(make_daemon, files, loops):
    """Far more connections than files that may be open: those that idle make room for the next."""
    one = make_daemon({"listen": {"threads": loops}}).start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
    with contextlib.ExitStack() as stack:
        for i in range(2 * files):
            connection = stack.enter_context(one.connect())
            assert status_of(connection, daemon.request(event(GroupId=f"{i}"))) == 200
    assert one.post(event(GroupId="after")).status == 200
    assert recorded(one) == {f"{i}" for i in range(2 * files)} | {"after"}
