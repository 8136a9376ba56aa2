"""Measures what idle connections cost: throughput and latency of others, processor time, and memory. Runs alone, with
the programs of the builds `release` and `dev`: python3 tests/bench/idle.py"""

import contextlib
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

import servers
import workloads
from processes import cpu_seconds

MANY = 15_000
SOME = (3_500, 9_000)
ACTIVE = 128
DANGLING = 100
ROUNDS = 5
RUN_S = 1.5
WATCH_S = 5
SETTLE_S = 0.5
PART_OF_CLIENT_HELLO = bytes.fromhex("160301020001")


class Daemon(servers.Daemon):
    """A daemon that accepts as many connections as the hard limit of descriptors allows, with a margin."""

    def command(self):
        words = super().command()
        config = pathlib.Path(words[-1])
        config.write_text(config.read_text().replace("[limits]\n", "[limits]\nconnections = 18000\n"))
        return words

    def start(self, wrapper=(), environment=None):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return super().start(["prlimit", f"--nofile={most}", *wrapper], environment)


@contextlib.contextmanager
def running(directory, name):
    server = Daemon(directory, database=directory / f"{name}.db").start()
    try:
        workloads.run_load(server, 4_000, {"connections": 32})
        yield server
    finally:
        server.stop()
    server.check_store()


@contextlib.contextmanager
def idle_connections(server, count):
    """Keeps this many connections open, each after one request."""
    words = server.load_words(next(workloads.seeds), 1, {"connections": 1, "idle": count})
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        line = load.stdout.readline()
        if line != f"{count + 1} connections\n":
            raise SystemExit(f"{server.name}: cannot open {count} connections: {line}")
        try:
            yield
        finally:
            load.communicate("\n")
    if load.returncode != 0:
        raise SystemExit(f"{server.name}: an idle connection was closed")
    server.acknowledged_events += count + 1
    server.acknowledged_members += 3 * (count + 1)


def cpu_share(server):
    """Returns the share of one core that the server uses."""
    time.sleep(SETTLE_S)
    before_s, started_s = cpu_seconds(server.process.pid), time.monotonic()
    time.sleep(WATCH_S)
    return (cpu_seconds(server.process.pid) - before_s) / (time.monotonic() - started_s)


def dangling_share(server):
    """Returns the share of one core while handshakes wait for clients that have stopped in their first message."""
    with contextlib.ExitStack() as sockets:
        for _ in range(DANGLING):
            client = sockets.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(PART_OF_CLIENT_HELLO)
        return cpu_share(server)


def measure_work(directory):
    """Returns the medians of paired rounds on a daemon with idle connections and on one without."""
    options = {"connections": ACTIVE}
    with running(directory, "busy") as busy, running(directory, "bare") as bare:
        total = workloads.calibrate(bare, RUN_S, options)
        with idle_connections(busy, MANY):
            share = cpu_share(busy)
            rounds = {"with": [], "without": []}
            for turn in range(ROUNDS):
                for name in sorted(rounds, reverse=turn % 2 == 1):
                    rounds[name].append(workloads.run_load(busy if name == "with" else bare, total, options))
    found = {name: {figure: statistics.median(one[figure] for one in runs) for figure in ("rate", "p50_us", "p99_us")}
             for name, runs in rounds.items()}
    for figure in ("rate", "p50_us"):
        found[f"{figure} ratio"] = statistics.median(
            some[figure] / none[figure] for some, none in zip(rounds["with"], rounds["without"]))
    return found | {"idle cpu": share}


def measure_some(directory, count):
    with running(directory, f"some-{count}") as server:
        before_kib = server.memory_kib()
        with idle_connections(server, count):
            return {"kib": (server.memory_kib() - before_kib) / (count + 1), "idle cpu": cpu_share(server),
                    "dangling cpu": dangling_share(server)}


def measure(directory):
    """Returns all figures. The directory must contain the certificates of servers.make_certificates."""
    return {count: measure_some(directory, count) for count in SOME} | {MANY: measure_work(directory)}


def show(found):
    work = found[MANY]
    print(f"\n{ACTIVE} connections at work:          callbacks/s   p50 µs   p99 µs")
    for name in ("without", "with"):
        print(f"  {name + f' {MANY:,} idle ones':28}" + "{rate:13.0f}{p50_us:9.0f}{p99_us:9.0f}".format(**work[name]))
    print(f"  median of the ratios        {work['rate ratio']:13.2f}{work['p50_us ratio']:9.2f}")
    print(f"idle connections   KiB each   CPU while idle   CPU with {DANGLING} dangling handshakes")
    for count in SOME:
        one = found[count]
        print(f"{count:16,}{one['kib']:11.1f}{one['idle cpu']:17.2%}{one['dangling cpu']:23.2%}")
    print(f"{MANY:16,}{'':11}{work['idle cpu']:17.2%}")


def main():
    directory = pathlib.Path(tempfile.mkdtemp(prefix="idle-", dir=servers.BUILD))
    try:
        servers.make_certificates(directory)
        show(measure(directory))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
