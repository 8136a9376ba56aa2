"""Supervises processes as a service manager does: each one is started again whenever it ends, unless it is held down.
Each start and each exit goes into the history, with the signal that was sent before."""

import contextlib
import os
import pathlib
import signal
import subprocess
import threading

import daemon
from processes import eventually, read_proc

RESTART_PAUSE_S = 0.3
IS_SANITIZED = b"__asan_init" in pathlib.Path(daemon.BINARY).read_bytes()
ASKING = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)  # signals that ask a process to end


def wait_prepared(pid, number, deadline=10):
    """Waits until the process handles or blocks the signal. A service manager, too, sends it only to a service that has
    started. The thread that waits for a signal in sigtimedwait(2) does not block it meanwhile, but the others do."""
    def is_prepared():
        lines = [line for text in read_proc(pid, "task/*/status") for line in text.splitlines()]
        return any(int(line.split()[1], 16) >> (number - 1) & 1
                   for line in lines if line.startswith(("SigBlk", "SigCgt")))

    with contextlib.suppress(AssertionError):
        eventually(is_prepared, "the process handles the signal", deadline)


class Managed:
    """A process and the thread that supervises it. command: a list of words, or a function that returns one; options:
    those of subprocess.Popen. The output of all lives goes to one log file."""

    def __init__(self, history, name, command, log, **options):
        self.history, self.name, self.log = history, name, log
        self.command = command if callable(command) else lambda: command
        self.options = options
        self.process = None
        self.asked = None
        self.wanted, self.over, self.down = threading.Event(), threading.Event(), threading.Event()
        self.starting = threading.Lock()
        self.thread = threading.Thread(target=self._supervise, daemon=True, name=name)
        self.down.set()
        self.thread.start()

    def _supervise(self):
        while not self.over.is_set():
            if not (self.wanted.wait(0.5) and self._start_process()):
                continue
            process = self.process
            status = process.wait()
            self.history.record("process", name=self.name, event="exit", pid=process.pid, status=status,
                                asked=self.asked)
            self.process = None
            self.down.set()
            self.over.wait(RESTART_PAUSE_S)

    def _start_process(self):
        """Returns False if the process was held down meanwhile."""
        with self.starting:
            if not self.wanted.is_set():
                return False
            with self.log.open("ab") as log:
                self.process = subprocess.Popen([str(word) for word in self.command()], stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=log, **self.options)
            self.asked = None
            self.down.clear()
        self.history.record("process", name=self.name, event="start", pid=self.process.pid, status=None, asked=None)
        return True

    def start(self):
        self.wanted.set()
        return self

    def send(self, number):
        """Sends a signal if the process runs. Returns its pid, or None."""
        process = self.process
        if not process:
            return None
        if number in (signal.SIGTERM, signal.SIGHUP):
            wait_prepared(process.pid, number)
        if number in ASKING:
            self.asked = signal.Signals(number).name.removeprefix("SIG")
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        return process.pid

    def hold_down(self, number=signal.SIGTERM, deadline=30):
        """Ends the process, which stays down until start(). Returns whether it ended before the deadline; after that,
        the process is killed."""
        with self.starting:
            self.wanted.clear()
        self.send(number)
        ended = self.down.wait(deadline)
        if not ended:
            self.history.record("note", text=f"{self.name} did not end within {deadline} s of {number!r}")
            self.send(signal.SIGKILL)
            self.down.wait(deadline)
        return ended

    @contextlib.contextmanager
    def paused(self):
        """Stops all threads of the process during the block."""
        pid = self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def destroy(self):
        self.hold_down(signal.SIGKILL)
        self.over.set()
        self.thread.join()


class Recorded:
    """A process that is not started again, for a program that supervises others itself. It has the methods of
    subprocess.Popen that the owner needs."""

    def __init__(self, history, name, argv, log, **options):
        self.history, self.name, self.asked = history, name, None
        with log.open("ab") as output:
            self.process = subprocess.Popen([str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=output, **options)
        self.pid = self.process.pid
        history.record("process", name=name, event="start", pid=self.pid, status=None, asked=None)
        threading.Thread(target=self._wait, daemon=True, name=name).start()

    def _wait(self):
        status = self.process.wait()
        self.history.record("process", name=self.name, event="exit", pid=self.pid, status=status, asked=self.asked)

    def poll(self):
        return self.process.poll()

    def wait(self, timeout=None):
        return self.process.wait(timeout)

    def send_signal(self, number):
        if number in ASKING:
            self.asked = signal.Signals(number).name.removeprefix("SIG")
        self.process.send_signal(number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)
