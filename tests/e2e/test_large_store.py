"""Tests a large store under load: the daemon starts and answers, a backup and an export succeed, and retention deletes
old events.

EVENTS sets the number of stored events, each with 20 members; `ctest -C campaign -L campaign` uses 1,000,000. The test
prints how long each step takes."""

import contextlib
import os
import sqlite3
import subprocess
import time

import daemon
from daemon import BINARY
from monitoring import ask

EVENTS = int(os.environ.get("EVENTS", "3000"))
MEMBERS = 20
DAY_MS = 86_400_000
DEADLINE = 120 + EVENTS / 200
REQUESTS = 2000


def fill(one):
    """Inserts EVENTS events. The older half was received ten days ago."""
    with contextlib.closing(sqlite3.connect(one.database)) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        now_ms = time.time_ns() // 1_000_000
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) INSERT INTO destroyed_group "
            "SELECT i, 1400000000, '@TGS#' || i, ? + i, 'Public', 'owner', 'owner', 'a group', ?, 'RESTAPI', '', "
            "'127.0.0.1', iif(i <= ?, ?, ?), NULL FROM n",
            (EVENTS, now_ms - 20 * DAY_MS, MEMBERS, EVENTS // 2, now_ms - 10 * DAY_MS, now_ms))
        db.execute(
            "WITH RECURSIVE m(p) AS (SELECT 0 UNION ALL SELECT p + 1 FROM m LIMIT ?) INSERT INTO "
            "destroyed_group_member SELECT id, p, 'account_' || (id * 31 + p) FROM destroyed_group CROSS JOIN m",
            (MEMBERS,))


class Load:
    """Sends callbacks on 8 connections, and prints how long the answers take."""

    def __init__(self, one):
        self.one = one
        self.recorded = 0

    def while_true(self, what, condition):
        begin = time.monotonic()
        reports = []
        while not reports or condition():
            assert time.monotonic() - begin < DEADLINE, what
            status, report = self.one.load(connections=8, total=REQUESTS, members=3)
            assert (status, report["ok"]) == (0, REQUESTS), report
            reports.append(report)
        self.recorded += REQUESTS * len(reports)
        middle = sorted(reports, key=lambda report: report["p99_us"])[len(reports) // 2]
        print(f"{what}: {time.monotonic() - begin:.1f} s; answers p50 {middle['p50_us']}, p99 {middle['p99_us']}, "
              f"worst p99 {max(report['p99_us'] for report in reports)} us; "
              f"{round(REQUESTS * len(reports) / sum(report['seconds'] for report in reports))} a second")

    def during(self, what, *arguments, **options):
        begin = time.monotonic()
        process = subprocess.Popen([BINARY, *arguments, "-c", str(self.one.config)], **options)
        self.while_true(what, lambda: process.poll() is None)
        assert process.wait() == 0
        print(f"{what}: within {time.monotonic() - begin:.1f} s")


def rows(path, query):
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute(query).fetchone()[0]


def test_large_store(make_daemon):
    port = daemon.free_port()
    one = make_daemon({"admin": {"port": port}}).start()
    load = Load(one)
    load.while_true("empty", lambda: False)
    one.stop()
    with contextlib.closing(sqlite3.connect(one.database)) as db, db:
        db.execute("DELETE FROM destroyed_group_member")
        db.execute("DELETE FROM destroyed_group")
    load.recorded = 0
    fill(one)
    size = one.database.stat().st_size

    begin = time.monotonic()
    one.start()
    print(f"{EVENTS} events, {size >> 20} MiB: ready after {time.monotonic() - begin:.2f} s")
    begin = time.monotonic()
    assert ask(port, "/readyz")[2] == "ready\n"
    print(f"/readyz: {1000 * (time.monotonic() - begin):.1f} ms")
    load.while_true("large", lambda: False)

    copy = one.directory / "copy.db"
    load.during("backup", "backup", str(copy), stderr=subprocess.DEVNULL)
    assert rows(copy, "SELECT count(*) FROM destroyed_group") >= EVENTS
    copy.unlink()

    lines = one.directory / "lines"
    with lines.open("wb") as file:
        load.during("export", "export", stdout=file)
    assert sum(1 for _ in lines.open("rb")) >= EVENTS
    lines.unlink()

    one.stop()
    one.write_config({"store": {"retention": "1d"}})
    begin = time.monotonic()
    one.start()
    print(f"ready after {time.monotonic() - begin:.2f} s")
    load.while_true("retention", lambda: time.monotonic() - begin < min(DEADLINE / 4, EVENTS / 5000))

    def oldest():
        with contextlib.closing(sqlite3.connect(one.database)) as db:
            return db.execute("SELECT min(id) FROM destroyed_group").fetchone()[0]

    print(f"retention: {oldest() - 1} of {EVENTS // 2} deleted under load")
    daemon.eventually(lambda: oldest() > EVENTS // 2, "the older half deleted", DEADLINE)
    print(f"retention: done after {time.monotonic() - begin:.1f} s")
    daemon.eventually(lambda: one.database.stat().st_size < size * 3 / 4 + (load.recorded << 9),
                      "a smaller file", DEADLINE)
    print(f"retention: file shrunk after {time.monotonic() - begin:.1f} s, {one.database.stat().st_size >> 20} MiB")
    assert one.value("SELECT count(*) FROM destroyed_group") == EVENTS - EVENTS // 2 + load.recorded
    assert one.value("SELECT count(*) FROM destroyed_group_member") == (
        (EVENTS - EVENTS // 2) * MEMBERS + load.recorded * 3)
