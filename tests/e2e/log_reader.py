"""Reads the standard error of a program while it runs."""

import os
import select
import threading


class LogReader(threading.Thread):
    """Reads a pipe in the background, so that the program does not block on a full pipe.

    The property `lines` first reads everything that the program has written so far: the program's answer to a request
    may reach the test before this thread has read the corresponding line."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.reading = threading.Lock()  # held while the pipe is read; a test holds it to leave the log unread
        self.text = b""
        self.ended = False
        self.start()

    def run(self):
        while not self.ended:
            self._is_readable(None)
            with self.reading:
                self._read()
        self.pipe.close()

    def _is_readable(self, timeout_ms):
        poll = select.poll()
        poll.register(self.pipe)
        return poll.poll(timeout_ms)

    def _read(self):
        while not self.ended and self._is_readable(0):
            some = os.read(self.pipe.fileno(), 1 << 16)
            self.text += some
            self.ended = not some

    @property
    def lines(self):
        """The complete lines so far."""
        with self.reading:
            self._read()
            return self.text.decode(errors="surrogateescape").split("\n")[:-1]
