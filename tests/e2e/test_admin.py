"""Tests the admin listener: its pages, the metrics, readiness, and that its clients do not disturb callbacks."""

import contextlib
import datetime
import os
import pathlib
import re
import socket
import time

import pytest

import daemon
from daemon import eventually, event, request
from monitoring import ask, connect, metrics

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
JSON = "application/json; charset=utf-8"


class Monitored:
    """A daemon whose admin listener is a socket that the test passes to it, as systemd would."""

    def __init__(self, one, listener, wrapper=()):
        self.daemon = one
        self.listener = listener
        self.wrapper = wrapper

    def start(self):
        self.daemon.start(self.wrapper, sockets=[self.listener], names="admin")
        return self

    def ask(self, path, method="GET", body=None):
        """Returns the status, the headers and the text."""
        return ask(self.listener.getsockname(), path, method, body)

    def ready(self):
        status, _, text = self.ask("/readyz")
        return status, text

    def metrics(self):
        return metrics(self.listener.getsockname())

    @contextlib.contextmanager
    def changes(self, expected):
        """Asserts that the block changes the metrics that `counted` matches by exactly the expected values."""
        before = self.metrics()
        yield
        counted = re.compile(r"imcallbackd_(callbacks|rejected|members_recorded|tls_handshakes)_total|"
                             r"imcallbackd_(answer_seconds_count|commit_batch_callbacks_sum)")

        def changed():
            after = self.metrics()
            return {name: after[name] - before[name] for name in after
                    if counted.match(name) and after[name] != before[name]}

        with contextlib.suppress(AssertionError):
            eventually(lambda: changed() == expected, "the metrics")
        assert changed() == expected


def by_label(name, label, **values):
    return {f'imcallbackd_{name}{{{label}="{text}"}}': value for text, value in values.items()}


def results(**values):
    return by_label("callbacks_total", "result", **values)


def causes(**values):
    return by_label("rejected_total", "cause", **values)


def handshakes(**values):
    return by_label("tls_handshakes_total", "result", **values)


BODY_READ = {"imcallbackd_answer_seconds_count": 1}


def stored(count):
    """Returns the expected changes in the metrics after `count` callbacks were committed and answered."""
    return {"imcallbackd_answer_seconds_count": count, "imcallbackd_commit_batch_callbacks_sum": count}


@pytest.fixture
def make_monitored(make_daemon):
    with contextlib.ExitStack() as listeners:
        def make(settings=None, apps=None):
            listener = listeners.enter_context(socket.create_server(("127.0.0.1", 0)))
            return Monitored(make_daemon(settings, apps), listener)

        yield make


@pytest.fixture(scope="module")
def monitored():
    one = daemon.Daemon()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield Monitored(one, listener).start()
            one.stop()
    finally:
        one.destroy()


# HTTP

@pytest.mark.parametrize("method, path, status, content_type", [
    ("GET", "/healthz", 200, PLAIN), ("HEAD", "/healthz", 200, PLAIN), ("GET", "/readyz", 200, PLAIN),
    ("HEAD", "/readyz", 200, PLAIN), ("GET", "/metrics", 200, METRICS_TYPE), ("HEAD", "/metrics", 200, METRICS_TYPE),
    ("GET", "/metrics?name=x", 200, METRICS_TYPE), ("POST", "/metrics", 405, PLAIN),
    ("PUT", "/healthz", 405, PLAIN), ("DELETE", "/readyz", 405, PLAIN), ("OPTIONS", "/healthz", 405, PLAIN),
    ("GET", "/", 200, HTML), ("HEAD", "/", 200, HTML), ("POST", "/", 405, PLAIN), ("GET", "/status.json", 200, JSON),
    ("HEAD", "/status.json", 200, JSON), ("GET", "/index.html", 404, PLAIN),
    ("GET", "/metrics/", 404, PLAIN), ("GET", "/Metrics", 404, PLAIN),
    ("HEAD", "/nothing", 404, PLAIN), ("POST", "/nothing", 404, PLAIN), ("GET", "//healthz", 404, PLAIN),
])
def test_serves_pages(monitored, method, path, status, content_type):
    body = b"x" * 100_000 if method in ("POST", "PUT") else None
    answered, headers, text = monitored.ask(path, method, body)
    assert (answered, headers["Content-Type"]) == (status, content_type)
    assert headers.get("Allow") == ("GET, HEAD" if status == 405 else None)
    assert (text == "") == (method == "HEAD") and int(headers["Content-Length"]) > 0


