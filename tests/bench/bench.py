"""Compares the daemon with other servers. bench.sh installs and builds the servers, and runs this script.

All servers run at the same time and receive load in turn, so that other work on the machine affects all of them
alike. A figure is the median over the rounds; a ratio is the median of the ratios that each round yields. At the end,
every acknowledged event must be in the server's store."""

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile

import deliveries
import profiles
import report
import servers
import workloads

KEEP_ALIVE = (1, 8, 32, 128, 512, 1000)
MEMBERS = (0, 200, 6000)  # all other workloads have 3
BARE = {"keep-alive 1": (3, 1), "keep-alive 128": (3, 128), "keep-alive 1000": (3, 1000), "6000 members": (6000, 8)}
IDLE_CONNECTIONS = 1000


def plan():
    """Returns {workload: (options of the load generator, names of the servers)}."""
    everyone = ("imcallbackd", "nginx", "go", "fastapi")
    # A server with one transaction per request would only queue the requests of more than 128 connections.
    found = {f"keep-alive {count}": ({"connections": count}, everyone if count <= 128 else everyone[:2])
             for count in KEEP_ALIVE}
    found |= {f"{count} members": ({"connections": 8 if count == 6000 else 128, "members": count}, everyone)
              for count in MEMBERS}
    new = {"connections": 16, "new_connection": True}
    found["new connection, RSA-2048"] = (new, everyone)
    found["new connection, ECDSA P-256"] = (new, ("imcallbackd-ecdsa", "nginx-ecdsa"))
    found["new connection, resumed"] = (new | {"resume": True}, ("imcallbackd", "nginx"))
    found["large database"] = ({"connections": 128}, ("imcallbackd", "imcallbackd-filled"))
    return found


