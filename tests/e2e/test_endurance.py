"""Sends valid and faulty requests for a long time. Memory, descriptors and the write-ahead log must not grow without
limit. Set REQUESTS=1000000 for a campaign."""

import contextlib
import os
import pathlib
import ssl
import threading

import daemon
from daemon import event, load_report, query_string, request
from processes import memory_bytes

REQUESTS = int(os.environ.get("REQUESTS", "20000"))
SEGMENTS = 20
WARM_UP = 4  # segments, after which a long run has filled every cache
LONG = REQUESTS >= 500_000
# The resident memory may grow by this size in a short run, whose warm-up does not fill SQLite's page cache of 16 MiB.
SHORT_GROWTH_KIB = 20 * 1024
MAX_LOG_BYTES = 64 * 1024 * 1024


class FaultyClient(threading.Thread):
    """Sends faulty, truncated and valid requests, and closes each connection without a TLS close_notify."""

    def __init__(self, one):
        super().__init__()
        self.one, self.stopping, self.unexpected = one, threading.Event(), None

    def requests(self):
        """Returns pairs of a request and the status of its answer. The status is None if the request is incomplete."""
        good = request(event(GroupId="faulty"))
        return [
            (request(b"{"), 400), (request(b"\xff" * 100), 400), (request(event(), target="/other"), 404),
            (request(event(), query=query_string(SdkAppid=1)), 403), (request(event(GroupId=None)), 400),
            (good.replace(b"POST", b"GET ", 1), 400), (good.replace(b"Host", b"Ho st", 1), 400),
            (good.replace(b"Content-Length: ", b"Content-Length: 9999999", 1), 413), (good[:-10], None), (good[:40], None),
            (b"", None), (good, 200),
        ]

    def run(self):
        while not self.stopping.is_set() and not self.unexpected:
            for data, status in self.requests():  # new requests, because signatures expire
                with contextlib.suppress(OSError, ssl.SSLError), self.one.connect() as connection:
                    connection.send(data)
                    if status and int((head := connection.read_head()).split()[1]) != status:
                        self.unexpected = (data, head)


def run_segment(one, number, requests):
    """Sends new events, repeats of the previous segment's events, conflicts with these events, and forged events, all
    at the same time."""
    kinds = [({"seed": number + 2, "members": 3}, 0.6, "200"), ({"seed": number + 1, "members": 3}, 0.2, "200"),
             ({"seed": number + 1, "members": 2}, 0.1, "200"), ({"seed": 1, "token": "forged"}, 0.1, "403")]
    running = [(one.start_load(connections=8, total=int(requests * share), **options), status)
               for options, share, status in kinds]
    for process, status in running:
        report = load_report(process)
        assert list(report["by_status"]) == [status] and report["unanswered"] == 0, report
    return requests


def test_memory_descriptors_and_log_do_not_grow(make_daemon):
    one = make_daemon({"limits": {"body": "1M"}})
    # AddressSanitizer keeps freed memory in a quarantine, whose growth would look like a leak.
    one.start(environment={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"})
    client = FaultyClient(one)
    client.start()
    figures = []
    try:
        for number in range(SEGMENTS):
            run_segment(one, number, REQUESTS // SEGMENTS)
            log = pathlib.Path(f"{one.database}-wal").stat().st_size
            figures.append((memory_bytes(one.process.pid) >> 10, one.open_files(), log))
            assert log < MAX_LOG_BYTES
    finally:
        client.stopping.set()
        client.join()
    assert not client.unexpected
    daemon.eventually(lambda: one.open_files() <= min(files for _, files, _ in figures), "the release of descriptors")
    warm, last = figures[WARM_UP - 1][0], figures[-1][0]
    print(f"{REQUESTS} requests: resident {warm} KiB after the warm-up, {last} KiB at the end; largest log "
          f"{max(log for _, _, log in figures)} bytes")
    assert last < (warm * 1.01 if LONG else warm + SHORT_GROWTH_KIB), figures
    assert one.groups("faulty")
