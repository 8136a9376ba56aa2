"""Judges the targets."""

import statistics

import idle

FLAT = 1.05  # largest ratio of the memory in the last round to that in the first
STORM = "storm of new connections"


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


def of(figure, workload, other, server="imcallbackd", other_workload=None):
    """Returns a function that computes a ratio of the results."""
    return lambda results: ratio(results, figure, (workload, server), (other_workload or workload, other))


def of_idle(figure):
    return lambda results: results["idle connections"][idle.MANY][figure]


def throughput_rows():
    return [
        ("128 connections: throughput / nginx", of("rate", "keep-alive 128", "nginx"), ">=", 0.6, 0.67),
        ("128 connections: CPU a callback / nginx", of("cpu_us", "keep-alive 128", "nginx"), "<=", 2.0, 1.7),
        ("16 connections: throughput / nginx", of("rate", "keep-alive 16", "nginx"), ">=", 0.4, None),
        ("16 connections: CPU a callback / nginx", of("cpu_us", "keep-alive 16", "nginx"), "<=", 3.0, None),
        ("128 connections: throughput / Go", of("rate", "keep-alive 128", "go"), ">=", 13, None),
        ("128 connections: throughput / FastAPI", of("rate", "keep-alive 128", "fastapi"), ">=", 60, None),
        ("128 connections: throughput / Redis", of("rate", "keep-alive 128", "redis"), ">=", 1.0, None),
        ("6,000 members: rows a second / Go", of("rows", "6000 members", "go"), ">=", 5, None),
        ("6,000 members: rows a second / bare SQLite", of("rows", "6000 members", "bare SQLite"), ">=", 0.8, 0.95),
        ("large database: throughput / empty", of("rate", "large database", "imcallbackd", "imcallbackd-filled"), ">=",
         0.9, 1.0),
    ]


def latency_rows():
    found = [
        ("lone client: p50 beyond fdatasync, µs", beyond_fdatasync_us, "<=", 125, 80),
        ("lone client: p99 / p50", tail, "<=", 3, 2),
    ]
    for count in (512, 1000):
        workload = f"keep-alive {count}"
        found += [
            (f"{count} connections: throughput / 128", of("rate", workload, "imcallbackd", "imcallbackd",
                                                          "keep-alive 128"), ">=", 0.85, 1.0),
            (f"{count} connections: p99 / nginx", of("p99_us", workload, "nginx"), "<=", 1.5, 1.2),
            (f"{count} clients connect: p99 / nginx", of("p99_us", f"{workload}, connecting", "nginx"), "<=", 3, None),
        ]
    return found + [("callers in a storm: p99 / nginx", of("p99_us", STORM, "nginx"), "<=", 4, None)]


def rows():
    """Returns [(what, function that computes it, "<=" or ">=", target, stretch target or None)]."""
    rsa, ecdsa, resumed = (f"new connection, {key}" for key in ("RSA-2048", "ECDSA P-256", "resumed"))
    return throughput_rows() + latency_rows() + [
        ("new connection, resumed: CPU / nginx", of("cpu_us", resumed, "nginx"), "<=", 1.25, 1.0),
        ("new connection, RSA-2048: CPU / nginx", of("cpu_us", rsa, "nginx"), "<=", 1.15, 1.0),
        ("new connection, ECDSA: CPU / nginx", of("cpu_us", ecdsa, "nginx-ecdsa", "imcallbackd-ecdsa"), "<=", 1.2, 1.0),
        ("idle connection after a request: KiB", lambda results: results["idle_kib"]["imcallbackd"]["after a request"],
         "<=", 24, None),
        ("15,000 idle connections: throughput / without", of_idle("rate ratio"), ">=", 0.9, None),
        ("15,000 idle connections: p50 / without", of_idle("p50_us ratio"), "<=", 1.1, None),
        ("128 connections: memory, last / first round", lambda results: growth(results, "keep-alive 128"), "<=", FLAT,
         None),
        ("disk / (bytes of accounts + 8 a member)", lambda results: results["disk"]["ratio"], "<=", 1.3, None),
    ]


def judge(results):
    """Returns a row for each target whose workload and servers were selected."""
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
