"""Long before the deadline, the daemon ends and counts each request that libmicrohttpd cannot parse, and logs why."""

import contextlib
import os
import socket
import struct
import time

import pytest

import daemon
from monitoring import metrics
from processes import cpu_seconds

CHUNKED = "Transfer-Encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"
LONG = "x" * 20000


def request(body, *headers, more_query="", before=b""):
    """Returns a callback with these headers, which must include Content-Length or Transfer-Encoding."""
    lines = [f"POST /?{daemon.query_string()}{more_query} HTTP/1.1", "Host: localhost", *headers]
    return before + "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sized(*headers, **others):
    body = daemon.event()
    return request(body, f"Content-Length: {len(body)}", *headers, **others)


def chunk(extension=""):
    return b"%x%s\r\n%s\r\n" % (len(daemon.event()), extension.encode(), daemon.event())


# The values are functions, because RequestTime must be the time of sending.
UNREADABLE = {
    # The size line of a chunk must fit into the memory of a connection.
    "extension of a chunk": lambda: request(chunk(f";{LONG}") + LAST_CHUNK, CHUNKED),
    "extension without an end": lambda: request(b"5;" + LONG.encode(), CHUNKED),
    "extension of the last chunk": lambda: request(chunk() + f"0;{LONG}\r\n\r\n".encode(), CHUNKED),
    "size of a chunk": lambda: request(b"0" * 20000, CHUNKED),
    "extension of a chunk that is dropped": lambda: request(chunk(f";{LONG}"), CHUNKED).replace(b"/?", b"/x?", 1),
    # The trailer and the head must fit into this memory, too.
    "trailer": lambda: request(chunk() + f"0\r\nX: {LONG}\r\n\r\n".encode(), CHUNKED),
    "trailers": lambda: request(chunk() + b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n", CHUNKED),
    "trailer without a colon": lambda: request(chunk() + b"0\r\nno colon\r\n\r\n", CHUNKED),
    "header": lambda: sized(f"X: {LONG}"),
    "headers": lambda: sized(*["X: y"] * 1000),
    "cookies": lambda: sized("Cookie: " + "a=b; " * 500 + "a=b"),
    "target": lambda: sized(more_query=f"&x={LONG}"),
    "empty lines": lambda: sized(before=b"\r\n" * 10000),
    "method without an end": lambda: LONG.encode(),
    "target of an unknown method": lambda: b"FOO /" + LONG.encode(),
    "target of an unknown method without its end": lambda: b"FOO /" + LONG.encode()[:10 << 10],
    # After these malformed request lines, libmicrohttpd closes the connection without a response.
    "one word": lambda: b"hello\r\n\r\n",
    "NUL before the method": lambda: sized(before=b"\0"),
    "space before the method": lambda: sized(before=b" "),
    "unknown method without a version": lambda: b"FOO /\r\n\r\n",
    "unknown method and three spaces": lambda: b"FOO / HTTP/1.1 \r\nHost: localhost\r\n\r\n",
    "handshake of TLS": lambda: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}
# Each of these requests exhausts the memory of its connection. The length decides at which step of libmicrohttpd the
# memory runs out.
UNREADABLE |= {f"target and parameters {length}":
               lambda length=length: sized(more_query="&a" * 85 + "&x=" + LONG[:length])
               for length in range(4100, 9850, 400)}
UNREADABLE |= {f"empty lines and parameters {length}": lambda length=length: sized(before=b"\r\n" * (length // 2))
               for length in range(9350, 10050, 50)}


@pytest.fixture(scope="module")
def untimed():
    """A daemon whose deadlines never end a test's connection, and that also has an older, idle connection.
    libmicrohttpd 1.0 may neglect a connection that it should close, but checks the oldest one in each iteration of its
    event loop. The connection of a test must therefore not be the oldest."""
    port = daemon.free_port()
    settings = {"limits": {"request_timeout": "1h", "idle_timeout": "1h"}, "admin": {"port": port},
                "listen": {"threads": 1}}
    with daemon.running(settings) as one, one.connect() as oldest:
        one.admin_port = port
        assert oldest.answer_to(sized()).status == 200
        yield one


def refused(one):
    return metrics(one.admin_port)['imcallbackd_callbacks_total{result="refused"}']


def open_connections(one):
    return metrics(one.admin_port)["imcallbackd_connections"]


def send_unreadable(connection, name):
    """Sends a request of the table and waits for the end of the connection."""
    with contextlib.suppress(OSError):  # the daemon may close the connection while the test still sends
        connection.send(UNREADABLE[name]())
    connection.read_rest()


@pytest.mark.parametrize("name", UNREADABLE)
def test_counts_one_refusal(untimed, name):
    before = refused(untimed)
    with untimed.connect() as connection:
        send_unreadable(connection, name)
        daemon.eventually(lambda: open_connections(untimed) == 1, "the daemon ends the connection")
    assert refused(untimed) == before + 1


@pytest.mark.parametrize("start", ["", "P", "POST /", "POST /?a=b HTTP/1.1\r\nHost: localhost\r\n"])
@pytest.mark.parametrize("ending", ["close_notify", "end", "reset", "garbage"])
def test_counts_no_client_that_gives_up(untimed, start, ending):
    """A client that ends the connection within a request has not sent a request that could be refused."""
    before = refused(untimed)
    with untimed.connect() as connection:
        if start:
            connection.send(start.encode())
        if ending == "close_notify":
            with contextlib.suppress(OSError):
                connection.tls.unwrap()
        elif ending == "end":
            connection.tls.shutdown(socket.SHUT_WR)
        elif ending == "reset":
            connection.tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.tls.close()
        else:  # a record that GnuTLS cannot decrypt
            os.write(connection.tls.fileno(), b"\x17\x03\x03\0\x20" + b"x" * 32)
        daemon.eventually(lambda: open_connections(untimed) == 1, "the daemon ends the connection")
    assert refused(untimed) == before


def test_logs_the_fault(make_daemon):
    too_large = "does not fit into the connection's buffer"
    for name, words in (("size of a chunk", too_large), ("extension of a chunk", too_large), ("header", too_large),
                        ("trailer without a colon", "cannot parse"), ("one word", "cannot parse")):
        one = make_daemon({"limits": {"request_timeout": "1h"}}).start()
        with one.connect() as connection:
            send_unreadable(connection, name)
        daemon.eventually(lambda: words in one.log, f"a line on the {name}")


def test_disturbs_no_slow_connection(make_daemon):
    one = make_daemon({"listen": {"threads": 1}}).start()
    whole = sized()
    with one.connect() as slow, one.connect() as connection:
        slow.send(whole[:20])
        send_unreadable(connection, "size of a chunk")
        assert slow.answer_to(whole[20:]).status == 200
    one.stop()


def test_full_memory_uses_no_cpu(untimed):
    """Clients fill the memory of their connections, then stay silent, then disconnect. Some lengths fill this memory
    exactly."""
    with contextlib.ExitStack() as stack:
        for length in range(15000, 15800, 40):
            connection = stack.enter_context(untimed.connect())
            connection.send(request(b"0" * length, CHUNKED))
        used, started = cpu_seconds(untimed.process.pid), time.monotonic()
        time.sleep(1)
        taken, waited = cpu_seconds(untimed.process.pid) - used, time.monotonic() - started
        print(f"{taken * 1000:.1f} ms of the processor in {waited * 1000:.0f} ms")
        assert taken < waited / 10
