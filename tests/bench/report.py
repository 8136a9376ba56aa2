"""Prints the figures of all workloads and the targets."""

import os
import platform
import re
import statistics

import cores
import idle

# (heading, name of the figure, format, factor)
COLUMNS = (("a second", "rate", "9.0f", 1), ("rows/s", "rows", "9.0f", 1), ("CPU µs", "cpu_us", "8.1f", 1),
           ("load µs", "load_cpu_us", "8.1f", 1), ("idle %", "idle", "6.1f", 100), ("batch", "batch", "6.1f", 1),
           ("p50 µs", "p50_us", "8.0f", 1), ("p99 µs", "p99_us", "8.0f", 1), ("p99.9 µs", "p999_us", "9.0f", 1),
           ("max µs", "max_us", "8.0f", 1), ("MiB", "memory_kib", "6.1f", 1 / 1024))


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"(?m)^model name\s*: (.*)$", file.read())
    return f"{os.cpu_count()} cores, {model[1] if model else platform.machine()}, Linux {platform.release()}"


def width(column):
    return max(len(column[0]), int(column[2].split(".")[0]))


def cell(rounds, column):
    _, figure, form, factor = column
    if any(figure not in one for one in rounds):
        return " " * width(column)
    return format(factor * statistics.median(one[figure] for one in rounds), form).rjust(width(column))


def show_workloads(workloads):
    print(f"{'workload':28} {'server':23} " + " ".join(column[0].rjust(width(column)) for column in COLUMNS))
    for workload, by_server in workloads.items():
        for server, rounds in by_server.items():
            print(f"{workload:28} {server:23} " + " ".join(cell(rounds, column) for column in COLUMNS))


def show_threads(workloads):
    """Prints the processor time of each thread of the servers whose threads have different names."""
    print("\nCPU µs of the threads, per callback")
    for workload, by_server in workloads.items():
        for server, rounds in by_server.items():
            if len(rounds[0].get("threads_us", {})) < 2:
                continue
            medians = {name: statistics.median(one["threads_us"].get(name, 0) for one in rounds)
                       for name in rounds[0]["threads_us"]}
            print(f"{workload:28} {server:23} " + ", ".join(
                f"{name} {us:.1f}" for name, us in sorted(medians.items(), key=lambda row: -row[1]) if us >= 0.05))


def show_storms(workloads):
    for workload, by_server in workloads.items():
        for server, rounds in by_server.items():
            if "new_per_second" in rounds[0]:
                rate = statistics.median(one["new_per_second"] for one in rounds)
                print(f"{workload}: {server}, {rate:.0f} new connections per second")


def show_separate_runs(results):
    for name, by_connections in results.get("fsyncs", {}).items():
        print("fsyncs per callback: " + name + "".join(
            f", {figure:.3f} at {connections}" for connections, figure in by_connections.items()))
    for name, by_connections in results.get("calls", {}).items():
        for connections, counts in by_connections.items():
            parts = ", ".join(f"{call} {count:.2f}" for call, count in sorted(counts.items(), key=lambda row: -row[1])
                              if call != "all" and count >= 0.005)
            print(f"system calls per callback: {name}, {counts['all']:.2f} at {connections}: {parts}")
    for name, by_moment in results.get("idle_kib", {}).items():
        print(f"memory of an idle connection: {name}, " + ", ".join(
            f"{figure:.1f} KiB {moment}" for moment, figure in by_moment.items()))
    if "idle connections" in results:
        idle.show(results["idle connections"])
    if "cores" in results:
        cores.show(results["cores"])
    if "disk" in results:
        print(f"disk per member: {results['disk']['bytes_per_member']:.1f} bytes")


def show(results):
    before, after = results["load_average"]
    print(f"{machine()}; load average {before[0]:.1f} before, {after[0]:.1f} after\n")
    if results["workloads"]:
        show_workloads(results["workloads"])
        show_threads(results["workloads"])
        show_storms(results["workloads"])
        print()
    show_separate_runs(results)
    if results["checked"]:
        print("acknowledged events, all found in the stores: " + ", ".join(
            f"{name} {events}" for name, events in results["checked"].items() if events is not None))
    print(f"\n{'target':46} {'figure':>8} {'wanted':>9} {'stretch':>8}")
    for one in results["targets"]:
        print(f"{one['what']:46} {one['figure']:8.2f} {one['target']:>9} {one['stretch'] or '':>8} {one['verdict']}")
