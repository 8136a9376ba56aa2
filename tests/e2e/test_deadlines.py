"""Tests that each phase of a request ends in time, however slowly bytes arrive, and that slow clients delay no other
client."""

import contextlib
import socket
import ssl
import threading
import time

import pytest

import daemon
import monitoring
from processes import allow_open_files, cpu_seconds
from proxy_protocol import v1, v2
from wire import Wire

REQUEST_TIMEOUT = 1  # seconds, as configured below
IDLE_TIMEOUT = 2
GRACE = 1  # additional seconds that the contract allows
DRIP = 0.3  # seconds between two pieces of a slow client
REQUEST_LIMIT = {"request_timeout": f"{REQUEST_TIMEOUT}s"}
SETTINGS = {"limits": REQUEST_LIMIT | {"idle_timeout": f"{IDLE_TIMEOUT}s"}}
TRUSTING = SETTINGS | {"listen": {"trusted_proxies": "127.0.0.1"}}
OTHER_COMMAND = "Group.CallbackAfterSendMsg"


@pytest.fixture(scope="module")
def one():
    with daemon.running(SETTINGS | {"callback": {"other_commands": "acknowledge"}}) as made:
        yield made


def seconds_until_end(connection, pieces, interval=DRIP):
    """Sends one piece per interval. Returns the seconds from the first piece until the server closed the connection, or
    about 10 if the server did not close it within 10 s."""
    started = time.monotonic()
    connection.settimeout(interval)
    pieces = iter(pieces)
    while time.monotonic() < started + 10:
        try:
            if piece := next(pieces, None):
                connection.send(piece)
            while connection.recv(65536):
                pass
            break
        except TimeoutError:
            continue
        except (ConnectionError, ssl.SSLError):
            break
    return time.monotonic() - started


def single_bytes(data):
    return (data[i:i + 1] for i in range(len(data)))


def check_closed_in_time(seconds, timeout=REQUEST_TIMEOUT):
    print(f"closed after {seconds:.2f} s")
    assert timeout - 0.1 <= seconds < timeout + GRACE


# Slow and silent clients

@pytest.mark.parametrize("pieces_of", [
    lambda wire: [],
    lambda wire: single_bytes(wire.hello()),
    lambda wire: [wire.hello()],
    lambda wire: single_bytes(wire.shake_hands().record(daemon.request(daemon.event()))),
], ids=["silent", "slow handshake", "unfinished handshake", "slow record"])
def test_closes_a_slow_connection(one, pieces_of):
    wire = Wire(one)
    with wire.plain as plain:
        check_closed_in_time(seconds_until_end(plain, pieces_of(wire)))


@pytest.fixture(scope="module")
def trusting():
    with daemon.running(TRUSTING) as made:
        yield made


@pytest.mark.parametrize("pieces_of", [
    lambda wire: [],
    lambda wire: [b"P"],
    lambda wire: [v1()[:-1]],
    lambda wire: [v2()[:-1]],
    lambda wire: [v2()],
    lambda wire: single_bytes(v1()),
    lambda wire: single_bytes(v2()),
    lambda wire: [v2()[:20], v2()[20:], *single_bytes(wire.hello())],
], ids=["silent", "one byte", "most of v1", "most of v2", "only a header", "slow v1", "slow v2", "slow handshake"])
def test_proxy_header_and_handshake_share_a_deadline(trusting, pieces_of):
    wire = Wire(trusting)
    with wire.plain as plain:
        check_closed_in_time(seconds_until_end(plain, pieces_of(wire)))


def test_logs_a_header_that_takes_too_long(make_daemon):
    one = make_daemon(TRUSTING).start()
    with one.connect_plain() as plain:
        plain.sendall(v2()[:-1])
        with contextlib.suppress(ConnectionResetError):
            assert plain.recv(1) == b""
    daemon.eventually(lambda: "TLS handshake with 127.0.0.1 failed" in one.log, "the line")


def drip_body(framing, path="/"):
    """Returns the pieces of a request: the whole head, and 100 pieces with one byte of the body each."""
    head = f"POST {path}?{daemon.query_string()} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode()
    return [head, *[b"1\r\n \r\n" if "chunked" in framing else b" "] * 100]


# The daemon reads a refused body so that the client receives the response, but not longer than any other body.
@pytest.mark.parametrize("requests, pieces_of", [
    (0, lambda: single_bytes(daemon.request(daemon.event()))),
    (1, lambda: single_bytes(daemon.request(daemon.event()))),
    (0, lambda: drip_body("Content-Length: 5000")),
    (0, lambda: drip_body("Transfer-Encoding: chunked")),
    (0, lambda: drip_body("Content-Length: 5000", "/elsewhere")),
], ids=["head", "second head", "body", "chunks", "refused body"])
def test_closes_a_slow_request(one, requests, pieces_of):
    with one.connect() as connection:
        for _ in range(requests):
            assert connection.answer_to(daemon.request(daemon.event())).status == 200
        check_closed_in_time(seconds_until_end(connection.tls, pieces_of()))


