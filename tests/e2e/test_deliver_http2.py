"""Tests `deliver` with nginx in front of the application: HTTP/2 if nginx offers it, and connections that nginx
closes."""

import pytest

import nginx
from delivery import Ledger, deliver_to, wait_delivered
from endpoint import late

pytestmark = pytest.mark.skipif(not nginx.PROGRAM, reason="nginx is not installed")


@pytest.fixture
def application(make_endpoint):
    return make_endpoint(tls=False)


@pytest.fixture
def make_nginx(endpoint, application, tmp_path):
    """Starts nginx in front of the application, with the certificate of the endpoint."""
    made = []

    def make(**options):
        made.append(nginx.Nginx(tmp_path / f"nginx{len(made)}", endpoint.certificate, application.port, **options))
        return made[-1].start()

    try:
        yield make
    finally:
        for one in made:
            one.stop()


def start(one, front, endpoint, deliver, **keys):
    deliver_to(one, endpoint, url=f"https://127.0.0.1:{front.port}/cb", **keys)
    one.start()
    assert one.load(connections=20, total=400, groups=100)[0] == 0
    return deliver(one)


def test_uses_one_connection_of_http_2(fresh, make_nginx, endpoint, application, deliver):
    application.answer(late(0.02))
    front = make_nginx()
    start(fresh, front, endpoint, deliver)
    wait_delivered(fresh, application)
    assert Ledger(fresh, application).check() == 0
    requests = front.requests()
    assert {protocol for protocol, _, _, _ in requests} == {"HTTP/2.0"}
    # Only the first requests do not know yet that they can share a connection.
    later = requests[len(requests) // 2:]
    assert len({connection for _, connection, _, _ in later}) <= 2, requests


def test_uses_http_1_1_where_nginx_offers_nothing_else(fresh, make_nginx, endpoint, application, deliver):
    application.answer(late(0.02))
    front = make_nginx(http2=False)
    start(fresh, front, endpoint, deliver, in_flight=4)
    wait_delivered(fresh, application)
    assert Ledger(fresh, application).check() == 0
    requests = front.requests()
    assert {protocol for protocol, _, _, _ in requests} == {"HTTP/1.1"}
    assert 1 < len({connection for _, connection, _, _ in requests}) <= 4


@pytest.mark.parametrize("http2", [True, False])
def test_goes_on_when_nginx_ends_connections(fresh, make_nginx, endpoint, application, deliver, http2):
    """nginx closes a connection after 20 requests; in HTTP/2, it announces this with GOAWAY."""
    application.answer(late(0.005))
    front = make_nginx(http2=http2, keepalive_requests=20)
    start(fresh, front, endpoint, deliver)
    wait_delivered(fresh, application, 120)
    assert Ledger(fresh, application).check() == 0
    assert len({connection for _, connection, _, _ in front.requests()}) >= 400 / 20


@pytest.mark.parametrize("http2", [True, False])
def test_goes_on_when_nginx_is_reloaded_or_restarted(fresh, make_nginx, endpoint, application, deliver, http2):
    application.answer(late(0.005))
    front = make_nginx(http2=http2)
    start(fresh, front, endpoint, deliver, in_flight=4)
    application.wait_requests(50)
    front.reload()
    application.wait_requests(100)
    front.stop()
    front.start()
    wait_delivered(fresh, application, 120)
    Ledger(fresh, application).check(interrupted=4)


def test_retries_while_the_application_is_away(fresh, make_nginx, endpoint, application, deliver):
    """While the application is stopped, nginx answers with status 502."""
    front = make_nginx()
    application.stop()
    deliverer = start(fresh, front, endpoint, deliver)
    deliverer.wait_logged("502")
    application.start()
    wait_delivered(fresh, application, 120)
    assert Ledger(fresh, application).check() == 0
