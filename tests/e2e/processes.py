"""Helpers for all suites: they run programs, wait for conditions, and inspect processes. No helper needs a build of the
daemon."""

import contextlib
import os
import pathlib
import random
import resource
import shutil
import socket
import subprocess
import time

EXTRACTED = pathlib.Path(__file__).resolve().parents[2] / "build" / "programs"  # filled by run.sh
ports = random.SystemRandom()  # tests in other processes may use the same seed


def run(*arguments, **options):
    """Runs a program to its end and captures its output as text. options: those of subprocess.run(); by default, the
    timeout is 60 s."""
    options = {"capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run([str(argument) for argument in arguments], **options)


def check_run(*arguments, **options):
    """Like run, but fails unless the program succeeds. Returns standard output."""
    done = run(*arguments, **options)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def program(name):
    """Returns the path of a program, or None if it is not installed. Prefers an installed program to an
    extracted one, which may lack libraries on another release of Debian."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:{EXTRACTED}")


def long_options(options):
    """Returns words of a command line: {"seed": 1} becomes --seed 1, {"new_connection": True} --new-connection."""
    words = []
    for name, value in options.items():
        words += ["--" + name.replace("_", "-")] + ([] if value is True else [str(value)])
    return words


def eventually(condition, what, deadline=20, pause=0.01):
    """Polls until the condition returns a true value, and returns that value. Fails after `deadline` seconds. pause: the
    seconds between two polls."""
    end = time.monotonic() + deadline
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {deadline} s: {what}"
        time.sleep(pause)
    return value


def holds(condition, seconds=1.0):
    """Polls for this time, and returns whether the condition was true at each poll."""
    end = time.monotonic() + seconds
    while condition():
        if time.monotonic() >= end:
            return True
        time.sleep(0.01)
    return False


def free_port():
    """Returns a TCP port of 127.0.0.1 on which no socket listened a moment ago. The port is below those that the kernel
    gives to clients, so that no connection of another test takes it before the caller uses it."""
    while True:
        port = ports.randrange(10_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def passing(sockets, names=""):
    """Returns a command line to put in front of a daemon, which then gets the sockets as if systemd had passed them.

    names: the value of LISTEN_FDNAMES, separated by colons. The caller must let the process inherit the descriptors,
    with pass_fds. The shell is bash, because other shells may reject descriptors of more than one digit. Each socket
    moves to a high number first, because its own number may be the one that another socket gets.
    """
    moves = [f"{100 + i}<&{each.fileno()}" for i, each in enumerate(sockets)]
    moves += [f"{3 + i}<&{100 + i} {100 + i}<&-" for i in range(len(sockets))]
    name_them = f"LISTEN_FDNAMES={names} " if names else ""
    return ["bash", "-c", f'LISTEN_FDS={len(sockets)} {name_them}LISTEN_PID=$$ exec "$@" {" ".join(moves)}', "bash"]


def allow_open_files(count):
    """Raises the limit on open files of this process, and of the programs that it starts, to this number or more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def read_proc(pid, pattern):
    """Yields the texts of the matching files below /proc/PID, except those of threads that have just ended."""
    for path in pathlib.Path(f"/proc/{pid}").glob(pattern):
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            yield path.read_text()


def cpu_seconds(pid):
    """Returns the processor time of all threads of the process that have not ended, in user mode and in the kernel."""
    return sum(int(text.split()[0]) for text in read_proc(pid, "task/*/schedstat")) / 1e9


def memory_bytes(pid, key="VmRSS"):
    """Returns a size from /proc/PID/status, such as VmRSS, the resident set, or VmSize, the address space."""
    (text,) = read_proc(pid, "status")
    return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(key + ":"))


def unread_bytes(port):
    """Returns how many received bytes the kernel holds in the IPv4 connections established on this local port."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01")
