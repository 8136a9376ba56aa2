"""Tests nginx, HAProxy and Caddy with the files of conf/proxy while imcallbackd restarts, hangs or is down, or while
the proxy reaches a server with another certificate. An event that was answered OK is recorded. For any other event, the client
gets an error or the end of the connection before the service gives up. No event ever reaches the application."""

import contextlib
import os
import socket
import time

import pytest

import daemon
import monitoring
import reverse_proxies
from certificates import P_256, make_certificate
from reverse_proxies import OTHER_QUERY

RESTARTS = int(os.environ.get("RESTARTS", "2"))  # more with RESTARTS=20 ctest -R e2e-reverse_proxy_failures
SENDERS = 4
SERVICE_WAITS_S = 2
LARGE = {"MemberList": [{"Member_Account": f"{'m' * 50}{i}"} for i in range(20_000)]}


@pytest.fixture(params=reverse_proxies.HTTP_PROXIES)
def setup(request):
    with reverse_proxies.running(reverse_proxies.HTTP_PROXIES[request.param]) as setup:
        yield setup


def restart_repeatedly(setup, end, start):
    """Restarts the daemon while events arrive. `end` is "stop" or "kill". Returns the senders."""
    with reverse_proxies.sending(setup.proxy, SENDERS) as senders:
        for _ in range(RESTARTS):
            reverse_proxies.wait_for_answers(senders)
            getattr(setup.one, end)()
            start()
        reverse_proxies.wait_for_answers(senders)
    assert set.union(*(sender.acknowledged for sender in senders)) <= set(setup.one.group_ids("sender-"))
    assert setup.application.requests == []
    for sender in senders:
        assert sender.slowest_s < SERVICE_WAITS_S
        # After a kill, an answer may be incomplete, and HAProxy 2.6 may close the client's connection instead of
        # answering. The service notices either at once.
        assert sender.closed == 0 or end == "kill"
    return senders


@pytest.mark.timing
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_with_the_socket_of_systemd_loses_no_event(setup, end):
    one = setup.one
    one.stop()
    with socket.create_server(("127.0.0.1", one.port), backlog=1024) as listener:
        def start():
            one.start(sockets=[listener], names="callback")

        start()
        senders = restart_repeatedly(setup, end, start)
        one.stop()
    one.start()
    # A restart can lose two events of a sender: the event in progress at a kill, and an event that waits longer than
    # the proxy allows.
    for sender in senders:
        assert sender.failed + sender.closed <= 2 * RESTARTS


@pytest.mark.timing
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_without_systemd_loses_no_acknowledged_event(setup, end):
    restart_repeatedly(setup, end, setup.one.start)


def check_failure(setup, fields):
    """Sends an event, which the proxy itself must answer with a 5xx status before the service gives up."""
    start = time.monotonic()
    answer = setup.proxy.send_event(daemon.event(**fields))
    assert time.monotonic() - start < SERVICE_WAITS_S
    assert 500 <= answer.status < 600 and answer.code is None, answer
    assert setup.application.requests == []


def check_application(setup):
    assert setup.proxy.send("/?" + OTHER_QUERY, b"{}").status == 202
    setup.application.take()


@pytest.mark.timing
def test_hanging_receiver_is_answered_in_time(setup):
    with setup.one.paused():
        check_failure(setup, {"GroupId": "new connection"})
        check_application(setup)
    assert setup.proxy.send_event(daemon.event(GroupId="between")).code == 0
    with setup.one.paused():
        check_failure(setup, {"GroupId": "large on an open connection"} | LARGE)
        check_application(setup)


@pytest.mark.timing
def test_receiver_that_is_down_is_answered_in_time(setup):
    assert setup.proxy.send_event(daemon.event(GroupId="before")).code == 0
    setup.one.stop()
    check_failure(setup, {"GroupId": "small"})
    check_failure(setup, {"GroupId": "large"} | LARGE)
    check_application(setup)
    setup.one.start()
    assert setup.proxy.send_event(daemon.event(GroupId="afterwards")).code == 0
    assert setup.one.group_ids() == ["before", "afterwards"]


@pytest.mark.timing
def test_event_that_waits_for_the_disk_is_answered_in_time_and_recorded(setup):
    with setup.one.locked():
        check_failure(setup, {"GroupId": "late"})
    daemon.eventually(lambda: setup.one.group_ids() == ["late"], "the event")


def test_events_are_recorded_while_the_application_is_down(setup):
    setup.application.close()
    answer = setup.proxy.send("/?" + OTHER_QUERY, b"{}")
    assert 500 <= answer.status < 600, answer
    assert setup.proxy.send_event().code == 0
    assert len(setup.one.groups()) == 1


@pytest.mark.parametrize("wrong", ["issuer", "name"])
def test_sends_no_event_to_a_server_with_another_certificate(setup, wrong):
    """Another server could record the event and reuse its signature."""
    certificate, name = setup.one.directory / "certificate.pem", "im.example.org"
    if wrong == "issuer":
        make_certificate(setup.proxy.directory, *P_256, name="other.pem", key="other.key")
        certificate, name = setup.proxy.directory / "other.pem", "localhost"
    setup.proxy.stop()
    setup.proxy.configure(setup.one.port, setup.application.port, certificate, name).start()
    check_failure(setup, {})
    check_application(setup)
    assert setup.one.groups() == []


def test_reuses_connections_to_imcallbackd(setup):
    for number in range(20):
        assert setup.proxy.send_event(daemon.event(GroupId=f"new-{number}")).code == 0
    with contextlib.closing(setup.proxy.connect()) as connection:
        for number in range(20):
            body = daemon.event(GroupId=f"kept-{number}")
            assert reverse_proxies.send(connection, "/?" + daemon.query_string(), body).code == 0
    values = monitoring.metrics(setup.admin_port)
    assert values['imcallbackd_callbacks_total{result="recorded"}'] == 40
    handshakes = sum(value for name, value in values.items() if "tls_handshakes_total" in name)
    assert handshakes <= 4, handshakes  # at most one for each process or thread of the proxy