def test_closes_slow_empty_lines(one):
    """Empty lines before a request do not extend its deadline. libmicrohttpd 1.0 closes the connection at once."""
    with one.connect() as connection:
        assert seconds_until_end(connection.tls, [b"\r\n"] * 100) < REQUEST_TIMEOUT + GRACE


def test_closes_a_client_that_reads_no_response(one):
    """The kernel buffers some megabytes of responses. After that, the server cannot send, and the deadline starts to
    run."""
    stream = daemon.request(b"{}", daemon.query_string(CallbackCommand=OTHER_COMMAND)) * 100
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", one.port))
        with one.tls_context().wrap_socket(plain, server_hostname="localhost") as tls:
            tls.settimeout(REQUEST_TIMEOUT + GRACE + 5)
            sent = 0
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while True:
                    started = time.monotonic()
                    tls.sendall(stream)
                    sent += 1
            seconds = time.monotonic() - started
    print(f"stalled after {sent * 100} requests, closed after {seconds:.2f} s")
    assert seconds < REQUEST_TIMEOUT + GRACE


# Slow but timely, and idle clients

def test_head_and_body_have_separate_deadlines(one):
    request = daemon.request(daemon.event(GroupId="slow"))
    head, _, body = request.partition(b"\r\n\r\n")
    started = time.monotonic()
    with one.connect() as connection:
        connection.send(head[:10])
        for piece in (head[10:50], head[50:] + b"\r\n\r\n", body[:20], body[20:]):
            time.sleep(REQUEST_TIMEOUT * 0.4)
            connection.send(piece)
        assert connection.read_answer().status == 200
    assert time.monotonic() - started > REQUEST_TIMEOUT * 1.5
    assert len(one.groups("slow")) == 1


@pytest.mark.parametrize("requests", [0, 1])
def test_closes_an_idle_connection_with_close_notify(one, requests):
    """An idle connection outlives request_timeout. The daemon closes the connection after idle_timeout."""
    with socket.create_connection(("127.0.0.1", one.port)) as plain, one.tls_context().wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
        tls.settimeout(IDLE_TIMEOUT + GRACE + 5)
        for _ in range(requests):
            tls.sendall(daemon.request(daemon.event()))
            answer = b""
            while not answer.endswith(b"}"):
                piece = tls.recv(65536)
                assert piece, f"closed before the end of the answer: {answer}"
                answer += piece
            assert answer.startswith(b"HTTP/1.1 200 ")
        started = time.monotonic()
        assert tls.recv(65536) == b""  # an exception here would mean that close_notify was missing
        check_closed_in_time(time.monotonic() - started, IDLE_TIMEOUT)


def test_each_request_restarts_the_idle_timeout(one):
    with one.connect() as connection:
        for _ in range(3):
            assert connection.answer_to(daemon.request(daemon.event())).status == 200
            time.sleep(IDLE_TIMEOUT * 0.6)


def test_answers_a_request_that_arrives_at_the_idle_timeout(make_daemon):
    """A request that is in the kernel's buffer when the idle timeout expires is still answered."""
    one = make_daemon(SETTINGS | {"listen": {"threads": 1}}).start()
    with one.connect() as connection, one.connect() as other:
        # With a single event loop, the response to the other connection shows that the first one is idle again.
        for name, asking in (("first", connection), ("other", other)):
            assert asking.answer_to(daemon.request(daemon.event(GroupId=name))).status == 200
        with one.paused():
            connection.send(daemon.request(daemon.event(GroupId="second")))
            time.sleep(IDLE_TIMEOUT * 1.2)
        assert connection.read_answer().status == 200
    assert one.group_ids() == ["first", "other", "second"]


def test_accepts_a_body_that_arrives_during_a_suspension(make_daemon):
    """The process is suspended for longer than request_timeout, while a body arrives that is too large to be read at
    once. The suspension must not count against the deadline."""
    one = make_daemon(SETTINGS).start()
    request = daemon.request(daemon.padded(daemon.event(GroupId="paused"), 1 << 20))
    with one.connect() as connection:
        connection.send(request[:1000])
        time.sleep(DRIP)  # the body has started
        with one.paused():
            sender = threading.Thread(target=connection.send, args=(request[1000:],))
            sender.start()
            time.sleep(REQUEST_TIMEOUT * 3)
        assert connection.read_answer().status == 200
        sender.join()
    assert one.group_ids() == ["paused"]


# Many connections

