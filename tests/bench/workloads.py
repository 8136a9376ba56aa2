"""Runs one workload on one server and measures it."""

import itertools
import json
import os
import re
import statistics
import subprocess
import time

import processor
import servers
from processes import check_run, eventually

seeds = itertools.count(time.time_ns() // 1000 % 900_000_000)

PROBE_BYTES = 20_000  # about the size of one callback in the write-ahead log
PROBE_FILE_BYTES = 4 << 20


def run_load(server, total, options, wrapper=()):
    """Returns figures from the load generator's report, and the processor time and memory that the server used."""
    words = [*wrapper, *server.load_words(next(seeds), total, options)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        line = load.stdout.readline()
        if "connections" not in line:
            raise SystemExit(f"{server.name}: no connections for {options}: {line}")
        connected_kib = server.memory_kib()
        before = processor.Sample(server, load.pid)
        load.stdin.write("\n")
        load.stdin.flush()
        report = json.loads(load.stdout.readline())
        after = processor.Sample(server, load.pid)
        memory_kib = server.memory_kib()
        load.stdin.close()
        if load.wait() != 0:
            raise SystemExit(f"{server.name}: some requests were not answered OK: {options} {report}")
    members = options.get("members", 3)
    server.acknowledged_events += report["ok"]
    server.acknowledged_members += report["ok"] * members
    return before.figures_until(after, report["ok"]) | {
        "rate": report["rate_per_second"], "rows": report["rate_per_second"] * members, "p50_us": report["p50_us"],
        "p99_us": report["p99_us"], "p999_us": report["p999_us"], "resumed": report["resumed"] / report["ok"],
        "memory_kib": memory_kib, "connected_kib": connected_kib}


def calibrate(server, seconds, options):
    """Returns how many requests take this many seconds. The measurement also warms the server up."""
    least = 2 * options["connections"]
    rate = run_load(server, least, options)["rate"]
    rate = run_load(server, max(least, int(rate * seconds / 4)), options)["rate"]
    return max(least, int(rate * seconds))


def write_bare(directory, seconds, members, batch):
    """Runs the store's writer without HTTP on a separate database. Returns some of the figures of run_load."""
    database = directory / f"bare-{members}-{batch}.db"
    rate = 50.0
    for part in (0.1, 1):
        events = max(batch * 2, int(rate * seconds * part))
        report = json.loads(check_run(servers.WRITER, database, next(seeds), events, members, batch))
        rate = report["rate_per_second"]
    return {"rate": rate, "rows": rate * members, "p50_us": report["p50_us"], "p99_us": report["p99_us"],
            "p999_us": report["p999_us"]}


def fill(database, rows):
    """Creates a database with at least this many member rows. Returns the numbers of events and rows."""
    members = 6000
    events = -(-rows // members)
    check_run(servers.WRITER, database, next(seeds), events, members, 32, timeout=3600)
    return events, events * members


def fdatasync_us(directory, count=100):
    """Returns the median time of fdatasync() in µs, on a file of constant size, like a write-ahead log that is
    reused."""
    fd = os.open(directory / "probe", os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, b"\1" * PROBE_FILE_BYTES, 0)
        os.fsync(fd)
        times = []
        for i in range(count):
            os.pwrite(fd, i.to_bytes(4, "big") * (PROBE_BYTES // 4), i * PROBE_BYTES % (PROBE_FILE_BYTES - PROBE_BYTES))
            start_ns = time.perf_counter_ns()
            os.fdatasync(fd)
            times.append((time.perf_counter_ns() - start_ns) / 1000)
        return statistics.median(times)
    finally:
        os.close(fd)


def fsyncs_per_callback(server, connections, total):
    """Returns the number of fsyncs per callback, counted by strace. This is a separate run, because strace slows the
    server down."""
    counted = server.directory / f"{server.name}-fsyncs"
    server.start(["strace", "-D", "-f", "-c", "-e", "trace=fsync,fdatasync", "-o", counted])
    run_load(server, total, {"connections": connections})
    server.stop()
    text = eventually(lambda: counted.exists() and counted.read_text(), "the summary of strace", 30)
    calls = re.findall(rf"(?m)^(?:\s*[\d.]+){{3}}\s+(\d+)\s.*\b(?:{server.syncs})$", text)
    return sum(map(int, calls)) / total


def calls_per_callback(server, connections, total):
    """Returns {system call: number per callback}. This is a separate run, because the counters cost time."""
    run_load(server, total // 4, {"connections": connections})
    with processor.counted_calls(server) as counts:
        run_load(server, total, {"connections": connections})
    return {name: count / total for name, count in counts.items()}


def idle_kib(server, connections):
    """Returns the memory of one idle connection after the handshake, and after one request."""
    before_kib = server.memory_kib()
    found = run_load(server, connections, {"connections": connections})
    return {name: (found[figure] - before_kib) / connections
            for name, figure in (("connected", "connected_kib"), ("after a request", "memory_kib"))}
