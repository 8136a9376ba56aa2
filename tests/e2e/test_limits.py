"""Tests connections, bodies and queries below, at and above their limits. Also tests the eviction of connections and
allow_from."""

import contextlib
import random
import re
import resource
import socket
import ssl
import time

import pytest

import daemon
from processes import unread_bytes

LIMIT = 4
HARD_LIMIT = daemon.hard_limit(LIMIT)
CALL_TIMEOUT = 2  # seconds; a connection without a request after this time can be evicted
UNSIGNED = 1400000002
ONE_LOOP = {"listen": {"threads": 1}}
BODY_LIMIT = 64 << 10
BODIES_IN_FLIGHT = 16


def is_served(one, name):
    """Returns whether the daemon answers a callback on a new connection. Returns False if the daemon evicts the new
    connection itself."""
    with contextlib.suppress(OSError), one.connect() as connection:
        return connection.call(name).status == 200
    return False


def refusals_logged(one, name):
    return len(re.findall(f"refused {name} ", one.log))


# connections and connections_per_address

@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
def test_serves_one_request_beyond_the_limit(make_daemon, limit):
    one = make_daemon(ONE_LOOP | {"limits": {limit: LIMIT}}).start()
    with contextlib.ExitStack() as stack:
        full = []
        for i in range(LIMIT):
            full.append(stack.enter_context(one.connect()))
            answers = [connection.call(f"{i}-{j}") for j, connection in enumerate(full)]
            assert [(answer.status, answer.says_close) for answer in answers] == [(200, False)] * (i + 1)
        # The daemon evicts a verified connection only if it has been idle for CALL_TIMEOUT, so all of them stay open.
        # One more connection gets one response and is closed.
        over = stack.enter_context(one.connect())
        answer = over.call("over")
        assert answer.status == 200 and answer.says_close
        assert over.is_closed()
        assert [connection.call("again").status for connection in full] == [200] * LIMIT


def test_open_files_limit_the_connections(make_daemon):
    """The daemon reduces [limits] connections to what the limit on open files allows, so that it evicts silent
    connections before accept() fails."""
    files = 128
    one = make_daemon().start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)))
    (warning,) = [line for line in one.lines if "LimitNOFILE" in line]
    assert f"the process may open only {files} files" in warning
    with contextlib.ExitStack() as stack:
        for _ in range(2 * files):
            stack.enter_context(socket.create_connection(("127.0.0.1", one.port)))
        for i in range(5):
            daemon.eventually(lambda i=i: is_served(one, f"verified-{i}"), "a callback among silent connections")
    assert "cannot accept" not in one.log
    assert len(one.groups()) == 5


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
def test_rejects_connections_beyond_the_reserve(make_daemon, limit):
    """While all connections within the limit are busy, the daemon serves callbacks on the connections of the reserve.
    Beyond the reserve, the daemon rejects connections."""
    one = make_daemon(ONE_LOOP | {"limits": {limit: LIMIT}}).start()
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(one.connect()) for _ in range(LIMIT)]
        assert [connection.call("before").status for connection in busy] == [200] * LIMIT
        with one.locked():
            for i in range(HARD_LIMIT):
                if i >= LIMIT:
                    busy.append(stack.enter_context(one.connect()))
                busy[i].send(daemon.request(daemon.event(GroupId=f"busy-{i}")))
            for _ in range(10):
                assert one.rejects()
            assert one.rejects(source="127.0.0.2") == (limit == "connections")
        answers = [connection.read_answer() for connection in busy]
        assert [answer.status for answer in answers] == [200] * HARD_LIMIT
        assert [answer.says_close for answer in answers[:LIMIT]] == [False] * LIMIT
        # The closed reserve connections make room for new ones.
        assert all(connection.is_closed() for connection, answer in zip(busy, answers) if answer.says_close)
        assert sum(answer.says_close for answer in answers) > 0
        daemon.eventually(lambda: not one.rejects(), "an accepted connection")
    assert len(one.group_ids("busy-")) == HARD_LIMIT
    assert refusals_logged(one, "overloaded") == 1  # one line per interval, however many refusals


