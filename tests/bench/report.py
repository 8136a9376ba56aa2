"""Prints the figures of all workloads, and judges the targets."""

import os
import statistics

FLAT = 1.05  # largest ratio of the memory in the last round to that in the first


def median(results, workload, server, figure):
    return statistics.median(one[figure] for one in results["workloads"][workload][server])


def ratio(results, figure, one, other):
    """Returns the median over the rounds of the figure of `one` divided by that of `other`. Each of them is a pair
    (workload, server)."""
    rounds = [results["workloads"][workload][server] for workload, server in (one, other)]
    return statistics.median(a[figure] / b[figure] for a, b in zip(*rounds))


def growth(results, workload):
    rounds = results["workloads"][workload]["imcallbackd"]
    return rounds[-1]["memory_kib"] / rounds[0]["memory_kib"]


def beyond_fdatasync_us(results):
    rounds = results["workloads"]["keep-alive 1"]
    return statistics.median(a["p50_us"] - b["p50_us"] for a, b in zip(rounds["imcallbackd"], rounds["fdatasync"]))


def tail(results):
    rounds = results["workloads"]["keep-alive 1"]["imcallbackd"]
    return statistics.median(one["p99_us"] / one["p50_us"] for one in rounds)


def rows():
    """Returns [(what, function that computes it, "<=" or ">=", target, stretch target or None)]."""
    def of(figure, workload, other, server="imcallbackd", other_workload=None):
        return lambda results: ratio(results, figure, (workload, server), (other_workload or workload, other))

    rsa, ecdsa, resumed = (f"new connection, {key}" for key in ("RSA-2048", "ECDSA P-256", "resumed"))
    found = [
        ("128 connections: throughput / nginx", of("rate", "keep-alive 128", "nginx"), ">=", 0.5, 0.7),
        ("128 connections: throughput / Go", of("rate", "keep-alive 128", "go"), ">=", 10, None),
        ("128 connections: throughput / FastAPI", of("rate", "keep-alive 128", "fastapi"), ">=", 60, None),
        ("128 connections: CPU a callback / nginx", of("cpu_us", "keep-alive 128", "nginx"), "<=", 2.0, 1.5),
        ("new connection, RSA-2048: CPU / nginx", of("cpu_us", rsa, "nginx"), "<=", 1.2, 1.0),
        ("new connection, ECDSA: CPU / nginx", of("cpu_us", ecdsa, "nginx-ecdsa", "imcallbackd-ecdsa"), "<=", 1.8, 1.3),
        ("new connection, resumed: CPU / nginx", of("cpu_us", resumed, "nginx"), "<=", 1.25, 1.0),
        ("6,000 members: rows a second / Go", of("rows", "6000 members", "go"), ">=", 5, None),
        ("6,000 members: rows a second / bare SQLite", of("rows", "6000 members", "bare SQLite"), ">=", 0.8, 0.95),
        ("lone client: p50 beyond fdatasync, µs", beyond_fdatasync_us, "<=", 80, None),
        ("lone client: p99 / p50", tail, "<=", 4, 2),
        ("large database: throughput / empty", of("rate", "large database", "imcallbackd", "imcallbackd-filled"), ">=",
         0.9, 1.0),
    ]
    for count in (512, 1000):
        workload = f"keep-alive {count}"
        found += [
            (f"{count} connections: throughput / 128", of("rate", workload, "imcallbackd", "imcallbackd",
                                                          "keep-alive 128"), ">=", 0.85, 1.0),
            (f"{count} connections: p99 / nginx", of("p99_us", workload, "nginx"), "<=", 1.5, 1.2),
        ]
    return found + [
        ("idle TLS connection: KiB", lambda results: results["idle_kib"]["imcallbackd"], "<=", 40, 24),
        ("128 connections: memory, last / first round", lambda results: growth(results, "keep-alive 128"), "<=", FLAT,
         None),
        ("disk / (bytes of accounts + 8 a member)", lambda results: results["disk"]["ratio"], "<=", 1.3, None),
    ]


def targets(results):
    judged = []
    for what, compute, direction, target, stretch in rows():
        try:
            figure = compute(results)
        except KeyError:
            continue  # the workload or the server was not selected

        def reached(limit, figure=figure, direction=direction):
            return limit is not None and (figure >= limit if direction == ">=" else figure <= limit)

        verdict = "stretch" if reached(stretch) else "met" if reached(target) else "MISSED"
        judged.append({"what": what, "figure": figure, "target": f"{direction} {target}", "stretch": stretch,
                       "verdict": verdict})
    return judged


def cell(results, workload, server, figure, form):
    if figure not in results["workloads"][workload][server][0]:
        return ""
    return format(median(results, workload, server, figure), form)


def show(results):
    before, after = results["load_average"]
    print(f"{os.cpu_count()} cores; load average {before[0]:.1f} before, {after[0]:.1f} after\n")
    print(f"{'workload':28} {'server':19} {'a second':>9} {'rows/s':>9} {'CPU µs':>8} {'p50 µs':>8} {'p99 µs':>8} "
          f"{'p99.9 µs':>9} {'MiB':>6}")
    for workload, by_server in results["workloads"].items():
        for server in by_server:
            memory = (f"{median(results, workload, server, 'memory_kib') / 1024:6.1f}"
                      if "memory_kib" in by_server[server][0] else "")
            print(f"{workload:28} {server:19} {cell(results, workload, server, 'rate', '9.0f'):>9} "
                  f"{cell(results, workload, server, 'rows', '9.0f'):>9} "
                  f"{cell(results, workload, server, 'cpu_us', '8.1f'):>8} "
                  f"{cell(results, workload, server, 'p50_us', '8.0f'):>8} "
                  f"{cell(results, workload, server, 'p99_us', '8.0f'):>8} "
                  f"{cell(results, workload, server, 'p999_us', '9.0f'):>9} {memory:>6}")
    for name, by_connections in results.get("fsyncs", {}).items():
        print("fsyncs per callback: " + name + "".join(
            f", {figure:.3f} at {connections}" for connections, figure in by_connections.items()))
    for name, figure in results.get("idle_kib", {}).items():
        print(f"memory of an idle connection: {name}, {figure:.1f} KiB")
    if "disk" in results:
        print(f"disk per member: {results['disk']['bytes_per_member']:.1f} bytes")
    print("acknowledged events, all found in the stores: " + ", ".join(
        f"{name} {events}" for name, events in results["checked"].items() if events is not None))
    print(f"\n{'target':46} {'figure':>8} {'wanted':>9} {'stretch':>8}")
    for one in results["targets"]:
        print(f"{one['what']:46} {one['figure']:8.2f} {one['target']:>9} {one['stretch'] or '':>8} {one['verdict']}")
