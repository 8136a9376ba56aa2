"""Tests start and stop, sockets from the service manager, log lines, TLS ciphers and keys, and a deleted database."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import unicodedata

import pytest

import daemon
from daemon import event, query_string, request


class Load:
    """Runs the load generator in the background against a daemon that the test is about to stop."""

    CONNECTIONS = 128

    def __init__(self, one, **options):
        self.daemon = one
        self.file = one.directory / "acknowledged"
        self.process = one.start_load(connections=self.CONNECTIONS, total=1_000_000, acknowledged=self.file, timeout=10,
                                      **options)
        daemon.eventually(lambda: one.value("SELECT count(*) FROM destroyed_group") > 200, "200 recorded events")

    def finish(self):
        """Waits until every connection has failed. Returns the report and the acknowledged ids."""
        report = daemon.load_report(self.process, 60)
        acknowledged = self.file.read_text().split()
        assert len(acknowledged) == report["ok"] > 200 - self.CONNECTIONS  # each may have lost one answer
        return report, acknowledged


def missing(one, acknowledged):
    """Returns the acknowledged ids that are not in the database."""
    recorded = {row["group_id"] for row in one.sql("SELECT group_id FROM destroyed_group")}
    assert len(recorded) == one.value("SELECT count(*) FROM destroyed_group")
    return set(acknowledged) - recorded


# Stop and restart

@pytest.mark.parametrize("threads, options", [(1, {}), (2, {}), (2, {"new_connection": True})])
def test_stop_under_load_loses_no_request(make_daemon, threads, options):
    one = make_daemon({"listen": {"threads": threads}}).start()
    load = Load(one, **options)
    one.stop()  # in time, with exit status 0
    report, acknowledged = load.finish()
    assert list(report["by_status"]) == ["200"], report
    assert report["unanswered"] == 0, report
    assert pathlib.Path(f"{one.database}-wal").stat().st_size == 0
    assert missing(one, acknowledged) == set()


def test_stop_answers_a_request_in_progress(one):
    """When the daemon gets the signal, it has received the request except for its last byte."""
    whole = request(event(GroupId="last"))
    with one.connect() as connection, one.connect() as idle:
        assert idle.answer_to(request(event(GroupId="idle"))).status == 200
        connection.send(whole[:-1])
        one.process.terminate()
        one.wait_notified("STOPPING=1")
        assert idle.is_closed()  # the daemon has begun to close its connections
        answer = connection.answer_to(whole[-1:])
        assert (answer.status, answer.headers["connection"].lower()) == (200, "close")
        assert connection.is_closed()
        assert one.wait_exit() == 0
    assert one.group_ids() == ["idle", "last"]


@pytest.mark.skipif("IMCALLBACKD_WRAPPER" in os.environ, reason="the wrapper passes sockets, which outlive the daemon")
def test_stop_refuses_new_connections_at_once(make_daemon):
    """Refused clients can use another server during the stop. Before it refuses clients, the daemon accepts those that
    the kernel has queued."""
    one = make_daemon({"listen": {"threads": 1}}).start()
    whole = request(event(GroupId="last"))
    with one.connect() as connection:
        connection.send(whole[:-1])
        one.process.terminate()
        one.wait_notified("STOPPING=1")

        def is_refused():
            try:
                socket.create_connection(("127.0.0.1", one.port)).close()
            except ConnectionResetError:
                return False  # the connection was in the backlog when the daemon closed the socket
            except ConnectionRefusedError:
                return True
            return False

        daemon.eventually(is_refused, "a refused connection")
        assert one.process.poll() is None
        assert connection.answer_to(whole[-1:]).status == 200
        assert one.wait_exit() == 0


def test_stop_does_not_wait_for_stalled_clients(one):
    """The clients stall in the handshake, in the head and in the body."""
    whole = request(event())
    with one.connect() as head, one.connect() as body, socket.create_connection(("127.0.0.1", one.port)):
        head.send(whole[:30])
        body.send(whole[:-1])
        one.stop()
    assert one.groups() == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_stops_when_idle(one, name):
    one.process.send_signal(getattr(signal, name))
    assert one.wait_exit() == 0


def test_refuses_an_address_in_use(one, make_daemon):
    other = make_daemon({"listen": {"port": one.port}})
    refused = daemon.run(daemon.BINARY, "serve", "-c", other.config)
    assert refused.returncode == 1
    assert re.search(rf"{re.escape(str(other.config))}:\d+: \[listen\] port: ", refused.stderr), refused.stderr


# The service manager

def test_uses_a_passed_socket(make_daemon):
    """The test passes the socket as systemd does. The daemon ignores the configured address, which cannot be bound."""
    one = make_daemon({"listen": {"address": "192.0.2.1", "port": 1}})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for i in range(2):
            one.start(sockets=[listener])
            assert one.port == listener.getsockname()[1]
            assert one.post(event(GroupId=f"passed-{i}")).status == 200
            one.stop()
        # The socket outlives the daemon: a client can connect, and waits for the next daemon.
        waiting = socket.create_connection(listener.getsockname(), timeout=5)
        waiting.close()
    assert len(one.groups()) == 2


def test_warns_that_no_admin_socket_was_passed(make_daemon):
    one = make_daemon({"admin": {"port": daemon.free_port()}})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one.start(sockets=[listener])
        assert "monitoring is off" in one.log
        one.stop()


def test_opens_dev_null_for_closed_standard_descriptors(make_daemon):
    """Otherwise, the next file that the process opens would get the number 0 or 1, and text for standard output could
    overwrite it."""
    one = make_daemon().start(["sh", "-c", 'exec "$@" <&- >&-', "sh"])
    for number in (0, 1):
        assert os.readlink(f"/proc/{one.process.pid}/fd/{number}") == "/dev/null"


# The log

def test_log_lines_have_priorities(make_daemon):
    one = make_daemon({"log": {"level": "debug"}}).start()
    one.post(event())
    one.post(b"{")
    one.post(event(Name="other"))
    one.post(Sign="0" * 64)
    one.stop()
    assert one.lines and all(re.match("<[4-7]>.", line) for line in one.lines), one.log  # no error occurred
    assert {line[:3] for line in one.lines} >= {"<4>", "<6>"}


def test_json_lines_are_valid(make_daemon):
    one = make_daemon({"log": {"format": "json", "level": "debug"}}).start()
    one.post(b'{"a":"\x01\xff\\')
    one.post(CallbackCommand='a"\\\n\x1b')
    one.stop()
    for line in one.lines:
        record = json.loads(line)
        assert set(record) == {"time", "level", "message"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["time"])
        assert record["level"] in ("crit", "error", "warning", "info", "debug")
    assert any("sign" in line or "command" in line for line in one.lines)


def test_log_level_suppresses_other_lines(make_daemon):
    quiet = make_daemon({"log": {"level": "error"}})
    process = subprocess.Popen([daemon.BINARY, "serve", "-c", quiet.config], stderr=subprocess.PIPE, text=True)
    daemon.eventually(quiet.database.exists, "the database")
    process.terminate()
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize("format", ["text", "json"])
def test_log_escapes_untrusted_bytes(make_daemon, format):
    one = make_daemon({"log": {"format": format}}).start()
    first = len(one.lines)
    refused = one.post(CallbackCommand="Evil\n<0>forged\x1b[31m\x9b\x7f\r\tend")
    assert refused.status == 400
    one.post(event(GroupId="group\n<0>forged\x1b[31m"))
    one.post(event(GroupId="group\n<0>forged\x1b[31m", Name="conflict"))
    one.stop()
    lines = one.lines[first:]
    assert all(any(re.search(rf"{word}.*forged", line) for line in lines) for word in ("Evil", "group")), lines
    assert not any(line.startswith("<0>") for line in lines)
    assert all(unicodedata.category(character) != "Cc" for line in lines for character in line), lines


def test_log_contains_no_secret(make_daemon):
    """Daemon.check_log searches the log of every test for secrets. This test sends requests that provoke log lines."""
    one = make_daemon({"log": {"level": "debug"}}).start()
    good = query_string()
    for query in (good, good + "&Sign=1", good.replace("Sign=", "Sign=%00"), "%zz&" + good, good.replace("&", "&&\n"),
                  query_string(token="wrong"), query_string(RequestTime="1"), query_string(SdkAppid=1),
                  query_string(CallbackCommand="Other"), query_string(CallbackCommand=None)):
        with one.connect() as connection:
            connection.send(request(event(), query))
            connection.read_head()
    one.post(b"{")
    with one.connect() as connection:
        connection.send(request(event(), good)[:-1])
    one.stop()
    for secret in (daemon.TOKEN, *re.findall("[0-9a-f]{64}", good), "tenant", "contenttype"):
        assert secret not in one.log


# TLS

KEYS = {"RSA": ["-newkey", "rsa:2048"], "ECDSA": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        "ECDSA with P-521": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"], "Ed25519": ["-newkey", "ed25519"]}

# The server refuses a handshake with an alert or by closing the connection. Any other exception fails the test.
REFUSED = (ssl.SSLError, ConnectionResetError)
REFUSAL = "ALERT_HANDSHAKE_FAILURE|EOF|reset by peer"


@pytest.fixture(scope="module", params=KEYS)
def with_key(request):
    one = daemon.Daemon()
    try:
        daemon.make_certificate(one.directory, *KEYS[request.param])
        one.kind = request.param
        yield one.start()
        one.stop()
    finally:
        one.destroy()


def shake_hands(one, ciphers):
    """Connects with TLS 1.2 and only these ciphers. Returns the negotiated cipher."""
    context = one.tls_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers + ":@SECLEVEL=0")
    with one.connect(context) as connection:
        assert connection.answer_to(request(event())).status == 200
        return connection.tls.cipher()[0]


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"])
def test_accepts_aead_cipher(with_key, cipher):
    negotiated = shake_hands(with_key, f"ECDHE-ECDSA-{cipher}:ECDHE-RSA-{cipher}")
    assert negotiated == f"ECDHE-{'RSA' if with_key.kind == 'RSA' else 'ECDSA'}-{cipher}"


@pytest.mark.parametrize("ciphers", [
    "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384",  # CBC
    "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA",  # CBC, SHA-1
    "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA",  # no forward secrecy
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-CHACHA20-POLY1305",  # no elliptic curves
    "ADH-AES128-GCM-SHA256:AECDH-AES128-SHA",  # no certificate
])
def test_refuses_other_ciphers(with_key, ciphers):
    with pytest.raises(REFUSED, match=REFUSAL):
        shake_hands(with_key, ciphers)


def replace(path):
    """Replaces the file with a copy of itself."""
    shutil.copyfile(path, f"{path}.new")
    os.replace(f"{path}.new", path)


@pytest.mark.parametrize("remove", [os.unlink, replace])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_deleted_database_stops_the_daemon(one, suffix, remove):
    """Events in a file that was deleted or replaced are lost, so the daemon must not acknowledge them."""
    assert one.post(daemon.event(GroupId="before")).status == 200
    remove(f"{one.database}{suffix}")
    answer = one.post(daemon.event(GroupId="after"))
    assert (answer.status, answer.code) == (503, 120301)
    assert one.wait_exit() == 1
    daemon.eventually(lambda: "deleted, moved or replaced" in one.log and "not recorded" in one.log, "a crit line")
