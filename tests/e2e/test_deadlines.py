"""Each phase of a request ends in time, however it drips; idle connections live on; nobody waits for the slow ones."""

import contextlib
import resource
import socket
import ssl
import threading
import time

import pytest

import daemon
import monitoring
from processes import cpu_seconds

REQUEST_TIMEOUT = 1  # seconds, as configured below
IDLE_TIMEOUT = 2
GRACE = 1  # what the contract gives, and slow machines need
DRIP = 0.3
REQUEST_LIMIT = {"request_timeout": f"{REQUEST_TIMEOUT}s"}
SETTINGS = {"limits": REQUEST_LIMIT | {"idle_timeout": f"{IDLE_TIMEOUT}s"}}
OTHER_COMMAND = "Group.CallbackAfterSendMsg"


@pytest.fixture(scope="module")
def one():
    with daemon.running(SETTINGS | {"callback": {"other_commands": "acknowledge"}}) as made:
        yield made


class Wire:
    """A TLS connection whose encrypted bytes are in the test's own hands."""

    def __init__(self, one):
        self.plain = socket.create_connection(("127.0.0.1", one.port), timeout=daemon.START_DEADLINE)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = one.tls_context().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def hello(self):
        """What the client sends first."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def shake_hands(self):
        self.plain.sendall(self.hello())
        while True:
            self.incoming.write(self.plain.recv(65536))
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            self.plain.sendall(self.outgoing.read())
            return self

    def record(self, data):
        self.tls.write(data)
        return self.outgoing.read()


def seconds_until_end(connection, pieces, interval=DRIP):
    """Sends a piece each interval; returns how long after the first the server ended the connection."""
    begun = time.monotonic()
    connection.settimeout(interval)
    pieces = iter(pieces)
    while time.monotonic() < begun + 10:
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
    return time.monotonic() - begun


def single_bytes(data):
    return (data[i:i + 1] for i in range(len(data)))


def check_cut_in_time(seconds, timeout=REQUEST_TIMEOUT):
    print(f"cut after {seconds:.2f} s")
    assert timeout - 0.1 <= seconds < timeout + GRACE


# Dripping and silence

def test_silence_before_the_handshake(one):
    with socket.create_connection(("127.0.0.1", one.port)) as plain:
        check_cut_in_time(seconds_until_end(plain, []))


def test_handshake_that_drips(one):
    wire = Wire(one)
    with wire.plain as plain:
        check_cut_in_time(seconds_until_end(plain, single_bytes(wire.hello())))


def test_handshake_that_stops_half_way(one):
    wire = Wire(one)
    with wire.plain as plain:
        check_cut_in_time(seconds_until_end(plain, [wire.hello()]))


def test_head_that_drips(one):
    with one.connect() as connection:
        check_cut_in_time(seconds_until_end(connection.tls, single_bytes(daemon.request(daemon.event()))))


def test_head_of_a_second_request_that_drips(one):
    with one.connect() as connection:
        connection.send(daemon.request(daemon.event()))
        assert connection.read_answer().status == 200
        check_cut_in_time(seconds_until_end(connection.tls, single_bytes(daemon.request(daemon.event()))))


def test_empty_lines_that_drip(one):
    """They come before a request line, so no request begins with them. From libmicrohttpd 1.0 on they end at once."""
    with one.connect() as connection:
        assert seconds_until_end(connection.tls, [b"\r\n"] * 100) < REQUEST_TIMEOUT + GRACE


def test_tls_record_that_drips(one):
    wire = Wire(one).shake_hands()
    with wire.plain as plain:
        check_cut_in_time(seconds_until_end(plain, single_bytes(wire.record(daemon.request(daemon.event())))))


@pytest.mark.parametrize("framing", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
def test_body_that_drips(one, framing):
    head = f"POST /?{daemon.query_string()} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode()
    body = [b"1\r\n \r\n" if "chunked" in framing else b" "] * 100
    with one.connect() as connection:
        check_cut_in_time(seconds_until_end(connection.tls, [head, *body]))


def test_refused_body_that_drips(one):
    """It is read to its end so that the caller sees the answer, but no longer than any other."""
    head = b"POST /elsewhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
    with one.connect() as connection:
        check_cut_in_time(seconds_until_end(connection.tls, [head, *[b" "] * 100]))


def test_answers_that_are_not_read(one):
    """The kernel takes in some megabytes of answers; then the server cannot go on, and its time runs."""
    stream = daemon.request(b"{}", daemon.query_string(CallbackCommand=OTHER_COMMAND)) * 100
    with socket.socket() as plain:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.connect(("127.0.0.1", one.port))
        with one.tls_context().wrap_socket(plain, server_hostname="localhost") as tls:
            tls.settimeout(REQUEST_TIMEOUT + GRACE + 5)
            sent = 0
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                while True:
                    begun = time.monotonic()
                    tls.sendall(stream)
                    sent += 1
            seconds = time.monotonic() - begun
    print(f"stalled after {sent * 100} requests, cut after {seconds:.2f} s")
    assert seconds < REQUEST_TIMEOUT + GRACE


# Honest, slow and idle

def test_slow_but_in_time(one):
    """Head and body have their time each."""
    request = daemon.request(daemon.event(GroupId="slow"))
    head, _, body = request.partition(b"\r\n\r\n")
    begun = time.monotonic()
    with one.connect() as connection:
        connection.send(head[:10])
        for piece in (head[10:50], head[50:] + b"\r\n\r\n", body[:20], body[20:]):
            time.sleep(REQUEST_TIMEOUT * 0.4)
            connection.send(piece)
        assert connection.read_answer().status == 200
    assert time.monotonic() - begun > REQUEST_TIMEOUT * 1.5
    assert len(one.groups("slow")) == 1


@pytest.mark.parametrize("requests", [0, 1])
def test_idle_connection(one, requests):
    """It outlives request_timeout and ends at idle_timeout, in the way that TLS has for it."""
    with socket.create_connection(("127.0.0.1", one.port)) as plain, one.tls_context().wrap_socket(
            plain, server_hostname="localhost", suppress_ragged_eofs=False) as tls:
        tls.settimeout(IDLE_TIMEOUT + GRACE + 5)
        for _ in range(requests):
            tls.sendall(daemon.request(daemon.event()))
            assert tls.recv(65536).startswith(b"HTTP/1.1 200 ")
            while not tls.recv(65536).endswith(b"}"):  # head and body are two records
                pass
        begun = time.monotonic()
        assert tls.recv(65536) == b""  # close_notify; without it this would fail
        check_cut_in_time(time.monotonic() - begun, IDLE_TIMEOUT)


def test_idle_time_begins_anew_with_each_request(one):
    with one.connect() as connection:
        for _ in range(3):
            connection.send(daemon.request(daemon.event()))
            assert connection.read_answer().status == 200
            time.sleep(IDLE_TIMEOUT * 0.6)


def test_request_that_comes_at_the_end_of_idle_time(make_daemon):
    """What is in the kernel's hands when the connection is ended for its idleness is still answered."""
    one = make_daemon(SETTINGS | {"listen": {"threads": 1}}).start()
    with one.connect() as connection, one.connect() as other:
        for name, asking in (("first", connection), ("other", other)):  # when the other is answered, the first is idle
            asking.send(daemon.request(daemon.event(GroupId=name)))
            assert asking.read_answer().status == 200
        with one.paused():
            connection.send(daemon.request(daemon.event(GroupId="second")))
            time.sleep(IDLE_TIMEOUT * 1.2)
        assert connection.read_answer().status == 200
    assert one.group_ids() == ["first", "other", "second"]


