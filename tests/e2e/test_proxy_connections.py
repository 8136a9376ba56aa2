"""Tests connections of trusted proxies: limits, evictions, health checks, log lines, reloads, and other listeners."""

import contextlib
import re
import socket
import threading

import pytest

import daemon
import monitoring
from proxy_protocol import LOCAL, UNSPEC, raw_v2, v1, v2

PEER = "127.0.0.1"
LIMIT = 4
HARD_LIMIT = daemon.hard_limit(LIMIT)
ONE_LOOP = {"threads": 1}  # of [listen]
WIDE = "a block is wider than "


def trusting(listen=None, **sections):
    """Returns settings with a trusted proxy."""
    return {"listen": {"trusted_proxies": PEER} | (listen or {})} | sections


# Limits

@pytest.mark.parametrize("preface", [b"", raw_v2(LOCAL, UNSPEC)], ids=["no header", "LOCAL"])
def test_limit_per_address_spares_the_proxy(make_daemon, preface):
    one = make_daemon(trusting(ONE_LOOP, limits={"connections_per_address": 1})).start()
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(one.connect(preface=preface)) for _ in range(2 * HARD_LIMIT)]
        for _ in range(2):
            answers = [connection.call(f"{i}") for i, connection in enumerate(connections)]
            assert [(answer.status, answer.says_close) for answer in answers] == [(200, False)] * len(connections)
        with one.connect(source="127.0.0.2") as direct:
            assert not direct.call("direct").says_close
            with one.connect(source="127.0.0.2") as over:
                assert over.call("over").says_close


def test_limit_per_address_counts_each_client(make_daemon):
    """Connections through the proxy and direct ones count together, and so do all addresses of an IPv6 /64."""
    one = make_daemon(trusting(ONE_LOOP, limits={"connections_per_address": 2})).start()
    with contextlib.ExitStack() as stack:
        def closes(preface, **options):
            connection = stack.enter_context(one.connect(preface=preface, **options))
            return connection.call("one").says_close

        assert [closes(v1()) for _ in range(3)] == [False, False, True]
        assert [closes(v2()) for _ in range(2)] == [True, True]
        assert [closes(v2("192.0.2.2")) for _ in range(3)] == [False, False, True]
        assert [closes(v2(f"2001:db8::{i}")) for i in (1, 2, 3)] == [False, False, True]
        assert not closes(v2("2001:db8:0:1::1"))
        assert [closes(v2("127.0.0.2")), closes(b"", source="127.0.0.2")] == [False, False]
        assert closes(b"", source="127.0.0.2")


def test_rejects_a_client_beyond_the_reserve(make_daemon):
    one = make_daemon(trusting(ONE_LOOP, limits={"connections_per_address": LIMIT})).start()
    with contextlib.ExitStack() as stack:
        busy = [stack.enter_context(one.connect(preface=v2())) for _ in range(LIMIT)]
        assert [connection.call("before").status for connection in busy] == [200] * LIMIT
        with one.locked():
            for i in range(HARD_LIMIT):
                if i >= LIMIT:
                    busy.append(stack.enter_context(one.connect(preface=v2())))
                busy[i].send(daemon.request(daemon.event(GroupId=f"busy-{i}")))
            assert one.rejects(preface=v2()) and one.rejects(preface=v1())
            assert not one.rejects(preface=v2("192.0.2.2")) and not one.rejects()
        assert [connection.read_answer().status for connection in busy] == [200] * HARD_LIMIT
        daemon.eventually(lambda: not one.rejects(preface=v2()), "an accepted connection")
    assert len(re.findall("refused overloaded from 192.0.2.1", one.log)) == 1
    assert "TLS handshake" not in one.log


def test_evicts_the_idle_connection_of_the_same_client(make_daemon):
    one = make_daemon(trusting(ONE_LOOP, limits={"connections_per_address": 2})).start()
    with contextlib.ExitStack() as stack:
        def enter(client):
            return stack.enter_context(one.connect(preface=v2(client)))

        other, proxy = enter("192.0.2.2"), stack.enter_context(one.connect())
        first, second = enter("192.0.2.1"), enter("192.0.2.1")
        over = enter("192.0.2.1")
        assert first.is_closed()
        for connection in (other, proxy, second, over):
            answer = connection.call("kept")
            assert (answer.status, answer.says_close) == (200, False)


def test_limit_for_all_counts_the_proxy(make_daemon):
    one = make_daemon(trusting(ONE_LOOP, limits={"connections": 3})).start()
    with contextlib.ExitStack() as stack:
        for preface in (b"", v2(), raw_v2(LOCAL, UNSPEC)):
            assert not stack.enter_context(one.connect(preface=preface)).call("in").says_close
        with one.connect(preface=v2("192.0.2.2")) as over:
            assert over.call("over").says_close


