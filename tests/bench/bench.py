"""Compares the daemon with other servers. bench.sh installs and builds the servers, and runs this script.

All servers run at the same time and receive load in turn, so that other work on the machine affects all of them
alike. A figure is the median over the rounds; a ratio is the median of the ratios that each round yields. At the end,
every acknowledged event must be in the server's store."""

import argparse
import functools
import json
import os
import pathlib
import shutil
import sys
import tempfile

import cores
import deliveries
import idle
import profiles
import report
import rivals
import servers
import storm
import targets
import workloads

KEEP_ALIVE = (1, 8, 16, 32, 128, 512, 1000)
CONNECTING = (512, 1000)
EVERYONE = ("imcallbackd", "nginx", "go", "fastapi")
DURABLE = EVERYONE + ("redis", "postgresql", "postgresql-delay")
SERVERS_AT = {16: DURABLE, 128: DURABLE + ("h2o", "haproxy")}
MEMBERS = (0, 200, 6000)  # all other workloads have 3
BARE = {"keep-alive 1": (3, 1), "keep-alive 128": (3, 128), "keep-alive 1000": (3, 1000), "6000 members": (6000, 8)}
IDLE_CONNECTIONS = 1000
CALLS = ((16, 8000), (128, 20_000))  # connections and requests of the runs that count system calls


def plan():
    """Returns {workload: (options of the load generator, names of the servers)}."""
    # A server with one transaction per request would only queue the requests of more than 128 connections.
    found = {f"keep-alive {count}": ({"connections": count}, SERVERS_AT.get(count, EVERYONE[:4 if count < 128 else 2]))
             for count in KEEP_ALIVE}
    found |= {f"keep-alive {count}, connecting": ({"connections": count, "connect_late": True}, EVERYONE[:2])
              for count in CONNECTING}
    found[targets.STORM] = ({"connections": 16}, EVERYONE[:2])
    found |= {f"{count} members": ({"connections": 8 if count == 6000 else 128, "members": count}, EVERYONE)
              for count in MEMBERS}
    new = {"connections": 16, "new_connection": True}
    found["new connection, RSA-2048"] = (new, EVERYONE)
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
                        help="workloads and separate measurements (deliver, idle_kib, idle connections, fsyncs, "
                             "calls, cores, disk) whose name contains this text; repeatable")
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
        "redis": lambda: rivals.Redis(directory),
        "postgresql": lambda: rivals.Postgres(directory),
        "postgresql-delay": lambda: rivals.Postgres(directory, commit_delay_us=rivals.COMMIT_DELAY_US),
        "h2o": lambda: rivals.H2o(directory),
        "haproxy": lambda: rivals.Haproxy(directory),
        "imcallbackd-ecdsa": lambda: servers.Daemon(directory, "ecdsa"),
        "nginx-ecdsa": lambda: servers.Nginx(directory, "ecdsa"),
        "imcallbackd-filled": lambda: servers.Daemon(directory, database=directory / "filled.db"),
    }
    made = {name: makers[name]() for name in names}
    if "imcallbackd-filled" in made:
        filled = made["imcallbackd-filled"]
        filled.acknowledged_events, filled.acknowledged_members = workloads.fill(filled.database, rows)
    return made


def make_run(workload, options, server, seconds):
    """Returns a function that runs the workload once on the server, for about this time, and returns the figures."""
    if workload == targets.STORM:
        return lambda: storm.run(server, seconds, options["connections"])
    # If the clients connect late, their work has to last longer than connecting does.
    total = workloads.calibrate(server, seconds, {name: value for name, value in options.items()
                                                  if name != "connect_late"})
    return lambda: workloads.run_load(server, total, options)


def run_rounds(arguments, chosen, running):
    """Returns {workload: {server: [figures of each round]}}."""
    results = {}
    for number, (workload, (options, names)) in enumerate(chosen.items(), 1):
        names = [name for name in names if name in running]
        print(f"{number}/{len(chosen)} {workload}", file=sys.stderr)
        runs = {name: make_run(workload, options, running[name], arguments.seconds) for name in names}
        rounds = results[workload] = {name: [] for name in names}
        for turn in range(arguments.rounds):
            for name in names[turn % len(names):] + names[:turn % len(names)]:
                rounds[name].append(runs[name]())
            if workload in BARE:
                bare = workloads.write_bare(arguments.directory, arguments.seconds, *BARE[workload])
                rounds.setdefault("bare SQLite", []).append(bare)
            if workload == "keep-alive 1":
                rounds.setdefault("fdatasync", []).append({"p50_us": workloads.fdatasync_us(arguments.directory)})
    return results


