"""What a program writes to its standard error."""

import os
import select
import threading


class LogReader(threading.Thread):
    """Reads a pipe as it fills. Whoever looks at the lines sees all that was written before the look, as the program's
    answer to a request may arrive sooner than its line to this thread."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.reading = threading.Lock()  # held while the pipe is read; a test that holds it leaves the log unread
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
        """The whole lines so far."""
        with self.reading:
            self._read()
            return self.text.decode(errors="surrogateescape").split("\n")[:-1]
