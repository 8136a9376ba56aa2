"""Tests restarts under load while the service manager holds the socket: every connection is accepted and answered."""

import os
import socket
import threading

import pytest

import daemon

RESTARTS = int(os.environ.get("RESTARTS", "5"))  # more with RESTARTS=20 ctest -R e2e-restart


@pytest.mark.parametrize("connections", [1, 16])
def test_restarts_refuse_no_connection(fresh, connections):
    """Each event is sent once, over a new connection."""
    reports, over = [], threading.Event()

    def send_until_over():
        while not over.is_set():
            # A handshake may have to wait until the next daemon has started, which takes long on a busy machine.
            reports.append(fresh.load(connections=connections, total=100, new_connection=True, timeout=60)[1])

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        fresh.start(sockets=[listener], names="callback")
        sender = threading.Thread(target=send_until_over)
        sender.start()
        try:
            for _ in range(RESTARTS):
                recorded = fresh.value("SELECT count(*) FROM destroyed_group")
                daemon.eventually(lambda: fresh.value("SELECT count(*) FROM destroyed_group") > recorded + 20, "events")
                fresh.stop()
                fresh.start(sockets=[listener], names="callback")
        finally:
            over.set()
            sender.join()
    total = sum(report["requests"] for report in reports)
    print(f"{RESTARTS} restarts, {total} connections")
    for report in reports:
        assert report["failed_connections"] == report["unanswered"] == 0, report
        assert report["by_status"] == {"200": 100}, report
    assert fresh.value("SELECT count(*) FROM destroyed_group") == total