def test_body_that_comes_in_a_pause(make_daemon):
    """Of a body that came while the process was stopped, only a part can be read at once."""
    one = make_daemon(SETTINGS).start()
    request = daemon.request(daemon.padded(daemon.event(GroupId="paused"), 1 << 20))
    with one.connect() as connection:
        connection.send(request[:1000])
        time.sleep(DRIP)  # the body has begun
        with one.paused():
            sender = threading.Thread(target=connection.send, args=(request[1000:],))
            sender.start()
            time.sleep(REQUEST_TIMEOUT * 3)
        assert connection.read_answer().status == 200
        sender.join()
    assert one.group_ids() == ["paused"]


# Many

def allow_open_files(count):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


def test_thousands_that_say_nothing(make_daemon):
    count = 2000
    allow_open_files(count + 100)
    one = make_daemon({"limits": REQUEST_LIMIT | {"connections_per_address": count * 2}}).start()
    with one.connect() as connection, contextlib.ExitStack() as silent:
        connection.send(daemon.request(daemon.event()))
        assert connection.read_answer().status == 200
        before = one.open_files()
        slowest, most = 0, 0
        for i in range(count):
            silent.enter_context(socket.create_connection(("127.0.0.1", one.port)))
            if i % 50 == 0:
                begun = time.monotonic()
                connection.send(daemon.request(daemon.event(GroupId=f"between-{i}")))
                assert connection.read_answer().status == 200
                slowest = max(slowest, time.monotonic() - begun)
                most = max(most, one.open_files())
        begun = time.monotonic()
        daemon.eventually(lambda: one.open_files() <= before, "the descriptors that were there before",
                          REQUEST_TIMEOUT + GRACE)
        print(f"{most} descriptors at the most, {one.open_files()} after {time.monotonic() - begun:.2f} s; "
              f"slowest callback {slowest * 1000:.0f} ms")
    assert most > before + count / 10
    assert slowest < 1
    assert len(one.group_ids("between-")) == count / 50