def apart(directory, names, purpose, makers):
    """Yields (name, constructor, new directory with certificates) for the names that have a constructor."""
    for name in filter(names.__contains__, makers):
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
    makers = {"imcallbackd": servers.Daemon, "go": servers.Go, "fastapi": servers.FastApi, "redis": rivals.Redis,
              "postgresql": rivals.Postgres,
              "postgresql-delay": functools.partial(rivals.Postgres, commit_delay_us=rivals.COMMIT_DELAY_US)}
    for name, make, place in apart(directory, names, "fsyncs", makers):
        figures[name] = {}
        for connections, total in ((1, 200), (128, 10_000 if name in ("imcallbackd", "redis") else 500)):
            server = make(place, database=place / f"{connections}.db")
            figures[name][connections] = workloads.fsyncs_per_callback(server, connections, total)
            server.check_store()
    return figures


def measure_calls(directory, names):
    """Returns {server: {connections: {system call: number per callback}}}."""
    figures = {}
    makers = {"imcallbackd": servers.Daemon, "nginx": servers.Nginx}
    for name, make, place in apart(directory, names, "calls", makers):
        server = make(place).start()
        figures[name] = {connections: workloads.calls_per_callback(server, connections, total)
                         for connections, total in CALLS}
        server.stop()
        server.check_store()
    return figures


def measure_cores(directory, names, arguments):
    for _, _, place in apart(directory, names, "cores", {"imcallbackd": servers.Daemon}):
        return cores.measure(place, arguments.rounds, arguments.seconds)
    return None


def measure_idle(directory, names):
    for _, _, place in apart(directory, names, "idle", {"imcallbackd": servers.Daemon}):
        return idle.measure(place)
    return None


def measure_disk(directory, names):
    """Returns the size of the stopped daemon's files per member, and its ratio to the stored data: the bytes of the
    accounts and 8 bytes per member. Returns None if the daemon was not selected."""
    if "imcallbackd" not in names:
        return None
    server = servers.Daemon(directory, database=directory / "disk.db").start()
    workloads.run_load(server, 100, {"connections": 8, "members": 6000})
    server.stop()
    server.check_store()
    accounts = sum(len(f"member-{event}-{position}") for event in range(100) for position in range(6000))
    size = sum(path.stat().st_size for path in directory.glob("disk.db*"))
    return {"bytes_per_member": size / 600_000, "ratio": size / (accounts + 8 * 600_000)}


def measure_separately(arguments, names):
    """Returns the figures of the selected measurements that start servers of their own."""
    directory = arguments.directory
    measurements = {
        "deliver": lambda: deliveries.measure(directory, arguments.rounds, arguments.seconds),
        "idle_kib": lambda: measure_memory(directory, names),
        "idle connections": lambda: measure_idle(directory, names),
        "fsyncs": lambda: measure_fsyncs(directory, names),
        "calls": lambda: measure_calls(directory, names),
        "cores": lambda: measure_cores(directory, names, arguments),
        "disk": lambda: measure_disk(directory, names),
    }
    found = {}
    for name, measure in measurements.items():
        if is_selected(arguments, name) and (name == "deliver" or not arguments.deliver):
            print(name, file=sys.stderr)
            found[name] = measure()
    return {name: figures for name, figures in found.items() if figures is not None}


def is_selected(arguments, name):
    return not arguments.only or any(text in name for text in arguments.only)


def selection(arguments):
    """Returns the selected part of the plan, and the names of the selected servers."""
    chosen = {} if arguments.deliver else {name: what for name, what in plan().items() if is_selected(arguments, name)}
    names = {name for _, those in plan().values() for name in those}
    if arguments.servers:
        names &= set(arguments.servers.split(","))
    return chosen, names


def measure(arguments):
    """Returns all figures, or None after a profile."""
    chosen, names = selection(arguments)
    running = make_servers(arguments.directory, arguments.rows,
                           sorted(names & {name for _, those in chosen.values() for name in those}))
    try:
        for server in running.values():
            server.start()
        if arguments.profile:
            chosen.pop(targets.STORM, None)
            profiles.run(arguments, chosen, running)
            return None
        results = {"machine": report.machine(), "rows": arguments.rows,
                   "workloads": run_rounds(arguments, chosen, running)}
        for server in running.values():
            server.stop()
        results["checked"] = {name: server.check_store() for name, server in running.items()}
    finally:
        for server in running.values():
            server.stop()
    return results | measure_separately(arguments, names)


def main():
    arguments = read_arguments()
    arguments.directory = pathlib.Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.directory or servers.BUILD))
    arguments.directory.chmod(0o711)  # PostgreSQL runs as another user
    servers.make_certificates(arguments.directory)
    load_average = os.getloadavg()
    try:
        results = measure(arguments)
    finally:
        shutil.rmtree(arguments.directory)
    if not results:
        return
    results["load_average"] = [load_average, os.getloadavg()]
    results["targets"] = targets.judge(results)
    if "deliver" in results:
        results["targets"] += deliveries.targets(results["deliver"])
    arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    if "deliver" in results:
        deliveries.show(results["deliver"])
    report.show(results)
    print(f"\nAll figures: {arguments.json}")


if __name__ == "__main__":
    main()