def test_an_incomplete_header_can_be_evicted(make_daemon):
    """The callback service gives up after 2 s, so a connection that has sent no request by then is evicted for a new
    one."""
    one = make_daemon(trusting(ONE_LOOP, limits={"connections": 1})).start()
    with one.connect_plain() as half:
        half.sendall(v2()[:20])

        def is_served():
            with one.connect(preface=v2()) as connection:
                return not connection.call("new").says_close

        daemon.eventually(is_served, "a connection within the limit")
        assert half.recv(1) == b""


# Health checks and faults

def test_health_checks_write_no_line(make_daemon):
    """As a health check, load balancers open a connection and close it, with or without a header."""
    port = daemon.free_port()
    one = make_daemon(trusting(admin={"port": port})).start()
    before = one.lines[:]
    for preface in (b"", raw_v2(LOCAL, UNSPEC), b"PROXY UNKNOWN\r\n", v1(), v2()) * 5:
        with one.connect_plain() as plain:
            plain.sendall(preface)
    failed = 'imcallbackd_tls_handshakes_total{result="failed"}'
    daemon.eventually(lambda: monitoring.metrics(port)[failed] == 25, "the end of all connections")
    assert one.lines == before


@pytest.mark.parametrize("data, reason", [
    (v1("x"), "an address does not belong to the protocol"),
    (v2().replace(b"QUIT\n\x21", b"QUIT\n\x31"), "the version is not 2"),
    (v2()[:20], "the connection ended within the header"),
    (v1()[:20], "the connection ended within the header"),
    (b"P", "the connection ended within the header"),
], ids=["v1", "v2", "half v2", "half v1", "one byte"])
def test_a_malformed_header_is_logged_once(make_daemon, data, reason):
    """The line names the proxy and the reason. Further lines are suppressed for 10 s."""
    port = daemon.free_port()
    one = make_daemon(trusting(admin={"port": port})).start()
    for _ in range(5):
        with one.connect_plain() as plain:
            plain.sendall(data)
            with contextlib.suppress(OSError):  # the daemon may have closed the connection already
                plain.shutdown(socket.SHUT_WR)
                assert plain.recv(1) == b""
    malformed = 'imcallbackd_proxy_headers_total{result="malformed"}'
    daemon.eventually(lambda: monitoring.metrics(port)[malformed] == 5, "all headers")
    (line,) = [line for line in one.lines if "PROXY" in line]
    assert line == (f"<4>trusted proxy {PEER}: malformed PROXY header (and 0 more since the last such line): {reason}; "
                    "correct the configuration of the proxy")
    assert "TLS handshake" not in one.log


def test_a_stop_does_not_wait_for_a_header(make_daemon):
    one = make_daemon(trusting()).start()
    with one.connect_plain() as half, one.connect_plain() as silent, one.connect(preface=v2()) as idle:
        half.sendall(v2()[:20])
        assert idle.call("idle").status == 200
        one.stop()
        with contextlib.suppress(ConnectionResetError):
            assert half.recv(1) == b""
        with contextlib.suppress(ConnectionResetError):
            assert silent.recv(1) == b""


# Configuration

def address_of(one, name, preface=b"", headers=(), **options):
    with one.connect(preface=preface, **options) as connection:
        answer = connection.answer_to(daemon.request(daemon.event(GroupId=name), headers=headers))
        assert answer.status == 200
    (row,) = one.groups(name)
    return row["remote_address"]


def test_applies_trusted_proxies_in_a_reload(one):
    """Neither adding nor removing a proxy needs a restart. The new list does not apply to open connections."""
    forwarded = ["X-Forwarded-For: 192.0.2.1"]
    assert one.rejects(preface=v2())
    assert address_of(one, "before", headers=forwarded) == PEER
    with one.connect() as untrusted:
        one.reload(trusting())
        assert address_of(one, "header", v2()) == "192.0.2.1"
        assert address_of(one, "forwarded", headers=forwarded) == "192.0.2.1"
        request = daemon.request(daemon.event(GroupId="open"), headers=forwarded)
        assert untrusted.answer_to(request).status == 200
        assert one.groups("open")[0]["remote_address"] == PEER
    with one.connect() as trusted:
        one.reload({"listen": {"trusted_proxies": "127.0.0.2"}})
        assert one.rejects(preface=v2()) and not one.rejects(preface=v2(), source="127.0.0.2")
        request = daemon.request(daemon.event(GroupId="still trusted"), headers=forwarded)
        assert trusted.answer_to(request).status == 200
        assert one.groups("still trusted")[0]["remote_address"] == "192.0.2.1"
    one.reload({})
    assert one.rejects(preface=v2(), source="127.0.0.2")
    assert address_of(one, "removed", headers=forwarded) == PEER
    assert "reload failed" not in one.log


