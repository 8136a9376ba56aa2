"""Sends requests to the admin listener of `serve`, `forward` or `deliver`, and parses the metrics.

An address is a port of 127.0.0.1, a pair of host and port, or the path of a Unix socket."""

import contextlib
import http.client
import re
import socket

LINE = re.compile(r'([a-z_]+(?:\{[a-z]+="[^"\\]*"\})?) (-?\d+(?:\.\d+)?)')


class Unix(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def connect(address):
    if isinstance(address, str):
        return Unix(address)
    host, port = ("127.0.0.1", address) if isinstance(address, int) else address[:2]
    return http.client.HTTPConnection(host, port, timeout=20)


def ask(address, path, method="GET", body=None):
    """Returns the status, the headers and the text of the answer."""
    with contextlib.closing(connect(address)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()


def metrics(address):
    """Returns {'name{label="text"}': value}. Every sample must have the documented form and occur once."""
    status, _, text = ask(address, "/metrics")
    assert status == 200, text
    found = [LINE.fullmatch(line) for line in text.splitlines() if not line.startswith("# ")]
    assert all(found), text
    values = {match[1]: float(match[2]) for match in found}
    assert len(values) == len(found), "the same line twice"
    return values