def test_silent_connections_delay_no_callback(make_daemon):
    count = 2000
    allow_open_files(count + 100)
    one = make_daemon({"limits": REQUEST_LIMIT | {"connections_per_address": count * 2}}).start()
    with one.connect() as connection, contextlib.ExitStack() as silent:
        assert connection.answer_to(daemon.request(daemon.event())).status == 200
        before = one.open_files()
        slowest, most = 0, 0
        for i in range(count):
            silent.enter_context(socket.create_connection(("127.0.0.1", one.port)))
            if i % 50 == 0:
                started = time.monotonic()
                assert connection.answer_to(daemon.request(daemon.event(GroupId=f"between-{i}"))).status == 200
                slowest = max(slowest, time.monotonic() - started)
                most = max(most, one.open_files())
        started = time.monotonic()
        daemon.eventually(lambda: one.open_files() <= before, "the descriptors that were there before",
                          REQUEST_TIMEOUT + GRACE)
        print(f"{most} descriptors at the most, {one.open_files()} after {time.monotonic() - started:.2f} s; "
              f"slowest callback {slowest * 1000:.0f} ms")
    assert most > before + count / 10
    assert slowest < 1
    assert len(one.group_ids("between-")) == count / 50


@pytest.mark.parametrize("threads", [1, 2])
def test_held_requests_delay_no_other(make_daemon, threads):
    """500 requests wait for their commit, which a lock prevents. Other requests do not wait, and the daemon answers
    every held request after the lock is released."""
    count = 500
    allow_open_files(count + 100)
    one = make_daemon({"limits": REQUEST_LIMIT, "listen": {"threads": threads}}).start()
    other = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(one.connect()) for _ in range(count)]
        others = [stack.enter_context(one.connect()) for _ in range(50)]
        with one.locked():
            started = time.monotonic()
            slowest = 0
            for i, connection in enumerate(waiting):
                connection.send(daemon.request(daemon.event(GroupId=f"storm-{i}")))
                if i % (count // len(others)) == 0:
                    asked = time.monotonic()
                    others[i * len(others) // count].send(other)
                    assert others[i * len(others) // count].read_answer().status == 405
                    slowest = max(slowest, time.monotonic() - asked)
            # request_timeout does not apply to held requests.
            time.sleep(max(0, started + REQUEST_TIMEOUT * 1.5 - time.monotonic()))
            assert one.group_ids() == []
        released = time.monotonic()
        assert all(connection.read_answer().status == 200 for connection in waiting)
        print(f"slowest other {slowest * 1000:.1f} ms; all answered {time.monotonic() - released:.2f} s after the lock")
    assert slowest < 1
    assert sorted(one.group_ids()) == sorted(f"storm-{i}" for i in range(count))


def check_sleep(one, connection):
    """Asserts that the daemon uses less than 2% of a processor until it closes the connection."""
    before, started = cpu_seconds(one.process.pid), time.monotonic()
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while connection.recv(65536):
            pass
    waited, taken = time.monotonic() - started, cpu_seconds(one.process.pid) - before
    print(f"{taken * 1000:.1f} ms of the processor in {waited * 1000:.0f} ms")
    assert waited > REQUEST_TIMEOUT / 2 and taken < waited / 50


def test_waiting_for_a_handshake_uses_no_cpu(one):
    """The client sends nothing, only a part of its first message, or nothing after its first message."""
    hello = Wire(one).hello()
    for sent in (0, 1, len(hello) // 2, len(hello)):
        with one.connect_plain() as plain:
            plain.sendall(hello[:sent])
            check_sleep(one, plain)


def test_waiting_for_a_proxy_header_uses_no_cpu(trusting):
    """The bytes of an incomplete header stay in the kernel's buffer, so the socket remains readable. The daemon must
    not poll such a socket in a busy loop."""
    for sent in (b"P", v1()[:-1], v2()[:16], v2(tlvs=bytes(2000))[:-1], v2()):
        with trusting.connect_plain() as plain:
            plain.sendall(sent)
            check_sleep(trusting, plain)


def test_waiting_for_a_request_uses_no_cpu(one):
    whole = daemon.request(daemon.event(Name="x" * 20000))
    for sent in (1, whole.index(b"\r\n") + 1, whole.index(b"{") - 1, whole.index(b"{") + 1, len(whole) - 1):
        with one.connect() as slow:
            slow.send(whole[:sent])
            check_sleep(one, slow.tls)


def test_reads_a_large_head_at_once(one):
    """The head is one TLS record, which libmicrohttpd reads in several pieces. GnuTLS buffers the rest of the record,
    so epoll does not report these bytes."""
    with one.connect() as connection:
        connection.send(daemon.request(daemon.event(GroupId="large head"), headers=["X-Padding: " + "x" * 8950]))
        assert connection.read_answer().status == 200
    assert one.group_ids("large head")


@contextlib.contextmanager
def dripping(connections):
    """Sends a byte on each connection every DRIP seconds during the block."""
    over = threading.Event()

    def drip():
        while not over.wait(DRIP):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_admin_listener_closes_slow_connections_for_new_ones(make_daemon):
    """There are more connections than the admin listener accepts, and none of them completes its request."""
    address = ("127.0.0.1", daemon.free_port())
    make_daemon({"admin": {"port": address[1]}}).start()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(40)]
        for connection in connections:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nName: ")
        with dripping(connections), contextlib.closing(monitoring.connect(address)) as asking:
            for path in ("/healthz", "/readyz", "/metrics"):
                asking.request("GET", path)
                answer = asking.getresponse()
                assert answer.status == 200 and answer.read()
