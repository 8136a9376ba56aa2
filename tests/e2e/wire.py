"""A TLS client that gives the test each encrypted byte: a test can split records, delay them and end each direction."""

import contextlib
import re
import socket
import ssl
import struct

from daemon import START_DEADLINE, Answer


class Wire:
    """A TLS connection that lets the test send the encrypted bytes itself."""

    def __init__(self, one, receive_buffer=0):
        """receive_buffer: SO_RCVBUF of the client; 0: the default."""
        self.plain = socket.socket()
        if receive_buffer:
            self.plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.plain.settimeout(START_DEADLINE)
        self.plain.connect(("127.0.0.1", one.port))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = one.tls_context().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.received = b""
        self.is_open = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.plain.close()

    def hello(self):
        """Returns the bytes of the ClientHello."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def shake_hands(self):
        self.plain.sendall(self.hello())
        while True:
            data = self.plain.recv(65536)
            assert data, "the daemon ended the connection during the handshake"
            self.incoming.write(data)
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            self.plain.sendall(self.outgoing.read())
            return self

    def record(self, data):
        """Returns the encrypted records that carry the data."""
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, data):
        self.plain.sendall(self.record(data))

    def receive(self, size=65536):
        """Reads at most this many encrypted bytes and decrypts what is complete. Returns False at the end of the
        connection, also if the connection was reset."""
        data = b""
        with contextlib.suppress(ConnectionError):
            data = self.plain.recv(size)
        self.incoming.write(data)
        self.is_open = bool(data)
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while piece := self.tls.read(65536):
                self.received += piece
            self.is_open = False  # close_notify
        return self.is_open

    def answers(self):
        """Returns the complete answers received so far, and asserts that nothing else was received."""
        found, rest = [], self.received
        while head := re.match(rb"(HTTP/1\.1 .*?)\r\n\r\n", rest, re.DOTALL):
            length = int(re.search(rb"(?i)\r\ncontent-length: *(\d+)", head[1])[1])
            if len(rest) < head.end() + length:
                break
            found.append(Answer(head[1], rest[head.end():head.end() + length]).check_form())
            rest = rest[head.end() + length:]
        assert b"HTTP/1.1 "[:len(rest)] == rest[:9], rest
        return found

    def wait_for_answers(self, count):
        """Reads until there are this many answers or the connection ends. Returns the answers."""
        while len(self.answers()) < count and self.receive():
            pass
        return self.answers()

    def read_rest(self):
        """Reads until the connection ends. Returns all answers."""
        while self.receive():
            pass
        return self.answers()

    # Ways to leave

    def reset(self):
        """Discards the connection. The daemon's kernel forgets the answers that it has not sent yet."""
        self.plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.plain.close()
        self.is_open = False

    def close(self):
        """Closes the socket without a TLS close_notify. The kernel answers later data with a reset."""
        self.plain.close()
        self.is_open = False

    def send_fin(self):
        """Ends the client's direction of TCP without a TLS close_notify. The client still reads. The daemon
        may have reset the connection already."""
        with contextlib.suppress(OSError):
            self.plain.shutdown(socket.SHUT_WR)

    def send_close_notify(self):
        """Ends the client's direction of TLS, but not of TCP. The client still reads."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        with contextlib.suppress(ConnectionError):
            self.plain.sendall(self.outgoing.read())

    def send_close_notify_and_fin(self):
        """Ends the client's direction of TLS and of TCP. The client still reads."""
        self.send_close_notify()
        self.send_fin()