def test_limit_per_address_spares_other_addresses(make_daemon):
    one = make_daemon(ONE_LOOP | {"limits": {"connections_per_address": 1}}).start()
    with one.connect() as first, one.connect(source="127.0.0.2") as other:
        assert not first.call("first").says_close
        assert not other.call("other").says_close
        with one.connect() as over:
            assert over.call("over").says_close
        assert first.call("first again").status == other.call("other again").status == 200


def test_refuses_unverified_requests_beyond_the_limit(make_daemon):
    """The refusal carries Retry-After. A verified request at the same time is accepted."""
    one = make_daemon(ONE_LOOP | {"limits": {"connections": 2}}, {daemon.APP: [daemon.TOKEN], UNSIGNED: []}).start()
    unsigned = daemon.request(daemon.event(GroupId="unsigned"), daemon.query_string(token=None, SdkAppid=UNSIGNED))
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(one.connect()) for _ in range(2)]
        assert [connection.call("before").status for connection in busy] == [200] * 2
        with one.locked():
            for i, connection in enumerate(busy):
                connection.send(daemon.request(daemon.event(GroupId=f"busy-{i}")))
            for _ in range(3):
                refused = stack.enter_context(one.connect())
                answer = refused.answer_to(unsigned)
                assert answer.status == 503 and int(answer.headers["retry-after"]) > 0 and answer.says_close
                assert refused.is_closed()
            verified = stack.enter_context(one.connect())
            verified.send(daemon.request(daemon.event(GroupId="verified")))
            false = stack.enter_context(one.connect())
            assert false.answer_to(daemon.request(daemon.event(), daemon.query_string(token="another"))).status == 403
        assert [connection.read_answer().status for connection in (*busy, verified)] == [200] * 3
    assert sorted(one.group_ids()) == ["before", "busy-0", "busy-1", "verified"]


# Eviction

def is_open(connection):
    """Returns whether the connection is still open. Waits up to 50 ms for its end."""
    connection.tls.settimeout(0.05)
    try:
        return bool(connection.tls.recv(1))
    except TimeoutError:
        return True
    finally:
        connection.tls.settimeout(daemon.START_DEADLINE)


def test_evicts_unverified_connections_first(make_daemon):
    """The daemon first evicts connections that are silent in the handshake, then idle unverified connections, then idle
    verified ones. Within each kind, it evicts the one that has been idle longest."""
    one = make_daemon(ONE_LOOP | {"limits": {"connections": 5}}).start()
    with contextlib.ExitStack() as stack:
        def enter():
            return stack.enter_context(one.connect())

        verified = [enter() for _ in range(2)]
        for connection in verified:
            assert connection.call("verified").status == 200
        idle = [enter() for _ in range(2)]
        silent = stack.enter_context(socket.create_connection(("127.0.0.1", one.port)))
        silent.settimeout(daemon.START_DEADLINE)
        time.sleep(CALL_TIMEOUT * 1.1)
        order = [("the silent one", lambda: silent.recv(1) == b""), ("the first idle one", idle[0].is_closed),
                 ("the second idle one", idle[1].is_closed), ("the first verified one", verified[0].is_closed),
                 ("the second verified one", verified[1].is_closed)]
        rest = [idle[0], idle[1], verified[0], verified[1]]
        for i, (what, is_closed) in enumerate(order):
            answer = enter().call(f"new-{i}")
            assert answer.status == 200 and not answer.says_close, what
            assert is_closed(), what
            rest = rest[1:] if i > 0 else rest
            assert all(is_open(connection) for connection in rest), what


def test_evicts_no_connection_during_a_request(make_daemon):
    """The daemon never evicts a connection whose request waits for the disk, nor one that sends a body after a verified
    head."""
    one = make_daemon(ONE_LOOP | {"limits": {"connections": 2}}).start()
    request = daemon.request(daemon.event(GroupId="sending"))
    with one.connect() as held, one.connect() as sending:
        with one.locked():
            held.send(daemon.request(daemon.event(GroupId="held")))
            sending.send(request[:-1])
            time.sleep(CALL_TIMEOUT * 1.1)
            with one.connect() as over:
                assert over.answer_to(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status == 405
        sending.send(request[-1:])
        assert held.read_answer().status == sending.read_answer().status == 200


def test_evicts_across_all_loops(make_daemon):
    """One thread has the verified connections, and the other one has the unverified ones. The new connection must go to
    the thread that can evict an unverified connection."""
    one = make_daemon({"listen": {"threads": 2}, "limits": {"connections": 4}}).start()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(one.connect()) for _ in range(4)]  # distributed in turn
        for connection in connections[::2]:
            assert connection.call("verified").status == 200
        time.sleep(CALL_TIMEOUT * 1.1)
        assert stack.enter_context(one.connect()).call("new").status == 200
        assert all(is_open(connection) for connection in connections[::2])


