"""A client's TLS connection to the balancer, which sends requests and reads answers within a time that the caller
sets."""

import contextlib
import json
import re
import socket
import ssl
import struct
import time

CONNECT_TIMEOUT_S = 5


class Answer:
    """An HTTP response. If the response does not have the form of the protocol, status and code are None, and note says
    why. http_status is the status of such a response, too."""

    def __init__(self, head, body):
        self.status = self.code = self.note = self.http_status = None
        self.closes = bool(re.search(rb"(?i)\r\nconnection: *close", head))
        try:
            self.http_status = int(re.match(rb"HTTP/1\.1 (\d\d\d) ", head)[1])
            self.code = self._read_code(json.loads(body))
            self.status = self.http_status
        except (ValueError, TypeError) as error:
            self.note = f"{error}: {(head + body)[:300]!r}"

    def _read_code(self, fields):
        if set(fields) != {"ActionStatus", "ErrorInfo", "ErrorCode"} or type(fields["ErrorCode"]) is not int:
            raise ValueError("the fields are not those of the protocol")
        expected = ("OK", True) if self.http_status == 200 else ("FAIL", False)
        if (fields["ActionStatus"], fields["ErrorCode"] == 0) != expected:
            raise ValueError("status, ActionStatus and ErrorCode contradict each other")
        return fields["ErrorCode"]


class Connection:
    """Bytes to the balancer, through TLS unless `context` is None."""

    def __init__(self, target, source, context=None, session=None):
        """target: host and port; source: the client's address."""
        self.source, self.unread = source, b""
        self.socket = socket.create_connection(target, timeout=CONNECT_TIMEOUT_S, source_address=(source, 0))
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context:
                self.socket = context.wrap_socket(self.socket, server_hostname="localhost", session=session)
                if not self.socket.version():  # after an early reset, wrap_socket reports no error
                    raise ConnectionResetError("reset before the handshake")
        except BaseException:
            self.socket.close()
            raise

    def send(self, data, timeout_s=10):
        self.socket.settimeout(timeout_s)
        self.socket.sendall(data)

    def _more(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self.socket.settimeout(left)
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionResetError("closed without an answer" if not self.unread else "closed within the answer")
        self.unread += data

    def read_answer(self, timeout_s):
        """Returns the next answer. Raises OSError if the connection ends or the time passes first."""
        deadline = time.monotonic() + timeout_s
        while b"\r\n\r\n" not in self.unread:
            self._more(deadline)
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        length = int(length[1]) if length else 0
        while len(self.unread) < length:
            self._more(deadline)
        body, self.unread = self.unread[:length], self.unread[length:]
        return Answer(head, body)

    def read_to_end(self, timeout_s):
        """Reads until the connection ends. Returns False if the time passes first."""
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                self._more(deadline)
        except TimeoutError:
            return False
        except OSError:
            return True

    @property
    def session(self):
        """Returns what a later connection needs to resume this session."""
        return self.socket.session

    def has_ended(self):
        """Returns whether the peer has ended the connection, or has sent something without a request."""
        if self.unread:
            return True
        self.socket.settimeout(0)
        try:
            self.unread += self.socket.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            pass
        return True

    def reset(self):
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()
