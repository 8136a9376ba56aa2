"""Runs the separate services, `imcallbackd forward` and `imcallbackd deliver`, with the configuration of a daemon.

IMCALLBACKD_SERVICE_WRAPPER is a command line to put in front of each service, such as valgrind. IMCALLBACKD_WRAPPER
does not apply, because it may be the sandbox of the daemon, in which a service could not connect to its destination."""

import os
import re
import shlex
import signal
import subprocess

import daemon
from log_reader import LogReader

WRAPPER = shlex.split(os.environ.get("IMCALLBACKD_SERVICE_WRAPPER", ""))


class Service:
    """One process of a service. A subclass names the command."""

    command = None

    def __init__(self, one):
        self.one = one
        self.process = None

    def start(self, environment=None, prefix=(), arguments=()):
        """Starts the process. prefix: a command line to put in front; arguments: further arguments of the command."""
        self.process = subprocess.Popen(
            [*prefix, *WRAPPER, daemon.BINARY, self.command, "-c", str(self.one.config), *arguments],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | (environment or {}))
        self.reader = LogReader(self.process.stderr)
        return self

    @property
    def lines(self):
        return self.reader.lines

    @property
    def log(self):
        return "\n".join(self.lines)

    def wait_logged(self, words, deadline=60):
        try:
            daemon.eventually(lambda: words in self.log, f"{words!r} in the log", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}:\n{self.log}") from None

    def wait_exit(self, deadline=60):
        """Waits until the process ends, checks its log, and returns its exit status."""
        status = self.process.wait(deadline)
        self.reader.join(deadline)
        self.process = None
        self.check_log()
        return status

    def end(self, number):
        self.process.send_signal(number)
        return self.wait_exit()

    def check_log(self):
        """Asserts that the log contains no report of a sanitizer. A subclass also asserts that the log contains none of
        its secrets."""
        assert not re.search(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:", self.log), self.log

    def stop(self):
        assert self.end(signal.SIGTERM) == 0, self.log

    def kill(self):
        self.end(signal.SIGKILL)
