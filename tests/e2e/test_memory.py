"""When memory runs out, the daemon refuses callbacks, and when descriptors run out, it closes idle connections. In both
cases it keeps running and loses no acknowledged event."""

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


LARGE = event(GroupId="name", MemberList=[{"Member_Account": f"member {i}"} for i in range(MEMBERS)])


def large(name):
    return LARGE.replace(b'"name"', f'"{name}"'.encode(), 1)


def status_of(connection, data):
    """Sends a request or the rest of one. Returns the status of the answer, or None if there is no answer."""
    with contextlib.suppress(OSError, AssertionError):
        return connection.answer_to(data).status
    return None


def recorded(one):
    """Returns the ids of the recorded groups, after a check that all members are there."""
    rows = one.sql("SELECT group_id, member_count, (SELECT count(*) FROM destroyed_group_member"
                   " WHERE destroyed_group_id = id) AS members FROM destroyed_group")
    assert all(row["member_count"] == row["members"] for row in rows)
    return {row["group_id"] for row in rows}


@pytest.mark.parametrize("loops", [1, 2])
def test_survives_exhausted_address_space(make_daemon, loops):
    """Many large bodies wait for the disk at once, but the address space has room for only a few of them."""
    one = make_daemon({"listen": {"threads": loops}, "limits": {"store_wait": "60s"}})
    # malloc reserves 64 MiB of address space per additional arena, in which all bodies would fit.
    one.start(environment={"MALLOC_ARENA_MAX": "1"})
    names = [f"large {i}" for i in range(SENDERS)]
    if memory_bytes(one.process.pid, "VmSize") > 1 << 40:
        pytest.skip("a sanitizer reserves address space")
    assert one.post(large("before")).status == 200
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(one.connect()) for _ in names]
        limit = memory_bytes(one.process.pid, "VmSize") + HEADROOM
        resource.prlimit(one.process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        all_are_sent = threading.Barrier(SENDERS)

        def send(connection, name):
            whole = daemon.request(large(name))
            with contextlib.suppress(OSError):
                connection.send(whole[:-1])
            all_are_sent.wait(60)
            return status_of(connection, whole[-1:])

        with concurrent.futures.ThreadPoolExecutor(SENDERS) as pool:
            with one.locked():
                answers = [pool.submit(send, *each) for each in zip(connections, names)]
                daemon.eventually(lambda: any(answer.done() for answer in answers), "a refused body", 60)
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
def test_idle_connections_are_closed_when_descriptors_run_out(make_daemon, files, loops):
    """The clients open twice as many connections as the daemon has descriptors, so the daemon closes idle connections
    for new ones."""
    one = make_daemon({"listen": {"threads": loops}}).start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
    with contextlib.ExitStack() as stack:
        for i in range(2 * files):
            connection = stack.enter_context(one.connect())
            assert status_of(connection, daemon.request(event(GroupId=f"{i}"))) == 200
    assert one.post(event(GroupId="after")).status == 200
    assert recorded(one) == {f"{i}" for i in range(2 * files)} | {"after"}