def read_arguments():
    parser = argparse.ArgumentParser(prog="bench.sh", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one run")
    parser.add_argument("--rows", type=int, default=2_000_000, help="member rows in the large database")
    parser.add_argument("--only", action="append", default=[],
                        help="workloads whose name contains this text; repeatable")
    parser.add_argument("--deliver", action="store_true", help="measure only the deliverer")
    parser.add_argument("--servers", default="", help="names separated by commas; default: all")
    parser.add_argument("--profile", action="store_true", help="show how each server spends its processor time instead")
    parser.add_argument("--directory", type=pathlib.Path, help="where to put the databases")
    parser.add_argument("--json", type=pathlib.Path, default=servers.BUILD / "bench.json")
    return parser.parse_args()


def make_servers(directory, rows, names):
    makers = {
        "imcallbackd": lambda: servers.Daemon(directory),
        "nginx": lambda: servers.Nginx(directory),
        "go": lambda: servers.Go(directory),
        "fastapi": lambda: servers.FastApi(directory),
        "imcallbackd-ecdsa": lambda: servers.Daemon(directory, "ecdsa"),
        "nginx-ecdsa": lambda: servers.Nginx(directory, "ecdsa"),
        "imcallbackd-filled": lambda: servers.Daemon(directory, database=directory / "filled.db"),
    }
    made = {name: makers[name]() for name in names}
    if "imcallbackd-filled" in made:
        filled = made["imcallbackd-filled"]
        filled.acknowledged_events, filled.acknowledged_members = workloads.fill(filled.database, rows)
    return made


def run_rounds(arguments, chosen, running):
    """Returns {workload: {server: [figures of each round]}}."""
    results = {}
    for number, (workload, (options, names)) in enumerate(chosen.items(), 1):
        names = [name for name in names if name in running]
        print(f"{number}/{len(chosen)} {workload}", file=sys.stderr)
        totals = {name: workloads.calibrate(running[name], arguments.seconds, options) for name in names}
        rounds = results[workload] = {name: [] for name in names}
        for turn in range(arguments.rounds):
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                rounds[name].append(workloads.run_load(running[name], totals[name], options))
            if workload in BARE:
                bare = workloads.write_bare(arguments.directory, arguments.seconds, *BARE[workload])
                rounds.setdefault("bare SQLite", []).append(bare)
            if workload == "keep-alive 1":
                rounds.setdefault("fdatasync", []).append({"p50_us": workloads.fdatasync_us(arguments.directory)})
    return results


def apart(directory, names, purpose, makers):
    """Yields (name, constructor, new directory with certificates) for the names that have a constructor."""
    for name in filter(makers.__contains__, names):
        place = directory / f"{purpose}-{name}"
        place.mkdir()
        servers.make_certificates(place)
        yield name, makers[name], place


def measure_memory(directory, names):
    """Returns {server: memory of an idle connection in KiB}. Each server is started only for this measurement."""
    figures = {}
    makers = {"imcallbackd": servers.Daemon, "nginx": servers.Nginx, "go": servers.Go}
    for name, make, place in apart(directory, names, "memory", makers):
        server = make(place).start()
        workloads.run_load(server, 2000, {"connections": 32})
        figures[name] = workloads.idle_kib(server, IDLE_CONNECTIONS)
        server.stop()
        server.check_store()
    return figures


def measure_fsyncs(directory, names):
    figures = {}
    makers = {"imcallbackd": servers.Daemon, "go": servers.Go, "fastapi": servers.FastApi}
    for name, make, place in apart(directory, names, "fsyncs", makers):
        figures[name] = {}
        for connections, total in ((1, 200), (128, 10_000 if name == "imcallbackd" else 500)):
            server = make(place, database=place / f"{connections}.db")
            figures[name][connections] = workloads.fsyncs_per_callback(server, connections, total)
            server.check_store()
    return figures


def measure_disk(directory):
    """Returns the size of the stopped daemon's files per member, and its ratio to the stored data: the bytes of the
    accounts and 8 bytes per member."""
    server = servers.Daemon(directory, database=directory / "disk.db").start()
    workloads.run_load(server, 100, {"connections": 8, "members": 6000})
    server.stop()
    server.check_store()
    accounts = sum(len(f"member-{event}-{position}") for event in range(100) for position in range(6000))
    size = sum(path.stat().st_size for path in directory.glob("disk.db*"))
    return {"bytes_per_member": size / 600_000, "ratio": size / (accounts + 8 * 600_000)}


def main():
    arguments = read_arguments()
    chosen = {name: what for name, what in plan().items() if not arguments.deliver and (
        not arguments.only or any(text in name for text in arguments.only))}
    names = {name for _, those in chosen.values() for name in those}
    if arguments.servers:
        names &= set(arguments.servers.split(","))
    arguments.directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.directory or servers.BUILD))
    servers.make_certificates(arguments.directory)
    load_average = [os.getloadavg()]
    running = {}
    try:
        running = make_servers(arguments.directory, arguments.rows, sorted(names))
        for server in running.values():
            server.start()
        if arguments.profile:
            profiles.run(arguments, chosen, running)
            return
        results = {"rows": arguments.rows, "workloads": run_rounds(arguments, chosen, running)}
        for server in running.values():
            server.stop()
        results["checked"] = {name: server.check_store() for name, server in running.items()}
        if not arguments.only:
            results["deliver"] = deliveries.measure(arguments.directory, arguments.rounds, arguments.seconds)
        if not arguments.only and not arguments.deliver:
            results["idle_kib"] = measure_memory(arguments.directory, names)
            results["fsyncs"] = measure_fsyncs(arguments.directory, names)
            results["disk"] = measure_disk(arguments.directory)
    finally:
        for server in running.values():
            server.stop()
        shutil.rmtree(arguments.directory)
    results["load_average"] = load_average + [os.getloadavg()]
    results["targets"] = report.targets(results)
    if "deliver" in results:
        results["targets"] += deliveries.targets(results["deliver"])
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if "deliver" in results:
        deliveries.show(results["deliver"])
    report.show(results)
    print(f"\nAll figures: {arguments.json}")


if __name__ == "__main__":
    main()
