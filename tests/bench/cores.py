"""Finds out at how many cores the one writer thread becomes the limit. One loop gets a core of its own, the writer
thread another one. The load generator uses the remaining cores or, if there are none, that of the writer. While the
loop's core is busy all the time, the writer's part of its core shows how many loops one writer can serve."""

import os
import pathlib
import statistics

import servers
import workloads
from processes import read_proc

WRITER = "store-writer"
BATCH = 64  # callbacks per commit in the writer's own benchmark
OPTIONS = {"connections": 128}


def pin(server, loop_core, writer_core):
    for task in pathlib.Path(f"/proc/{server.process.pid}/task").glob("*"):
        (name,) = read_proc(server.process.pid, f"task/{task.name}/comm")
        os.sched_setaffinity(int(task.name), {writer_core if name.strip() == WRITER else loop_core})


def split(threads_us):
    """Returns the processor time of the writer and of all other threads per callback."""
    writer_us = threads_us[WRITER]
    return writer_us, sum(threads_us.values()) - writer_us


def figures(run, ceiling):
    writer_us, loop_us = split(run["threads_us"])
    return {"rate": run["rate"], "batch": run["batch"], "writer_us": writer_us, "loop_us": loop_us,
            "loop_busy": run["rate"] * loop_us / 1e6, "writer_busy": run["rate"] * writer_us / 1e6, "ceiling": ceiling,
            "loops": ceiling * loop_us / 1e6, "loops_by_cpu": loop_us / writer_us}


def measure(directory, rounds, seconds):
    """Returns medians over the rounds, or None on a machine with one core."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return None
    generator = ["taskset", "-c", ",".join(map(str, cores[2:] or cores[1:]))]
    server = servers.Daemon(directory, threads=1).start()
    try:
        pin(server, cores[0], cores[1])
        total = workloads.calibrate(server, seconds, OPTIONS)
        found = [figures(workloads.run_load(server, total, OPTIONS, generator),
                         workloads.write_bare(directory, seconds, 3, BATCH)["rate"]) for _ in range(rounds)]
    finally:
        server.stop()
    server.check_store()
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def show(found):
    print(f"one loop and the writer on cores of their own: {found['rate']:.0f} callbacks per second; per callback, the "
          f"loop takes {found['loop_us']:.1f} µs and the writer {found['writer_us']:.1f}; the loop is busy for "
          f"{100 * found['loop_busy']:.0f} % of the time and the writer for {100 * found['writer_busy']:.0f} %")
    print(f"the writer alone, {BATCH} callbacks per commit: {found['ceiling']:.0f} per second, the work of "
          f"{found['loops']:.1f} loops")
    print(f"the writer, which has a core of its own, is the limit from {found['loops_by_cpu'] + 1:.1f} cores on by its "
          f"time with {found['batch']:.0f} callbacks per commit, and from {found['loops'] + 1:.1f} on by its speed alone")