@pytest.mark.parametrize("threads", [1, 2])
def test_suspend_storm(make_daemon, threads):
    """Hundreds wait for the disk; nobody else does, and none of them is forgotten."""
    count = 500
    allow_open_files(count + 100)
    one = make_daemon({"limits": REQUEST_LIMIT, "listen": {"threads": threads}}).start()
    other = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(one.connect()) for _ in range(count)]
        others = [stack.enter_context(one.connect()) for _ in range(50)]
        with one.locked():
            begun = time.monotonic()
            slowest = 0
            for i, connection in enumerate(waiting):
                connection.send(daemon.request(daemon.event(GroupId=f"storm-{i}")))
                if i % (count // len(others)) == 0:
                    asked = time.monotonic()
                    others[i * len(others) // count].send(other)
                    assert others[i * len(others) // count].read_answer().status == 405
                    slowest = max(slowest, time.monotonic() - asked)
            # They are held, which has no deadline of its own.
            time.sleep(max(0, begun + REQUEST_TIMEOUT * 1.5 - time.monotonic()))
            assert one.group_ids() == []
        released = time.monotonic()
        assert all(connection.read_answer().status == 200 for connection in waiting)
        print(f"slowest other {slowest * 1000:.1f} ms; all answered {time.monotonic() - released:.2f} s after the lock")
    assert slowest < 1
    assert sorted(one.group_ids()) == sorted(f"storm-{i}" for i in range(count))


def check_sleep(one, connection):
    """Until it ends the connection, the daemon does nothing."""
    before, begun = cpu_seconds(one.process.pid), time.monotonic()
    with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError):
        while connection.recv(65536):
            pass
    waited, taken = time.monotonic() - begun, cpu_seconds(one.process.pid) - before
    print(f"{taken * 1000:.1f} ms of the processor in {waited * 1000:.0f} ms")
    assert waited > REQUEST_TIMEOUT / 2 and taken < waited / 50


def test_waiting_for_a_handshake_takes_no_processor(one):
    """Cut off anywhere in the first message, and after it: the daemon sleeps until the deadline."""
    hello = Wire(one).hello()
    for sent in (0, 1, len(hello) // 2, len(hello)):
        with socket.create_connection(("127.0.0.1", one.port), timeout=daemon.START_DEADLINE) as plain:
            plain.sendall(hello[:sent])
            check_sleep(one, plain)


def test_waiting_for_a_request_takes_no_processor(one):
    whole = daemon.request(daemon.event(Name="x" * 20000))
    for sent in (1, whole.index(b"\r\n") + 1, whole.index(b"{") - 1, whole.index(b"{") + 1, len(whole) - 1):
        with one.connect() as slow:
            slow.send(whole[:sent])
            check_sleep(one, slow.tls)


def test_a_large_head_is_read_at_once(one):
    """It comes in one record, of which libmicrohttpd takes a piece at a time."""
    with one.connect() as connection:
        connection.send(daemon.request(daemon.event(GroupId="large head"), headers=["X-Padding: " + "x" * 15000]))
        assert connection.read_answer().status == 200
    assert one.group_ids("large head")


@contextlib.contextmanager
def dripping(connections):
    """Meanwhile a byte comes on each connection, again and again."""
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


def test_who_drips_on_the_admin_listener_makes_room(make_daemon):
    """More connections than it takes, none of which comes to the end of its request."""
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
