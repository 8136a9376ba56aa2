"""Makes headers of the PROXY protocol without the code under test, and sends headers in pieces."""

import contextlib
import socket
import ssl
import struct

import daemon

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31
PORTS = struct.pack("!HH", 12345, 443)


def v1(client="192.0.2.1", server="198.51.100.2", protocol="TCP4", ports="12345 443"):
    return f"PROXY {protocol} {client} {server} {ports}\r\n".encode()


def raw_v2(command, family, rest=b"", length=None):
    """Returns a header of version 2 with these bytes after the fixed part. length: the length field, if it must differ
    from the number of these bytes."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest) if length is None else length) + rest


def pair(client, server=None):
    """Returns the addresses and ports of both ends in the form of version 2."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    server = server or ("2001:db8::99" if ":" in client else "198.51.100.2")
    return socket.inet_pton(family, client) + socket.inet_pton(family, server) + PORTS


def v2(client="192.0.2.1", tlvs=b""):
    return raw_v2(PROXY, TCP6 if ":" in client else TCP4, pair(client) + tlvs)


def tlv(kind, value):
    return struct.pack("!BH", kind, len(value)) + value


def send_segments(plain, data, sizes):
    """Sends pieces of these sizes, each as a segment of its own, and then the rest."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    at = 0
    for size in sizes:
        plain.sendall(data[at:at + size])
        at += size
    plain.sendall(data[at:])


class Segments:
    """A TLS connection whose PROXY header and ClientHello arrive in segments of chosen sizes."""

    def __init__(self, one, preface, sizes, source="127.0.0.1"):
        """preface: the header; sizes: a function that gets the total length of header and ClientHello, and returns the
        sizes of the segments. A last segment has the rest."""
        self.plain = socket.create_connection(("127.0.0.1", one.port), timeout=daemon.START_DEADLINE,
                                              source_address=(source, 0))
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = one.tls_context().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        first = preface + self.outgoing.read()
        send_segments(self.plain, first, sizes(len(first)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.plain.close()

    def _until(self, step):
        """Repeats a step of TLS, with more input each time, until the step succeeds."""
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.plain.sendall(self.outgoing.read())
                data = self.plain.recv(65536)
                assert data, "closed within a handshake or an answer"
                self.incoming.write(data)

    def status_of(self, request):
        """Completes the handshake, sends a request and returns the status of the response."""
        self._until(self.tls.do_handshake)
        self.tls.write(request)
        self.plain.sendall(self.outgoing.read())
        return int(self._until(lambda: self.tls.read(12)).split()[1])
