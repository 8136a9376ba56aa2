"""Tests that a web page of another site cannot read the admin listeners: the check of the Host header, which defeats DNS
rebinding, and the headers of every answer, which forbid a browser to embed or to interpret it."""

import contextlib
import socket

import pytest

import daemon
import delivery
import monitoring
import postgres
from daemon import eventually

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
STRICT_POLICY = "default-src 'none'; frame-ancestors 'none'"
PATHS = ("/", "/healthz", "/readyz", "/metrics", "/status.json", "/nothing")
TEXT_PATHS = ("/healthz", "/readyz", "/metrics", "/nothing")


class Listener:
    """The admin listener of a daemon, a TCP or a Unix socket that the test passes to it."""

    def __init__(self, one, socket_):
        self.daemon = one
        self.socket = socket_

    def send(self, *hosts, path="/healthz", method="GET", version="1.1"):
        """Sends a request with these Host headers. Returns the status, the headers and the body."""
        head = f"{method} {path} HTTP/{version}\r\n" + "".join(f"Host:{host}\r\n" for host in hosts)
        with socket.socket(self.socket.family) as client:
            client.settimeout(20)
            client.connect(self.socket.getsockname())
            client.sendall(head.encode("latin-1") + b"Connection: close\r\n\r\n")
            received = b""
            while more := client.recv(65536):
                received += more
        head, _, body = received.decode().partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


@contextlib.contextmanager
def listening(settings=None, socket_=None):
    one = daemon.Daemon(settings)
    try:
        with socket_ or socket.create_server(("127.0.0.1", 0)) as listener:
            one.start(sockets=[listener], names="admin")
            yield Listener(one, listener)
            one.stop()
    finally:
        one.destroy()


@pytest.fixture(scope="module")
def admin():
    with listening({"admin": {"host": "prometheus.example.org Status"}}) as listener:
        yield listener


NAME = socket.gethostname()


@pytest.mark.parametrize("host", [
    "127.0.0.1", "127.0.0.1:9463", "192.0.2.1", "[::1]", "[2001:db8::1]:9463", "localhost", "LOCALHOST.:80", NAME,
    f"{NAME.upper()}.:9463", NAME.partition(".")[0], "prometheus.example.org:9463", "status.",
])
def test_accepts_addresses_and_known_names(admin, host):
    for path in PATHS:
        assert admin.send(f" {host}", path=path)[0] in (200, 404), path


@pytest.mark.parametrize("host", [
    "evil.example", "evil.example:9463", "localhost.evil.example", "127.0.0.1.evil.example", "[::1]evil",
    "user@localhost", "localhost:65536", "localhost:", "local host", "a" * 255, "<b>&\"'\x01\xff",
    f"{NAME}.evil.example", "example.org",
])
def test_refuses_other_names(admin, host):
    for path in PATHS:
        status, headers, text = admin.send(f" {host}", path=path)
        assert status == 421, path
        assert headers["Content-Type"] == "text/plain; charset=utf-8"
        assert text.startswith('Host: "') and text.endswith("or add the name to [admin] host\n") and text.count("\n") == 1
        assert "\x01" not in text and "\\u0001" in text or "\x01" not in host
    assert f'"{host}"' in text or not host.isalnum()
    assert admin.send(f" {host}", method="POST")[0] == 421


def test_refuses_an_empty_host(admin):
    for host in ("", " "):
        assert admin.send(host)[0] in (400, 421)


def test_accepts_the_cookies_of_other_sites_on_the_same_name(admin):
    """A browser sends the cookies of every port of a host, and those of the parent domain."""
    for length in (4000, 8000, 12000):
        assert admin.send(f" localhost\r\nCookie: a={'x' * length}", path="/")[0] == 200


def test_refuses_several_hosts(admin):
    for hosts in ((" localhost", " evil.example"), (" evil.example", " localhost"), (" localhost", " localhost")):
        status, headers, text = admin.send(*hosts)
        assert status == 400
        assert HEADERS.items() <= headers.items()
        assert text == "Host: the request has 2 Host headers: one is required; send one\n"


def test_health_checks_need_no_host(admin):
    assert admin.send(version="1.0")[0] == 200
    assert admin.send(" evil.example", version="1.0")[0] == 421
    assert admin.send(version="1.1")[0] == 400


def test_a_unix_socket_accepts_every_host(tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "admin"))
    listener.listen()
    with listening(socket_=listener) as admin:
        for hosts in ((" evil.example",), (), (" a", " b")):
            assert admin.send(*hosts, version="1.0")[0] == 200


def test_a_reload_changes_the_names():
    with listening({"admin": {"host": "first.example"}}) as admin:
        assert [admin.send(f" {name}.example")[0] for name in ("first", "second")] == [200, 421]
        admin.daemon.reload({"admin": {"host": "second.example"}})
        eventually(lambda: admin.send(" second.example")[0] == 200, "the new name")
        assert admin.send(" first.example")[0] == 421
        admin.daemon.reload({})
        eventually(lambda: admin.send(" second.example")[0] == 421, "no name")


@pytest.mark.parametrize("path", TEXT_PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_text_can_be_neither_embedded_nor_interpreted(admin, path, method, host):
    _, headers, _ = admin.send(f" {host}", path=path, method=method)
    assert HEADERS.items() <= headers.items()
    assert headers["Content-Security-Policy"] == STRICT_POLICY


def check_service(service, port):
    """Checks the admin listener of a service: it has the same server as the daemon."""
    service.wait_logged(f"monitoring in plain HTTP on 127.0.0.1:{port}: ")
    assert monitoring.ask(port, "/healthz")[0] == 200
    for host, status in (("evil.example", 421), ("status.example", 200), ("localhost", 200)):
        with contextlib.closing(monitoring.connect(port)) as connection:
            connection.request("GET", "/metrics", headers={"Host": host})
            answer = connection.getresponse()
            assert answer.status == status
            assert HEADERS.items() <= dict(answer.getheaders()).items()


def test_deliver_checks_the_host(fresh, endpoint, deliver):
    port = daemon.free_port()
    delivery.deliver_to(fresh, endpoint, {"admin": {"host": "status.example"}}, admin_port=port)
    fresh.start()
    check_service(deliver(fresh), port)


def test_forward_checks_the_host(fresh, server, forward):
    port = daemon.free_port()
    postgres.ship_to(fresh, server, settings={"admin": {"host": "status.example"}}, admin_port=port)
    fresh.start()
    check_service(forward(fresh), port)
