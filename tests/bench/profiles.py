"""Profiles the processor time of one callback: by library, and within the kernel by system call."""

import collections
import re
import signal
import subprocess
import time

import workloads
from processes import check_run

SAMPLES_PER_SECOND = 1999  # of each core
LEAST = 0.01  # a part that takes a smaller share on every server is added to the remainder


def share(stack):
    """Returns the part that a sample belongs to: a library, a system call, or the kernel's other work. Returns None if
    the sample has no stack. In the stack, the innermost frame comes first."""
    frames = re.findall(r"(?m)^\s+[0-9a-f]+ (.*) \((.*)\)$", stack)
    if not frames:
        return None
    if "kernel" not in frames[0][1]:
        return re.sub(r".*/|(\.so|-).*", "", frames[0][1])
    outside = [name for name, where in frames if "kernel" not in where]
    if not outside or not any(name.startswith("entry_SYSCALL") for name, _ in frames):
        return "kernel: interrupts and page faults"
    return "kernel: " + re.sub(r"^_*(GI_+|libc_)*_*|_nocancel.*|@.*|64$", "", outside[0])


def profile(server, total, options):
    """Returns {part: µs of processor time per callback}."""
    cpu_us = workloads.run_load(server, total, options)["cpu_us"]  # without the overhead of perf
    record = server.directory / "perf.data"
    record.unlink(missing_ok=True)
    with subprocess.Popen(["perf", "record", "-q", "-g", "-F", str(SAMPLES_PER_SECOND), "-o", record, "-p",
                           ",".join(map(str, server.processes()))], stderr=subprocess.DEVNULL) as perf:
        while not record.exists():
            if perf.poll() is not None:
                raise SystemExit("perf: cannot record; run as root or set kernel.perf_event_paranoid to -1")
            time.sleep(0.02)
        workloads.run_load(server, total, options)
        perf.send_signal(signal.SIGINT)
    text = check_run("perf", "script", "-i", record, "-F", "comm,ip,sym,dso", timeout=600)
    counts = collections.Counter(filter(None, map(share, text.split("\n\n"))))
    return {part: cpu_us * count / counts.total() for part, count in counts.items()}


def show(workload, found):
    """found: {server: {part: µs}}"""
    names = list(found)
    rows = {part: [found[name].get(part, 0) for name in names] for name in names for part in found[name]}
    whole = [sum(found[name].values()) for name in names]
    small = {part for part, figures in rows.items()
             if all(figure < LEAST * all_of_it for figure, all_of_it in zip(figures, whole))}
    rest = [sum(rows[part][i] for part in small) for i in range(len(names))]
    print(f"\n{workload}: CPU µs per callback".ljust(48) + "".join(name.rjust(13) for name in names))
    for part, figures in [*sorted(((part, rows[part]) for part in rows.keys() - small), key=lambda row: -row[1][0]),
                          ("remainder", rest), ("total", whole)]:
        print(f"  {part:45}" + "".join(f"{figure:13.1f}" for figure in figures))


def run(arguments, chosen, running):
    """Profiles each workload on those of its servers that run."""
    for workload, (options, names) in chosen.items():
        found = {}
        for name in filter(running.__contains__, names):
            total = workloads.calibrate(running[name], arguments.seconds, options)
            found[name] = profile(running[name], total, options)
        show(workload, found)