@pytest.mark.parametrize("limit", ["connections", "connections_per_address"])
@pytest.mark.parametrize("shakes_hands", [False, True])
def test_a_burst_blocks_no_verified_callback(make_daemon, limit, shakes_hands):
    """As many silent connections as the hard limit allows arrive at once. The daemon evicts some of them to serve a
    verified callback on a new connection."""
    one = make_daemon(ONE_LOOP | {"limits": {limit: LIMIT}}).start()
    context = one.tls_context()
    with contextlib.ExitStack() as stack:
        burst = [stack.enter_context(socket.create_connection(("127.0.0.1", one.port))) for _ in range(HARD_LIMIT)]
        if shakes_hands:
            for plain in burst:
                stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))
        time.sleep(CALL_TIMEOUT * 1.1)

        def call_once():
            with contextlib.suppress(ConnectionError, ssl.SSLError), one.connect() as connection:
                return connection.call("verified").status == 200

        daemon.eventually(call_once, "a response to a verified callback", 3)


# allow_from

@pytest.mark.parametrize("allow_from, allowed, rejected", [
    ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2", "127.1.0.1"]),
    ("127.0.1.0/24", ["127.0.1.1", "127.0.1.255"], ["127.0.0.255", "127.0.2.0", "127.0.0.1"]),
    ("127.0.0.2, 127.0.4.0/22", ["127.0.0.2", "127.0.4.1", "127.0.7.255"], ["127.0.0.1", "127.0.3.255", "127.0.8.0"]),
    ("0.0.0.0/0", ["127.0.0.1", "127.9.9.9"], []),
    ("::1, 2001:db8::/32", [], ["127.0.0.1"]),
])
def test_accepts_only_addresses_in_allow_from(make_daemon, allow_from, allowed, rejected):
    one = make_daemon({"callback": {"allow_from": allow_from}}).start()
    for address in rejected * 3:
        assert one.rejects(source=address)
    for address in allowed:
        with one.connect(source=address) as connection:
            assert connection.call(f"from {address}").status == 200
    assert [row["remote_address"] for row in one.groups()] == allowed
    assert refusals_logged(one, "peer_not_allowed") == bool(rejected)


@pytest.mark.parametrize("allow_from, v4, v6", [
    (None, True, True),
    ("::1", False, True),
    ("127.0.0.0/8", True, False),
    ("::1 127.0.0.1", True, True),
    ("::/0", True, True),
    ("2001:db8::/32", False, False),
])
def test_allow_from_covers_both_families(make_daemon, allow_from, v4, v6):
    """On a socket for both families, the daemon knows an IPv4 client by its IPv4 address, not by the mapped IPv6
    address."""
    one = make_daemon({"listen": {"address": "::"}} | ({"callback": {"allow_from": allow_from}} if allow_from else {}))
    one.start()
    seen = []
    for address, is_allowed in (("127.0.0.1", v4), ("::1", v6)):
        assert one.rejects(source=address, to=address) != is_allowed
        if is_allowed:
            with one.connect(source=address, to=address) as connection:
                assert connection.call(f"from {address}").status == 200
            seen.append(address)
    assert [row["remote_address"] for row in one.groups()] == seen


# Bodies

def head(framing):
    return f"POST /?{daemon.query_string()} HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n".encode()


def chunks(body, size):
    """Returns the body in chunks, without the chunk of size 0 at the end."""
    return b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + size]), body[i:i + size]) for i in range(0, len(body), size))


LAST_CHUNK = b"0\r\n\r\n"


@pytest.mark.parametrize("length, status", [(BODY_LIMIT - 1, 200), (BODY_LIMIT, 200), (BODY_LIMIT + 1, 413),
                                            (BODY_LIMIT * 4, 413)])
