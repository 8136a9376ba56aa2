"""Connections on which the client sends nothing leak neither memory nor descriptors.

IMCALLBACKD_SILENT_CONNECTIONS sets their number; `ctest -C campaign -L campaign` uses 100,000."""

import contextlib
import os
import resource
import socket

import pytest

import daemon
from processes import memory_bytes

COUNT = int(os.environ.get("IMCALLBACKD_SILENT_CONNECTIONS", "2000"))
AT_A_TIME = 1000
# The test tolerates this growth, because an allocator retains memory: a fixed amount, and for each connection fewer
# bytes than any object that could leak.
SLACK_BYTES = 2 << 20
BYTES_PER_CONNECTION = 16


def closed_by_the_client(one, count):
    for _ in range(count):
        socket.create_connection(("127.0.0.1", one.port)).close()


def closed_by_the_deadline(one, count):
    for first in range(0, count, AT_A_TIME):
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(socket.create_connection(("127.0.0.1", one.port), timeout=20))
                      for _ in range(min(AT_A_TIME, count - first))]
            assert all(connection.recv(1) == b"" for connection in silent)


@pytest.mark.parametrize("open_and_close", [closed_by_the_client, closed_by_the_deadline])
def test_silent_connections_leak_nothing(make_daemon, open_and_close):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < AT_A_TIME + 100:
        resource.setrlimit(resource.RLIMIT_NOFILE, (AT_A_TIME + 100, hard))
    one = make_daemon({"limits": {"request_timeout": "1s", "connections_per_address": 4096}})
    # AddressSanitizer keeps freed memory in a quarantine, whose growth would look like a leak.
    one.start(environment={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"})
    files = one.open_files()

    def is_quiet():
        return one.open_files() <= files

    for warm_up in (closed_by_the_deadline, open_and_close):
        warm_up(one, 2 * AT_A_TIME)
        daemon.eventually(is_quiet, "the number of descriptors before")

    def grows():
        before = memory_bytes(one.process.pid)
        open_and_close(one, COUNT)
        daemon.eventually(is_quiet, "the number of descriptors before")
        after = memory_bytes(one.process.pid)
        print(f"{COUNT} connections: {before >> 10} KiB before, {after >> 10} after; {one.open_files()} descriptors "
              f"of {files}")
        return after - before >= SLACK_BYTES + COUNT * BYTES_PER_CONNECTION

    # The memory that an allocator retains stops growing at some point, but leaked memory does not.
    assert not all(grows() for _ in range(3))
    assert one.post().status == 200
