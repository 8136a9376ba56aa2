"""Measures where processor time goes: on the machine, in the load generator and in each thread of a server. Also counts
system calls."""

import collections
import contextlib
import pathlib
import re
import signal
import subprocess
import time

from processes import cpu_seconds

ATTACH_S = 0.3  # perf does not say when it has started to count
ALL = "raw_syscalls:sys_enter"
CALLS = ("epoll_wait", "epoll_ctl", "futex", "recvfrom", "recvmsg", "read", "sendto", "sendmsg", "write", "writev",
         "pwrite64", "fdatasync", "setsockopt")


def machine_ticks():
    """Returns the ticks that the processors were idle, and all of their ticks."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def thread_seconds(pids):
    """Returns {name of a thread: processor time of all threads with this name}. The first thread of each process has
    the name "main"."""
    found = collections.Counter()
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                name = "main" if task.name == str(pid) else (task / "comm").read_text().strip()
                found[name] += int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


class Sample:
    """The counters of one moment."""

    def __init__(self, server, load_pid):
        self.load_s = cpu_seconds(load_pid)
        self.threads_s = thread_seconds(server.processes())
        self.callbacks, self.commits = server.batches()
        self.idle, self.ticks = machine_ticks()

    def figures_until(self, after, answered):
        """Returns the figures of the time between two samples, in which the server answered so many callbacks."""
        threads_us = {name: (seconds - self.threads_s[name]) * 1e6 / answered
                      for name, seconds in after.threads_s.items()}
        found = {"cpu_us": sum(threads_us.values()), "threads_us": threads_us,
                 "load_cpu_us": (after.load_s - self.load_s) * 1e6 / answered,
                 "idle": (after.idle - self.idle) / max(after.ticks - self.ticks, 1)}
        if after.commits > self.commits:
            found["batch"] = (after.callbacks - self.callbacks) / (after.commits - self.commits)
        return found


@contextlib.contextmanager
def counted_calls(server):
    """Yields a dictionary, to which perf adds the numbers of the server's system calls at the end."""
    counts = {}
    output = server.directory / "perf.txt"
    output.unlink(missing_ok=True)
    events = ",".join([ALL, *(f"syscalls:sys_enter_{name}" for name in CALLS)])
    with subprocess.Popen(["perf", "stat", "-x,", "-o", output, "-e", events, "-p",
                           ",".join(map(str, server.processes()))], stderr=subprocess.PIPE) as perf:
        time.sleep(ATTACH_S)
        if perf.poll() is not None:
            raise SystemExit(f"perf: cannot count: {perf.stderr.read().decode()}; run as root")
        yield counts
        perf.send_signal(signal.SIGINT)
    for count, name in re.findall(r"(?m)^(\d+),,(?:raw_syscalls|syscalls):sys_enter_?(\w*)", output.read_text()):
        counts[name or "all"] = int(count)