def test_keeps_connections_open(monitored):
    with contextlib.closing(connect(monitored.listener.getsockname())) as connection:
        for path, text in [("/healthz", b"alive\n"), ("/readyz", b"ready\n"), ("/healthz", b"alive\n")]:
            connection.request("GET", path)
            assert connection.getresponse().read() == text


MALFORMED = {
    "lines": b"\r\n\r\n", "word": b"GET\r\n\r\n", "target": b"GET /" + b"a" * 20000,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    "framing": b"GET /metrics HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "headers": b"GET /metrics HTTP/1.1\r\n" + b"Name: value\r\n" * 5000 + b"\r\n",
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED)
def test_survives_malformed_requests(monitored, sent):
    with socket.create_connection(monitored.listener.getsockname(), timeout=20) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
    assert monitored.ask("/healthz")[2] == "alive\n"


# Counters

def test_counts_callbacks_by_result(monitored):
    one = monitored.daemon
    two = [{"Member_Account": "a"}, {"Member_Account": "b"}]
    with monitored.changes(results(recorded=3) | {"imcallbackd_members_recorded_total": 3} | stored(3)
                         | handshakes(full=3)):
        assert one.post(event(GroupId="a", MemberList=two)).status == 200
        assert one.post(event(GroupId="b")).status == 200
        assert one.post(event(GroupId="c", MemberList=None)).status == 200
    with monitored.changes(results(repeated=2) | stored(2) | handshakes(full=2)):
        one.record("b", "b")
    with monitored.changes(results(conflict=1) | stored(1) | handshakes(full=1)):
        assert one.post(event(GroupId="b", Name="other")).status == 200
    with monitored.changes(results(set_aside=2) | causes(body_not_json=1, body_field_missing=1) | stored(2)
                         | handshakes(full=2)):
        assert one.post(b"{").status == 400
        assert one.post(event(GroupId=None)).status == 400
    with monitored.changes(results(refused=6) | BODY_READ | handshakes(full=6)
                         | causes(sign_wrong=1, request_time_stale=1, command_not_handled=1, command_differs=1,
                                  path_unknown=1, method_not_allowed=1)):
        assert one.post(Sign="0" * 64).status == 403
        assert one.post(**daemon.signature(at=1)).status == 403
        assert one.post(CallbackCommand="Other").status == 400
        assert one.post(event(CallbackCommand="Other")).status == 400
        assert one.post(path="/other").status == 404
        assert one.post(method="PUT").status == 405


def test_counts_acknowledged_callbacks(make_monitored):
    monitored = make_monitored({"callback": {"other_commands": "acknowledge"}}).start()
    with monitored.changes(results(acknowledged=1) | handshakes(full=1)):
        assert monitored.daemon.post(CallbackCommand="Other").status == 200


def test_counts_url_checks(monitored):
    one = monitored.daemon
    with monitored.changes(results(url_check=2) | {"imcallbackd_answer_seconds_count": 2} | handshakes(full=2)):
        assert one.post(b"", SdkAppid=None).status == 200
        assert one.post(b"{}", CallbackCommand=None).status == 200
    with monitored.changes(results(refused=2) | causes(sdk_appid_missing=1, command_missing=1)
                         | {"imcallbackd_answer_seconds_count": 2} | handshakes(full=2)):
        assert one.post(SdkAppid=None).status == 403
        assert one.post(CallbackCommand=None).status == 400


def test_logs_totals_at_the_end(make_monitored):
    monitored = make_monitored().start()
    monitored.daemon.post()
    monitored.daemon.post(Sign="0" * 64)
    monitored.daemon.stop()
    assert ("received since the start: recorded=1 repeated=0 conflict=0 set_aside=0 acknowledged=0 url_check=0 refused=1 "
            "failed=0" in monitored.daemon.log)


