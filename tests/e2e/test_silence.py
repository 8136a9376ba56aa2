"""Connections that come, say nothing and go leave nothing behind.

IMCALLBACKD_SILENT_CONNECTIONS is how many; `ctest -C campaign -L campaign` takes 100,000."""

import contextlib
import os
import resource
import socket

import pytest

import daemon
from processes import memory_bytes

COUNT = int(os.environ.get("IMCALLBACKD_SILENT_CONNECTIONS", "2000"))
CROWD = 1000  # at a time
# What an allocator may have kept, and what each connection may leave: less than anything that could be lost.
SLACK_BYTES = 2 << 20
BYTES_A_CONNECTION = 16


def closed_by_the_client(one, count):
    for _ in range(count):
        socket.create_connection(("127.0.0.1", one.port)).close()


def closed_by_the_deadline(one, count):
    for begin in range(0, count, CROWD):
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=20))
                     for _ in range(min(CROWD, count - begin))]
            assert all(silent.recv(1) == b"" for silent in crowd)


@pytest.mark.parametrize("come_and_go", [closed_by_the_client, closed_by_the_deadline])
def test_silent_connections_leave_nothing(make_daemon, come_and_go):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < CROWD + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (CROWD + 100, hard))
    one = make_daemon({"limits": {"request_timeout": "1s", "connections_per_address": 4096}})
    # A sanitizer keeps what was freed for a while.
    one.start(environment={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"})
    files = one.open_files()

    def is_quiet():
        return one.open_files() <= files

    for warm_up in (closed_by_the_deadline, come_and_go):
        warm_up(one, 2 * CROWD)
        daemon.eventually(is_quiet, "the descriptors that were there before")

    def grows():
        before = memory_bytes(one.process.pid)
        come_and_go(one, COUNT)
        daemon.eventually(is_quiet, "the descriptors that were there before")
        after = memory_bytes(one.process.pid)
        print(f"{COUNT} connections: {before >> 10} KiB before, {after >> 10} after; {one.open_files()} descriptors "
              f"of {files}")
        return after - before >= SLACK_BYTES + COUNT * BYTES_A_CONNECTION

    # An allocator settles; a loss goes on.
    assert not all(grows() for _ in range(3))
    assert one.post().status == 200
