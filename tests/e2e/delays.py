"""Slows the disk and the event loops of a running daemon down, and counts its syncs. The daemon needs the environment
of Delays, which preloads a library that CMake builds from delays.c."""

import contextlib
import mmap
import os
import pathlib

from daemon import LOAD, Daemon
from monitoring import metrics
from processes import eventually, free_port

LIBRARY = pathlib.Path(LOAD).with_name("imcallbackd-delays.so")
# The 32-bit numbers in the shared file, in the order of struct control in delays.c.
FIELDS = ("sync_is_held", "sync_min_us", "sync_max_us", "syncs_started", "syncs_finished", "poll_is_held", "polls_held",
          "send_buffer_bytes")


class Delays:
    """The delays of one daemon."""

    def __init__(self, directory):
        assert LIBRARY.exists(), LIBRARY  # otherwise, the daemon would start without it
        self.file = directory / "delays"
        self.file.write_bytes(bytes(4 * len(FIELDS)))
        with open(self.file, "r+b") as file:
            self.numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("I")

    def environment(self):
        # LeakSanitizer and the other sanitizers work although their library is not the first one.
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        return {"LD_PRELOAD": str(LIBRARY), "DELAYS": str(self.file), "ASAN_OPTIONS": sanitizer}

    def get(self, field):
        return self.numbers[FIELDS.index(field)]

    def set(self, **fields):
        for name, value in fields.items():
            self.numbers[FIELDS.index(name)] = value

    def reset(self):
        """Ends all delays."""
        self.set(sync_is_held=0, sync_min_us=0, sync_max_us=0, poll_is_held=0, send_buffer_bytes=0)

    def delay_syncs(self, low_ms, high_ms=None):
        """From now on, each sync takes a time between low_ms and high_ms longer."""
        self.set(sync_min_us=int(low_ms * 1000), sync_max_us=int((low_ms if high_ms is None else high_ms) * 1000))

    @contextlib.contextmanager
    def hung_disk(self):
        """No sync ends during the block."""
        self.set(sync_is_held=1)
        try:
            yield
        finally:
            self.set(sync_is_held=0)

    @contextlib.contextmanager
    def held_loops(self):
        """During the block, each event loop stops the next time it wakes up, and then does nothing."""
        self.set(poll_is_held=1)
        try:
            yield
        finally:
            self.set(poll_is_held=0)
            eventually(lambda: self.get("polls_held") == 0, "the event loops to continue")

    def wait_for_sync(self, started):
        """Waits until more than this number of syncs have started."""
        eventually(lambda: self.get("syncs_started") > started, "a sync", pause=0.0002)


class DelayedDaemon(Daemon):
    """A daemon with delays and with an admin listener, whose metrics it reads."""

    def __init__(self, settings=None, apps=None):
        self.admin_port = free_port()
        settings = {"admin": {"port": self.admin_port}, "callback": {"other_commands": "acknowledge"}} | (settings or {})
        super().__init__(settings, apps)
        self.delays = Delays(self.directory)

    def start(self, environment=None, **options):
        super().start(environment=self.delays.environment() | (environment or {}), **options)
        self.files_at_start = self.open_files()
        return self

    def metric(self, name):
        assert self.process.poll() is None, f"exit {self.process.returncode}:\n{self.log}"
        return metrics(self.admin_port)[f"imcallbackd_{name}"]

    def callbacks(self):
        """Returns the numbers of callbacks that the daemon has finished and of those that wait for their commits."""
        values = metrics(self.admin_port)
        return (sum(value for name, value in values.items() if name.startswith("imcallbackd_callbacks_total")),
                values["imcallbackd_waiting_requests"])

    def wait_until_held(self, count):
        """Waits until this number of requests wait for their commits."""
        eventually(lambda: self.metric("waiting_requests") == count, f"{count} requests to be held")

    def check_released(self):
        """Waits until no request is held, no connection is open, and no more files are open than at the start."""
        eventually(lambda: self.metric("waiting_requests") == 0, "no request to be held")
        eventually(lambda: self.metric("connections") == 0, "no open connection")
        eventually(lambda: self.open_files() <= self.files_at_start, f"{self.files_at_start} open files")