def test_counters_add_up_under_load(monitored):
    with monitored.changes(results(recorded=400) | {"imcallbackd_members_recorded_total": 2000} | stored(400)
                         | handshakes(full=20)):
        status, report = monitored.daemon.load(connections=20, total=400, members=5)
        assert (status, report["ok"]) == (0, 400)
    values = monitored.metrics()
    for name in ("answer_seconds", "commit_seconds", "commit_batch_callbacks"):
        buckets = [value for key, value in values.items() if key.startswith(f"imcallbackd_{name}_bucket")]
        assert buckets == sorted(buckets) and buckets[-1] == values[f"imcallbackd_{name}_count"] > 0
    assert values["imcallbackd_commit_seconds_count"] == values["imcallbackd_commit_batch_callbacks_count"]
    assert values["imcallbackd_commit_seconds_sum"] > 0 and values["imcallbackd_answer_seconds_sum"] > 0


def test_counts_handshakes_and_connections(monitored):
    one = monitored.daemon
    context = one.tls_context()
    eventually(lambda: monitored.metrics()["imcallbackd_connections"] == 0, "no connection")
    with monitored.changes(handshakes(full=1, resumed=1, failed=3) | results(repeated=1, recorded=1)
                         | {"imcallbackd_members_recorded_total": 1} | stored(2)):
        with one.connect(context) as first:
            assert first.answer_to(request(event(GroupId="session"))).status == 200
            with one.connect(context, session=first.tls.session) as second:
                assert second.answer_to(request(event(GroupId="session"))).status == 200 and second.tls.session_reused
                assert monitored.metrics()["imcallbackd_connections"] == 2
        for sent in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"):
            with socket.create_connection(("127.0.0.1", one.port)) as plain:
                plain.sendall(sent)
    eventually(lambda: monitored.metrics()["imcallbackd_connections"] == 0, "no connection")


def test_answers_while_the_writer_waits(make_monitored):
    """The writer waits for another process's lock. The admin listener does not wait for the writer."""
    monitored = make_monitored().start()
    one = monitored.daemon
    with one.connect() as connection:
        with one.locked():
            connection.send(request(event()))
            eventually(lambda: monitored.metrics()["imcallbackd_waiting_requests"] == 1, "a waiting request")
            assert monitored.ask("/healthz")[2] == "alive\n"
            monitored.ready()
            assert monitored.metrics()["imcallbackd_waiting_requests"] == 1
        assert connection.read_answer().status == 200
    assert monitored.metrics()["imcallbackd_waiting_requests"] == 0


# The clock

def test_reports_clock_skew(make_monitored):
    one = make_monitored().start()
    send = one.daemon.post

    def skew():
        return one.metrics()["imcallbackd_clock_skew_seconds"]

    def warnings():
        return [line for line in one.daemon.lines if "this machine's clock" in line]

    now = int(time.time())
    assert send(**daemon.signature(at=now - 30)).status == 200
    assert 30 <= skew() <= 30 + time.time() - now
    before = skew()
    assert send(**daemon.signature(at=now - 1000) | {"Sign": "0" * 64}).status == 403
    assert skew() == before and not warnings()  # any client can send this
    assert send(**daemon.signature(at=now - 1000)).code == 120124
    assert 1000 <= skew() <= 1000 + time.time() - now
    (line,) = eventually(warnings, "the line")
    assert re.search(r"RequestTime is 1\d\d\d s behind this machine's clock; synchronize", line), line
    assert send(**daemon.signature(at=now + 1000)).code == 120124
    assert -1000 <= skew() < -900
    assert len(warnings()) == 1  # one line in ten seconds


def test_logs_a_clock_that_is_behind(one):
    assert one.post(**daemon.signature(at=int(time.time()) + 1000)).status == 403
    eventually(lambda: re.search(r"RequestTime is \d+ s ahead of this", one.log), "the line")


# Gauges