def test_limits_the_body_in_chunks(make_daemon, length, status):
    one = make_daemon({"limits": {"body": BODY_LIMIT}}).start()
    seed = random.randrange(1 << 32)
    print("seed", seed)
    size = random.Random(seed).choice((1000, 4096, 16384, BODY_LIMIT * 8))
    body = daemon.padded(daemon.event(GroupId="edge"), length)
    with one.connect() as connection:
        connection.send(head("Transfer-Encoding: chunked") + chunks(body, size) + LAST_CHUNK)
        assert connection.read_answer().status == status
    assert len(one.groups("edge")) == (status == 200)


def test_refuses_one_chunk_beyond_the_limit(make_daemon):
    one = make_daemon({"limits": {"body": "1K"}}).start()
    body = daemon.padded(daemon.event(), 4096)
    with one.connect() as connection:
        connection.send(head("Transfer-Encoding: chunked") + chunks(body, len(body)) + LAST_CHUNK)
        assert connection.read_answer().status == 413
    assert one.groups() == []


def is_everything_read(one):
    """Returns whether the kernel holds no unread bytes for the daemon, after a short pause."""
    time.sleep(0.01)
    return unread_bytes(one.port) == 0


def test_limits_the_memory_for_bodies(make_daemon):
    """All bodies in memory together may be as large as BODIES_IN_FLIGHT bodies of the largest size. A body that does
    not fit is refused with 503."""
    one = make_daemon({"limits": {"body": BODY_LIMIT, "request_timeout": "120s"}}).start()  # enough for a slow machine

    def probe(body):
        with one.connect() as connection:
            return connection.answer_to(head("Transfer-Encoding: chunked") + chunks(body, 100) + LAST_CHUNK)

    with contextlib.ExitStack() as stack:
        filling = [stack.enter_context(one.connect()) for _ in range(BODIES_IN_FLIGHT)]
        bodies = [daemon.padded(daemon.event(GroupId=f"filling-{i}"), BODY_LIMIT) for i in range(len(filling))]
        bodies[0] = bodies[0][:-2] + b"}"  # one byte less, so that one more fits
        for connection, body in zip(filling, bodies):
            connection.send(head("Transfer-Encoding: chunked") + chunks(body, 4096))
        # A probe gets 400 if its body fits, because the body is not JSON, and 503 otherwise. A probe that is sent too
        # early would take the space that the last bytes of the other bodies need.
        daemon.eventually(lambda: all(is_everything_read(one) for _ in range(20)), "all sent bytes to be read", 60)
        assert probe(b"xx").status == 503
        assert probe(b"xx").headers["retry-after"] == "1"
        assert probe(b"x").status == 400
        assert probe(b"xx").status == 503  # neither the refused nor the answered probe holds memory
        for connection in filling:
            connection.send(LAST_CHUNK)
        assert [connection.read_answer().status for connection in filling] == [200] * len(filling)
        assert probe(b"xx").status == 400
    assert len(one.group_ids("filling-")) == len(filling)


# Parameters of the query

@pytest.fixture(scope="module")
def untimed():
    with daemon.running({"limits": {"request_timeout": "1h"}}) as one:
        yield one


@pytest.mark.parametrize("beyond", [0, 1, 50, 200, 300, 400, 1000])
@pytest.mark.parametrize("parameter", ["a", "a=b"])
def test_ends_too_many_parameters_at_once(untimed, parameter, beyond):
    """A request with too many parameters gets a response or the end of the connection long before the deadline of an
    hour."""
    query = daemon.query_string()
    query += f"&{parameter}" * (99 - query.count("&") + beyond)
    with untimed.connect() as connection:
        connection.send(daemon.request(daemon.event(GroupId=f"{parameter} {beyond}"), query=query))
        if beyond == 0:
            assert connection.read_answer().status == 200
        elif connection.wait_for_answer():
            assert connection.read_answer().status == 400 and connection.is_closed()


def test_logs_too_many_parameters(one):
    with one.connect() as connection:
        connection.send(daemon.request(daemon.event(), query=daemon.query_string() + "&a" * 400))
        connection.read_rest()
    daemon.eventually(lambda: "The query has more than 100 parameters." in one.log, "a line in the log")
