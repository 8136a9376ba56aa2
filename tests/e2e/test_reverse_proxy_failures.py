"""nginx, HAProxy and Caddy with the files of conf/proxy while imcallbackd restarts, hangs, fails or is an impostor. An
event that was answered OK is recorded. Any other event is answered before the service gives up, and no event ever
reaches the application."""

import contextlib
import os
import socket
import threading
import time

import pytest

import daemon
import monitoring
import reverse_proxies
from certificates import P_256, make_certificate

RESTARTS = int(os.environ.get("RESTARTS", "3"))  # more with RESTARTS=20 ctest -R e2e-reverse_proxy_failures
SERVICE_WAITS_S = 2
OTHER_QUERY = daemon.query_string(CallbackCommand="Group.CallbackBeforeSendMsg")
LARGE = {"MemberList": [{"Member_Account": f"{'m' * 50}{i}"} for i in range(20_000)]}


@pytest.fixture(params=reverse_proxies.HTTP_PROXIES)
def setup(request):
    with reverse_proxies.installed(request.param) as setup:
        yield setup


class Sender(threading.Thread):
    """Sends one event after the other through the proxy until the end of the test."""

    def __init__(self, setup, number):
        super().__init__()
        self.setup, self.number, self.over = setup, number, threading.Event()
        self.acknowledged, self.failed, self.slowest_s = set(), [], 0.0
        self.surprise = None
        self.start()

    def run(self):
        sent = 0
        with contextlib.closing(self.setup.proxy.connect()) as connection:
            while not self.over.is_set() and not self.surprise:
                sent += 1
                self.send(connection, f"sender-{self.number}-{sent}")

    def send(self, connection, group_id):
        start = time.monotonic()
        try:
            answer = reverse_proxies.send(connection, "/?" + daemon.query_string(), daemon.event(GroupId=group_id))
        except OSError as error:
            self.surprise = error
            return
        self.slowest_s = max(self.slowest_s, time.monotonic() - start)
        if answer.status == 200 and answer.code == 0:
            self.acknowledged.add(group_id)
        elif 500 <= answer.status < 600:
            self.failed.append(answer)
        else:
            self.surprise = answer


@contextlib.contextmanager
def sending(setup, count):
    """Sends events during the block. Afterwards, each one that was answered OK must be recorded."""
    senders = [Sender(setup, number) for number in range(count)]
    try:
        yield senders
    finally:
        for sender in senders:
            sender.over.set()
        for sender in senders:
            sender.join()
    print(setup.name, *(f"{len(sender.acknowledged)} OK, {len(sender.failed)} failed, at most {sender.slowest_s:.3f} s"
                        for sender in senders), sep="\n")
    for sender in senders:
        assert not sender.surprise, (sender.surprise, setup.proxy.logs()[-2000:])
        assert sender.slowest_s < SERVICE_WAITS_S
    acknowledged = set.union(*(sender.acknowledged for sender in senders))
    assert acknowledged <= set(setup.one.group_ids("sender-"))
    assert setup.application.requests == []


def restart_repeatedly(senders, end, start):
    """Restarts the daemon whenever each sender has got some answers from the current one."""
    for number in range(RESTARTS + 1):
        before = [len(sender.acknowledged) for sender in senders]
        daemon.eventually(lambda: any(sender.surprise for sender in senders) or
                          all(len(sender.acknowledged) > old + 5 for sender, old in zip(senders, before)), "events")
        if number < RESTARTS:
            end()
            start()


@pytest.mark.timing
@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_with_the_socket_of_systemd_loses_no_event(setup, count, end):
    one = setup.one
    one.stop()
    with socket.create_server(("127.0.0.1", one.port), backlog=1024) as listener:
        def start():
            one.start(sockets=[listener], names="callback")

        start()
        with sending(setup, count) as senders:
            restart_repeatedly(senders, getattr(one, end), start)
        one.stop()
    one.start()
    # After a kill, the events in progress fail. A stop takes longer than the proxies wait only on a very busy machine.
    for sender in senders:
        assert len(sender.failed) <= RESTARTS, sender.failed


@pytest.mark.timing
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_without_systemd_loses_no_acknowledged_event(setup, end):
    with sending(setup, 4) as senders:
        restart_repeatedly(senders, getattr(setup.one, end), setup.one.start)


def check_failure(setup, fields):
    """Sends an event, which the proxy has to answer with a failure in time."""
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
        check_failure(setup, {"GroupId": "large"} | LARGE)
        check_application(setup)
    assert setup.proxy.send_event(daemon.event(GroupId="between")).code == 0
    with setup.one.paused():
        check_failure(setup, {"GroupId": "open connection"})
        check_failure(setup, {"GroupId": "large on an open connection"} | LARGE)
        check_application(setup)


@pytest.mark.timing
def test_receiver_that_is_down_is_answered_in_time(setup):
    assert setup.proxy.send_event(daemon.event(GroupId="before")).code == 0
    setup.one.stop()
    for number in range(3):
        check_failure(setup, {"GroupId": f"small-{number}"})
        check_failure(setup, {"GroupId": f"large-{number}"} | LARGE)
        check_application(setup)
    setup.one.start()
    assert setup.proxy.send_event(daemon.event(GroupId="afterwards")).code == 0
    assert setup.one.group_ids() == ["before", "afterwards"]


@pytest.mark.timing
def test_event_that_waits_for_the_disk_is_answered_in_time_and_recorded(setup):
    with setup.one.locked():
        check_failure(setup, {"GroupId": "late"})
    daemon.eventually(lambda: setup.one.group_ids() == ["late"], "the event")


def test_application_that_is_down_does_not_matter_to_events(setup):
    setup.application.close()
    answer = setup.proxy.send("/?" + OTHER_QUERY, b"{}")
    assert 500 <= answer.status < 600, answer
    assert setup.proxy.send_event().code == 0
    assert len(setup.one.groups()) == 1


@pytest.mark.parametrize("wrong", ["issuer", "name"])
def test_another_certificate_is_refused(setup, wrong):
    """The proxy must not hand an event and its signature to a server that only claims to be imcallbackd."""
    certificate, name = setup.one.directory / "certificate.pem", "im.example.org"
    if wrong == "issuer":
        make_certificate(setup.proxy.directory, *P_256, name="other.pem", key="other.key")
        certificate, name = setup.proxy.directory / "other.pem", "localhost"
    setup.proxy.stop()
    setup.proxy.configure(setup.one.port, setup.application.port, certificate, name).start()
    check_failure(setup, {})
    check_application(setup)
    assert setup.one.groups() == []


def test_connections_to_imcallbackd_are_used_again(setup):
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