@pytest.mark.parametrize("proxies", ["0.0.0.0/0", "10.0.0.0/8, 0.0.0.0/0 ::/0", "127.0.0.1 0.0.0.0/1"])
def test_warns_of_trust_in_a_wide_block(make_daemon, proxies):
    """`check`, the start and each reload of such a configuration report the warning once."""
    one = make_daemon({"listen": {"trusted_proxies": proxies}})
    checked = daemon.run(daemon.BINARY, "check", "-c", one.config)
    assert checked.returncode == 0 and checked.stderr.count(WIDE) == 1, checked
    assert re.search(rf"(?m)^warning: {one.config}:\d+: \[listen\] trusted_proxies: {WIDE}", checked.stderr)
    one.start()
    assert one.log.count(WIDE) == 1
    assert address_of(one, "anyone", v2(), source="127.0.0.9") == "192.0.2.1"
    one.reload(trusting())
    assert one.log.count(WIDE) == 1
    one.reload({"listen": {"trusted_proxies": proxies}})
    daemon.eventually(lambda: one.log.count(WIDE) == 2, "the second warning")


def test_check_accepts_a_list_of_proxies(make_daemon):
    one = make_daemon({"listen": {"trusted_proxies": "10.0.0.0/8, 192.0.2.1 2001:db8::/32"}})
    checked = daemon.run(daemon.BINARY, "check", "-c", one.config)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "trusted_proxies = 10.0.0.0/8, 192.0.2.1 2001:db8::/32\n" in checked.stdout


@pytest.mark.parametrize("trusted, v4, v6", [
    (PEER, True, False), ("::1", False, True), ("::1 127.0.0.0/8", True, True), ("::/0", True, True),
    ("0.0.0.0/0", True, False), ("::ffff:127.0.0.1/128", True, False),
])
def test_trusts_peers_of_both_families(make_daemon, trusted, v4, v6):
    """On a socket for both families, the list matches the IPv4 address of an IPv4 proxy."""
    one = make_daemon({"listen": {"address": "::", "trusted_proxies": trusted}}).start()
    for peer, is_trusted in ((PEER, v4), ("::1", v6)):
        assert one.rejects(preface=v2(), source=peer, to=peer) != is_trusted
        if is_trusted:
            assert address_of(one, f"from {peer}", v2("2001:db8::7"), source=peer, to=peer) == "2001:db8::7"


@pytest.mark.parametrize("address", [PEER, "::1"])
def test_trusts_proxies_on_passed_sockets(make_daemon, address):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    one = make_daemon({"listen": {"trusted_proxies": address}})
    with socket.create_server((address, 0), family=family) as listener:
        one.start(sockets=[listener])
        assert address_of(one, "header", v2(), to=address) == "192.0.2.1"
        assert address_of(one, "forwarded", headers=["X-Forwarded-For: 192.0.2.2"], to=address) == "192.0.2.2"
        one.stop()


def test_reloads_and_limits_disturb_no_proxied_call(make_daemon):
    """Clients with different addresses call while the list changes. With ThreadSanitizer, the test also finds data
    races."""
    one = make_daemon(trusting({"threads": 2})).start()
    over, failures = threading.Event(), []

    def call_all(number):
        context, i = one.tls_context(), 0
        while not over.is_set():
            i += 1
            client = f"192.0.2.{i % 5}"
            preface, headers = [(v2(client), []), (v1(client), []), (b"", [f"X-Forwarded-For: {client}"]),
                                (raw_v2(LOCAL, UNSPEC), [])][i % 4]
            try:
                with one.connect(context, preface=preface) as connection:
                    body = daemon.event(GroupId=f"{number}-{i}")
                    status = connection.answer_to(daemon.request(body, headers=headers)).status
            except (OSError, AssertionError) as error:
                failures.append(repr(error))
            else:
                if status != 200:
                    failures.append(status)

    threads = [threading.Thread(target=call_all, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for i in range(10):
            one.reload(trusting({"threads": 2, "trusted_proxies": f"{PEER} 10.0.0.{i}"},
                                limits={"connections_per_address": 100 + i}))
            count = len(one.group_ids())
            daemon.eventually(lambda: len(one.group_ids()) > count + 20, "further events")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    seen = {row["remote_address"] for row in one.groups()}
    assert seen == {PEER, *(f"192.0.2.{i}" for i in range(5))}