def not_after(one):
    shown = daemon.run("openssl", "x509", "-noout", "-enddate", "-in", one.directory / "certificate.pem").stdout
    end = datetime.datetime.strptime(shown.strip(), "notAfter=%b %d %H:%M:%S %Y GMT")
    return end.replace(tzinfo=datetime.timezone.utc).timestamp()


def test_reports_certificate_expiry(make_monitored):
    monitored = make_monitored().start()
    name = "imcallbackd_certificate_expiry_timestamp_seconds"
    first = not_after(monitored.daemon)
    assert monitored.metrics()[name] == first
    daemon.make_certificate(monitored.daemon.directory, "-newkey", "rsa:2048", "-days", "7")
    monitored.daemon.reload()
    assert monitored.metrics()[name] == not_after(monitored.daemon) < first


def test_reports_store_and_process(monitored):
    one = monitored.daemon
    one.post(event(GroupId="size"))
    values = monitored.metrics()
    for file, path in (("database", one.database), ("log", f"{one.database}-wal")):
        assert values[f'imcallbackd_store_bytes{{file="{file}"}}'] == os.stat(path).st_size
    assert 0 < values["imcallbackd_store_disk_free_bytes"] <= values["imcallbackd_store_disk_size_bytes"]
    process = one.process.pid
    assert abs(values["process_start_time_seconds"] - os.stat(f"/proc/{process}").st_ctime) < 60
    assert values["process_resident_memory_bytes"] > 1_000_000
    assert values["process_open_fds"] >= 10
    assert 0 < values["process_cpu_seconds_total"] <= monitored.metrics()["process_cpu_seconds_total"]
    version = daemon.run(daemon.BINARY, "--version").stdout.split()[1]
    assert values[f'imcallbackd_build_info{{version="{version}"}}'] == 1
    assert values["imcallbackd_ready"] == 1


# Readiness

def test_not_ready_when_stopping(make_monitored):
    monitored = make_monitored().start()
    one = monitored.daemon
    assert monitored.ready() == (200, "ready\n")
    whole = request(event())
    with one.connect() as connection:
        connection.send(whole[:-1])
        eventually(lambda: monitored.metrics()["imcallbackd_connections"] == 1, "the connection")
        one.process.terminate()
        one.wait_notified("STOPPING=1")
        eventually(lambda: monitored.ready() == (503, "not ready: stopping\n"), "503")
        assert monitored.metrics()["imcallbackd_ready"] == 0
        assert monitored.ask("/healthz")[0] == 200
        assert connection.answer_to(whole[-1:]).status == 200
    assert one.wait_exit() == 0
    monitored.start()  # the socket outlives the daemon
    assert monitored.ready() == (200, "ready\n")


def test_not_ready_without_its_database(make_monitored):
    monitored = make_monitored().start()
    aside = monitored.daemon.directory / "aside"
    monitored.daemon.database.rename(aside)
    status, text = monitored.ready()
    assert status == 503 and str(monitored.daemon.database) in text
    assert monitored.metrics()["imcallbackd_ready"] == 0
    aside.rename(monitored.daemon.database)
    assert monitored.ready() == (200, "ready\n")


def test_not_ready_on_a_full_disk(make_monitored):
    mount = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec",
             'disk=$1; shift; mount -t tmpfs -o size=8m tmpfs "$disk"; exec "$@"', "sh"]
    if daemon.run(*mount, "/tmp", "true").returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    monitored = make_monitored()
    disk = monitored.daemon.directory / "disk"
    disk.mkdir()
    monitored.daemon.write_config({"store": {"database": disk / "callbacks.db"}})
    monitored.wrapper = [*mount, str(disk)]
    monitored.start()
    assert monitored.ready() == (200, "ready\n")
    filler = f"/proc/{monitored.daemon.process.pid}/root{disk}/filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    status, text = monitored.ready()
    assert status == 503 and "the disk is full" in text
    assert monitored.metrics()["imcallbackd_store_disk_free_bytes"] < 64 << 10
    os.unlink(filler)
    assert monitored.ready() == (200, "ready\n")


# Listening addresses

