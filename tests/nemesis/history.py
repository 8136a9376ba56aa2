"""Records everything that happens in a run of the nemesis as JSON lines, for the checker. A line holds "at", the
seconds since the start of the run on the monotonic clock, and "type"; the other fields depend on the type."""

import json
import threading
import time


class History:
    """An append-only file of lines. Any thread may record a line. A line is in the file when record() returns, so a
    kill of the driver loses none."""

    def __init__(self, path):
        """path: the file, which must not exist."""
        self.path = path
        self._file = open(path, "x", encoding="utf-8", buffering=1)
        self._lock = threading.Lock()
        self._started = time.monotonic()

    def seconds(self, monotonic=None):
        """Returns the seconds since the start of the run until now, or until a value of time.monotonic()."""
        return (time.monotonic() if monotonic is None else monotonic) - self._started

    @staticmethod
    def wait(seconds):
        """Sleeps for this time, or not at all if the time is negative."""
        if seconds > 0:
            time.sleep(seconds)

    def record(self, type, **fields):
        """Appends a line. The lines are in the order of their times. After close(), a line is dropped: a thread may
        report the exit of a process that is ended last."""
        with self._lock:
            line = {"at": round(self.seconds(), 6), "type": type} | fields
            if not self._file.closed:
                self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self):
        with self._lock:
            self._file.close()


def read(path):
    """Returns the lines. The end of a line that was cut by a kill of the driver is ignored."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(text) for text in file if text.endswith("\n")]
