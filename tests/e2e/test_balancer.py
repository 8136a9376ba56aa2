"""Tests HAProxy with conf/proxy/haproxy-balancer.cfg in front of two receivers, which terminate TLS: the receivers
learn the clients' addresses from the PROXY header, and only a receiver that can record gets connections."""

import contextlib
import itertools
import re
import shutil
import socket
import ssl
import types

import pytest

import daemon
import monitoring
import reverse_proxies
from proxy_protocol import v1, v2
from reverse_proxies import CLIENT

ADDRESSES = ("127.0.0.11", "127.0.0.12")


class Balancer(reverse_proxies.Proxy):
    program, file = "haproxy", "haproxy-balancer.cfg"

    def command(self):
        return reverse_proxies.HAProxy.command(self)


def receiver(address, port, admin_port, first=None):
    """Creates a receiver. first: another receiver, whose certificate this one uses."""
    one = daemon.Daemon({"listen": {"address": address, "port": port, "trusted_proxies": "127.0.0.1"},
                         "admin": {"address": address, "port": admin_port}})
    for name in ("certificate.pem", "key.pem") if first else ():
        shutil.copy(first.directory / name, one.directory)
    return one


@pytest.fixture
def setup():
    if not reverse_proxies.program("haproxy"):
        pytest.skip("haproxy is not installed")
    port, admin_port, balancer, receivers = daemon.free_port(), daemon.free_port(), Balancer(), []
    try:
        for address in ADDRESSES:
            receivers.append(receiver(address, port, admin_port, *receivers[:1]))
            receivers[-1].start()
        # The receivers terminate TLS, so a client of the balancer must trust their certificate.
        shutil.copy(receivers[0].directory / "certificate.pem", balancer.directory / "front.pem")
        balancer.write_config({":::443 v4v6": f"127.0.0.1:{balancer.port}", "port 9463": f"port {admin_port}",
                               "10.0.0.11:443": f"{ADDRESSES[0]}:{port}", "10.0.0.12:443": f"{ADDRESSES[1]}:{port}",
                               "option tcplog": "option tcplog\n    option log-health-checks"})
        balancer.start()
        yield types.SimpleNamespace(balancer=balancer, receivers=receivers, admin_port=admin_port)
        balancer.stop()
        for one in receivers:
            if one.process:
                one.stop()
    finally:
        balancer.destroy()
        for one in receivers:
            one.destroy()


def groups(setup):
    """Returns the ids of the groups that each receiver has recorded."""
    return [one.group_ids() for one in setup.receivers]


def send_one(setup, group_id, connection=None):
    """Sends an event. Returns the index of the receiver that has recorded the event."""
    answer = (setup.balancer.send_event(daemon.event(GroupId=group_id)) if not connection else
              reverse_proxies.send(connection, "/?" + daemon.query_string(), daemon.event(GroupId=group_id)))
    assert answer.code == 0, answer
    (number,) = [number for number, ids in enumerate(groups(setup)) if group_id in ids]
    return number


def wait_for_use(setup, number):
    """Sends events until this receiver records one, which shows that the balancer uses the receiver again."""
    ids = (f"for-{number}-{i}" for i in itertools.count())
    daemon.eventually(lambda: send_one(setup, next(ids)) == number, f"an event at receiver {number}")


def wait_for_health(setup):
    """Waits until a single failed check takes no receiver out of service. After its start, HAProxy requires three
    successful checks for this."""
    for number in (1, 2):
        daemon.eventually(lambda: re.search(rf"receiver{number} succeeded.* 3/3 UP", setup.balancer.logs()),
                          f"three successful checks of receiver {number}")


def test_events_are_spread_and_recorded_with_the_address_of_the_client(setup):
    with contextlib.ExitStack() as stack:
        for number in range(4):
            connection = stack.enter_context(contextlib.closing(setup.balancer.connect(CLIENT)))
            for forged in ((), [("X-Forwarded-For", "198.51.100.7")]):
                body = daemon.event(GroupId=f"group-{number}-{len(forged)}")
                assert reverse_proxies.send(connection, "/?" + daemon.query_string(), body, forged).code == 0
    assert [len(ids) for ids in groups(setup)] == [4, 4]
    for one, address in zip(setup.receivers, ADDRESSES):
        assert {group["remote_address"] for group in one.groups()} == {CLIENT}
        values = monitoring.metrics((address, setup.admin_port))
        assert values['imcallbackd_tls_handshakes_total{result="full"}'] == 2
        assert values['imcallbackd_proxy_headers_total{result="malformed"}'] == 0
        assert "refused" not in one.log, one.log


@pytest.mark.parametrize("header", [v1(), v2()], ids=["v1", "v2"])
def test_header_of_a_client_breaks_the_handshake(setup, header):
    """The receiver reads only the balancer's own header, which comes first, and takes the client's header for a
    malformed ClientHello."""
    with socket.create_connection(("127.0.0.1", setup.balancer.port), timeout=daemon.START_DEADLINE) as plain:
        plain.sendall(header)
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            ssl.create_default_context(cafile=setup.balancer.directory / "front.pem").wrap_socket(
                plain, server_hostname="localhost")
    assert groups(setup) == [[], []]


def is_closed(connection):
    """Returns whether the server has closed the idle connection."""
    connection.sock.settimeout(0)
    try:
        return not connection.sock.recv(1)
    except (ssl.SSLWantReadError, BlockingIOError):
        return False
    except OSError:
        return True


def test_receiver_that_cannot_record_is_avoided(setup):
    with contextlib.closing(setup.balancer.connect()) as connection:
        number = send_one(setup, "before", connection)
        failing = setup.receivers[number]
        direct = daemon.Connection(failing.port, failing.tls_context(), to=ADDRESSES[number])
        with direct, failing.locked():
            direct.send(daemon.request(daemon.event(GroupId="held")))
            daemon.eventually(lambda: is_closed(connection), "the end of the connection to the failing receiver")
            for i in range(4):
                assert send_one(setup, f"meanwhile-{i}") == 1 - number
        wait_for_use(setup, number)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_receivers_restart_one_after_the_other(setup, end):
    wait_for_health(setup)
    with reverse_proxies.sending(setup.balancer, 4) as senders:
        for number, one in enumerate(setup.receivers):
            reverse_proxies.wait_for_answers(senders)
            getattr(one, end)()
            reverse_proxies.wait_for_answers(senders)  # from the other receiver
            one.start()
            wait_for_use(setup, number)
    acknowledged = set.union(*(sender.acknowledged for sender in senders))
    assert acknowledged <= set(sum(groups(setup), []))
    for sender in senders:
        assert sender.failed == 0 and (sender.closed == 0 or end == "kill"), senders
