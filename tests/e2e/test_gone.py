"""Tests that the daemon records the events of clients that disconnect before they get an answer, and that it releases
all resources."""

import contextlib
import os
import socket
import struct

import pytest

from daemon import event, eventually, free_port, request
from monitoring import metrics

CALLERS = 50


def reset(connection):
    connection.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.tls.close()


def close(connection):
    connection.tls.close()


def close_half(connection):
    """Stops sending without a TLS close_notify, but still reads. The server may answer or close the connection."""
    # shutdown() of Python's TLS socket would also discard the TLS state, without which the answer cannot be decrypted.
    with socket.socket(fileno=os.dup(connection.tls.fileno())) as tcp:
        tcp.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("stopping", [False, True], ids=["running", "stopping"])
@pytest.mark.parametrize("leave", [reset, close, close_half], ids=lambda leave: leave.__name__)
def test_records_events_of_clients_that_disconnect(make_daemon, leave, stopping):
    port = free_port()
    one = make_daemon({"admin": {"port": port}, "limits": {"store_wait": "60s"}}).start()
    names = [f"gone-{i}" for i in range(CALLERS)]
    with contextlib.ExitStack() as stack:
        callers = [stack.enter_context(one.connect()) for _ in names]
        with one.locked():
            for name, caller in zip(names, callers):
                caller.send(request(event(GroupId=name)))
            eventually(lambda: metrics(port)["imcallbackd_waiting_requests"] == CALLERS, "all requests to be pending")
            for caller in callers:
                leave(caller)
            if stopping:
                one.process.terminate()
                one.wait_notified("STOPPING=1")
        if leave is close_half:
            for caller in callers:
                caller.read_rest()
        if not stopping:
            eventually(lambda: metrics(port)["imcallbackd_connections"] == 0, "no open connection")
            assert metrics(port)["imcallbackd_waiting_requests"] == 0
            assert one.post(event(GroupId="stayed")).status == 200
            one.process.terminate()
        assert one.wait_exit() == 0
    assert sorted(one.group_ids("gone-")) == sorted(names)