def test_listens_on_the_configured_port(make_daemon):
    for _ in range(5):  # another process may take the port first
        port = daemon.free_port()
        one = make_daemon({"admin": {"port": port}})
        with contextlib.suppress(AssertionError):
            one.start()
            break
        one.process.kill()
        one.process.wait()
        one.process = None
    assert ask(port, "/healthz")[2] == "alive\n"
    eventually(lambda: f"monitoring in plain HTTP on 127.0.0.1:{port}: " in one.log, "the line")


def listening_sockets(process):
    """Returns the number of TCP sockets on which the process listens."""
    directory = pathlib.Path(f"/proc/{process.pid}")
    its_own = {os.readlink(path) for path in (directory / "fd").iterdir()}
    lines = [line.split() for name in ("tcp", "tcp6") for line in (directory / "net" / name).read_text().splitlines()]
    return sum(line[3] == "0A" and f"socket:[{line[9]}]" in its_own for line in lines)


def test_port_0_disables_the_listener(make_daemon):
    assert listening_sockets(make_daemon({"admin": {"port": daemon.free_port()}}).start().process) == 2
    one = make_daemon({"admin": {"port": 0}}).start()
    assert listening_sockets(one.process) == 1
    assert one.post().status == 200
    one.stop()
    assert "monitoring" not in one.log


@pytest.mark.parametrize("key, value", [("port", None), ("address", "192.0.2.1")])
def test_explains_why_it_cannot_listen(make_daemon, key, value):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        one = make_daemon({"admin": {"port": taken.getsockname()[1]} | ({key: value} if value else {})})
        refused = daemon.run(daemon.BINARY, "serve", "-c", one.config)
    assert refused.returncode == 1
    lines = one.config.read_text().splitlines()
    number = lines.index("[admin]") + 1 + next(
        i for i, line in enumerate(lines[lines.index("[admin]"):]) if line.startswith(key))
    assert f"{one.config}:{number}: [admin] {key}: cannot listen on " in refused.stderr, refused.stderr
    assert not one.database.exists()  # the failure comes before any other action


def test_check_prints_the_section(make_daemon):
    done = daemon.run(daemon.BINARY, "check", "-c", make_daemon().config)
    assert "\n[admin]\naddress = 127.0.0.1\nport = 0\n" in done.stdout, done


def test_listens_on_a_unix_socket(fresh):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(fresh.directory / "admin"))
        listener.listen()
        monitored = Monitored(fresh, listener).start()
        assert monitored.ready() == (200, "ready\n")
        eventually(lambda: f" on unix:{fresh.directory}/admin: " in fresh.log, "the line")
        fresh.stop()


@pytest.mark.parametrize("names", ["admin:imcallbackd.socket", "imcallbackd.socket:admin"])
def test_accepts_both_sockets_in_any_order(make_daemon, names):
    one = make_daemon({"listen": {"address": "192.0.2.1"}, "admin": {"address": "192.0.2.1", "port": 1}})
    with socket.create_server(("127.0.0.1", 0)) as admin, socket.create_server(("127.0.0.1", 0)) as other:
        one.start(sockets=(admin, other) if names.startswith("admin") else (other, admin), names=names)
        assert one.port == other.getsockname()[1]
        assert one.post().status == 200
        assert Monitored(one, admin).ready() == (200, "ready\n")
        one.stop()


# Slow clients

def test_slow_clients_delay_no_callback(make_monitored):
    """More clients than the listener accepts send half a request, or never read the response."""
    monitored = make_monitored().start()
    with contextlib.ExitStack() as stack:
        for i in range(40):
            slow = stack.enter_context(socket.create_connection(monitored.listener.getsockname()))
            slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + (b"\r\n" if i % 2 else b""))
        status, report = monitored.daemon.load(connections=20, total=2000)
        assert (status, report["ok"]) == (0, 2000)
        monitored.daemon.stop()
    monitored.start()
    assert monitored.ready() == (200, "ready\n")


def test_answers_at_most_one_request_per_millisecond(monitored):
    """A flood of requests leaves the processors to the callbacks."""
    count = 300
    started = time.monotonic()
    for _ in range(count):
        with socket.create_connection(monitored.listener.getsockname(), timeout=20) as connection:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - started >= 0.8 * count / 1000
