"""Good and bad requests, again and again: memory, descriptors and the write-ahead log stay what they are.
REQUESTS=1000000 for a campaign."""

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
WARM_UP = 4  # segments until every cache is full
LONG = REQUESTS >= 500_000
# A short run does not come to the end of the warm-up: SQLite's page cache has 16 MiB to fill.
SHORT_ROOM_KIB = 20 * 1024
MAX_LOG_BYTES = 64 * 1024 * 1024


class Clumsy(threading.Thread):
    """Everything that a caller can do wrong, on connections that it does not always close."""

    def __init__(self, one):
        super().__init__()
        self.one, self.stopping, self.surprise = one, threading.Event(), None

    def requests(self):
        """Each with the status of its answer; None: it gets none."""
        good = request(event(GroupId="clumsy"))
        return [
            (request(b"{"), 400), (request(b"\xff" * 100), 400), (request(event(), target="/other"), 404),
            (request(event(), query=query_string(SdkAppid=1)), 403), (request(event(GroupId=None)), 400),
            (good.replace(b"POST", b"GET ", 1), 400), (good.replace(b"Host", b"Ho st", 1), 400),
            (good.replace(b"Content-Length: ", b"Content-Length: 9999999", 1), 413), (good[:-10], None), (good[:40], None),
            (b"", None), (good, 200),
        ]

    def run(self):
        while not self.stopping.is_set() and not self.surprise:
            for data, status in self.requests():  # made anew, because a signature grows old
                with contextlib.suppress(OSError, ssl.SSLError), self.one.connect() as connection:
                    connection.send(data)
                    if status and int((head := connection.read_head()).split()[1]) != status:
                        self.surprise = (data, head)


def run_segment(one, number, requests):
    """Valid events, repeats and contradictions of those of the segment before, and forged ones, all at the same time."""
    kinds = [({"seed": number + 2, "members": 3}, 0.6, "200"), ({"seed": number + 1, "members": 3}, 0.2, "200"),
             ({"seed": number + 1, "members": 2}, 0.1, "200"), ({"seed": 1, "token": "forged"}, 0.1, "403")]
    running = [(one.start_load(connections=8, total=int(requests * share), **options), status)
               for options, share, status in kinds]
    for process, status in running:
        report = load_report(process)
        assert list(report["by_status"]) == [status] and report["unanswered"] == 0, report
    return requests


def test_nothing_grows(make_daemon):
    one = make_daemon({"limits": {"body": "1M"}})
    # A sanitizer keeps what was freed for a while.
    one.start(environment={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"})
    clumsy = Clumsy(one)
    clumsy.start()
    figures = []
    try:
        for number in range(SEGMENTS):
            run_segment(one, number, REQUESTS // SEGMENTS)
            log = pathlib.Path(f"{one.database}-wal").stat().st_size
            figures.append((memory_bytes(one.process.pid) >> 10, one.open_files(), log))
            assert log < MAX_LOG_BYTES
    finally:
        clumsy.stopping.set()
        clumsy.join()
    assert not clumsy.surprise
    daemon.eventually(lambda: one.open_files() <= min(files for _, files, _ in figures), "all descriptors given back")
    warm, last = figures[WARM_UP - 1][0], figures[-1][0]
    print(f"{REQUESTS} requests: resident {warm} KiB after the warm-up, {last} KiB in the end; largest log "
          f"{max(log for _, _, log in figures)} bytes")
    assert last < (warm * 1.01 if LONG else warm + SHORT_ROOM_KIB), figures
    assert one.groups("clumsy")
