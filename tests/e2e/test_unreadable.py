"""The daemon ends, counts and logs each request that libmicrohttpd cannot parse, long before the deadline."""

import contextlib
import time

import pytest

import daemon
from monitoring import metrics
from processes import cpu_seconds

CHUNKED = "Transfer-Encoding: chunked"
LAST_CHUNK = b"0\r\n\r\n"
LONG = "x" * 20000


def request(body, *headers, more_query="", before=b""):
    """Returns a callback with these headers, which include the framing."""
    lines = [f"POST /?{daemon.query_string()}{more_query} HTTP/1.1", "Host: localhost", *headers]
    return before + "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def sized(*headers, **others):
    body = daemon.event()
    return request(body, f"Content-Length: {len(body)}", *headers, **others)


def chunk(extension=""):
    return b"%x%s\r\n%s\r\n" % (len(daemon.event()), extension.encode(), daemon.event())


# The values are functions, because RequestTime must be the time of sending.
UNREADABLE = {
    # The size line of a chunk must fit into the memory of a connection
    "extension of a chunk": lambda: request(chunk(f";{LONG}") + LAST_CHUNK, CHUNKED),
    "extension without an end": lambda: request(b"5;" + LONG.encode(), CHUNKED),
    "extension of the last chunk": lambda: request(chunk() + f"0;{LONG}\r\n\r\n".encode(), CHUNKED),
    "size of a chunk": lambda: request(b"0" * 20000, CHUNKED),
    "extension of a chunk that is dropped": lambda: request(chunk(f";{LONG}"), CHUNKED).replace(b"/?", b"/x?", 1),
    # The trailer and the head must fit, too
    "trailer": lambda: request(chunk() + f"0\r\nX: {LONG}\r\n\r\n".encode(), CHUNKED),
    "trailers": lambda: request(chunk() + b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n", CHUNKED),
    "trailer without a colon": lambda: request(chunk() + b"0\r\nno colon\r\n\r\n", CHUNKED),
    "header": lambda: sized(f"X: {LONG}"),
    "headers": lambda: sized(*["X: y"] * 1000),
    "cookies": lambda: sized("Cookie: " + "a=b;" * 500),
    "target": lambda: sized(more_query=f"&x={LONG}"),
    "empty lines": lambda: sized(before=b"\r\n" * 10000),
}
# Each of these requests exhausts the memory of its connection. The length decides at which step libmicrohttpd notices
# this.
UNREADABLE |= {f"target and parameters {length}":
               lambda length=length: sized(more_query="&a" * 85 + "&x=" + LONG[:length])
               for length in range(10200, 16000, 400)}
UNREADABLE |= {f"empty lines and parameters {length}": lambda length=length: sized(before=b"\r\n" * (length // 2))
               for length in range(15500, 16200, 50)}


@pytest.fixture(scope="module")
def untimed():
    port = daemon.free_port()
    with daemon.running({"limits": {"request_timeout": "1h"}, "admin": {"port": port}}) as one:
        one.admin_port = port
        yield one


def refused(one):
    return metrics(one.admin_port)['imcallbackd_callbacks_total{result="refused"}']


@pytest.mark.parametrize("name", UNREADABLE)
def test_counts_one_refusal(untimed, name):
    before = refused(untimed)
    with untimed.connect() as connection:
        with contextlib.suppress(OSError):  # the daemon may close the connection while the test still sends
            connection.send(UNREADABLE[name]())
        connection.read_rest()
    daemon.eventually(lambda: refused(untimed) > before, "one refusal more")
    assert refused(untimed) == before + 1


def test_logs_the_fault(make_daemon):
    for name, words in (("size of a chunk", "does not fit into the connection's buffer"), ("header", "cannot parse")):
        one = make_daemon({"limits": {"request_timeout": "1h"}}).start()
        with one.connect() as connection:
            connection.send(UNREADABLE[name]())
            connection.read_rest()
        daemon.eventually(lambda: words in one.log, f"a line on the {name}")


def test_disturbs_no_slow_connection(make_daemon):
    one = make_daemon({"listen": {"threads": 1}}).start()
    whole = sized()
    with one.connect() as slow, one.connect() as connection:
        slow.send(whole[:20])
        connection.send(UNREADABLE["size of a chunk"]())
        connection.read_rest()
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
