"""Start, stop and sudden death; what the service manager and the log get to see; TLS as clients meet it."""

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
    """The load generator beside the test, on a daemon that is about to be stopped."""

    CONNECTIONS = 128

    def __init__(self, one, **options):
        self.daemon = one
        self.file = one.directory / "acknowledged"
        self.process = one.start_load(connections=self.CONNECTIONS, total=1_000_000, acknowledged=self.file, timeout=10,
                                      **options)
        daemon.eventually(lambda: one.value("SELECT count(*) FROM destroyed_group") > 200, "200 events under way")

    def finish(self):
        """Waits until every connection has failed. Returns the report and the acknowledged ids."""
        report = daemon.load_report(self.process, 60)
        acknowledged = self.file.read_text().split()
        assert len(acknowledged) == report["ok"] > 200 - self.CONNECTIONS  # each may have lost one answer
        return report, acknowledged


def missing(one, acknowledged):
    there = {row["group_id"] for row in one.sql("SELECT group_id FROM destroyed_group")}
    assert len(there) == one.value("SELECT count(*) FROM destroyed_group")
    return set(acknowledged) - there


# Stop and go on

@pytest.mark.parametrize("threads", [1, 2])
def test_stop_under_load(make_daemon, threads):
    one = make_daemon({"listen": {"threads": threads}}).start()
    load = Load(one)
    one.stop()  # in time, with exit status 0
    report, acknowledged = load.finish()
    assert list(report["by_status"]) == ["200"], report
    assert report["unanswered"] == 0, report
    assert pathlib.Path(f"{one.database}-wal").stat().st_size == 0
    assert missing(one, acknowledged) == set()


def test_stop_under_load_of_new_connections(make_daemon):
    one = make_daemon().start()
    load = Load(one, new_connection=True)
    one.stop()
    report, acknowledged = load.finish()
    assert list(report["by_status"]) == ["200"] and report["unanswered"] == 0, report
    assert missing(one, acknowledged) == set()


def test_stop_answers_what_was_sent(make_daemon):
    """A request of which the daemon has only the head when it is told to stop."""
    one = make_daemon().start()
    whole = request(event(GroupId="last"))
    with one.connect() as connection, one.connect() as idle:
        idle.send(request(event(GroupId="idle")))
        assert idle.read_answer().status == 200
        connection.send(whole[:-1])
        one.process.terminate()
        one.wait_notified("STOPPING=1")
        connection.send(whole[-1:])
        answer = connection.read_answer()
        assert (answer.status, answer.headers["connection"].lower()) == (200, "close")
        assert connection.is_closed() and idle.is_closed()
        assert one.wait_exit() == 0
    assert one.group_ids() == ["idle", "last"]


@pytest.mark.skipif("IMCALLBACKD_WRAPPER" in os.environ, reason="there the sockets are passed, and outlive the daemon")
def test_stop_turns_new_callers_away(make_daemon):
    """At once, so that they can go elsewhere, and not when the daemon has ended. Who waits to be accepted is taken."""
    one = make_daemon({"listen": {"threads": 1}}).start()
    whole = request(event(GroupId="last"))
    with one.connect() as connection:
        connection.send(whole[:-1])
        one.process.terminate()
        one.wait_notified("STOPPING=1")

        def turned_away():
            try:
                socket.create_connection(("127.0.0.1", one.port)).close()
            except ConnectionResetError:
                return False  # it came in the very instant of the closing
            except ConnectionRefusedError:
                return True
            return False

        daemon.eventually(turned_away, "a connect that is refused")
        assert one.process.poll() is None
        connection.send(whole[-1:])
        assert connection.read_answer().status == 200
        assert one.wait_exit() == 0


def test_stop_does_not_wait_for_ever(make_daemon):
    """Clients that stay in the middle of something: a handshake, a head, a body."""
    one = make_daemon().start()
    whole = request(event())
    with one.connect() as head, one.connect() as body, socket.create_connection(("127.0.0.1", one.port)):
        head.send(whole[:30])
        body.send(whole[:-1])
        one.stop()
    assert one.groups() == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_stop_when_idle(make_daemon, name):
    one = make_daemon().start()
    one.process.send_signal(getattr(signal, name))
    assert one.wait_exit() == 0


def test_restart_goes_on(make_daemon):
    one = make_daemon().start()
    assert one.post(event(GroupId="before")).status == 200
    one.stop()
    assert one.group_ids() == ["before"]  # read while the daemon is stopped
    one.start()
    assert one.post(event(GroupId="after")).status == 200
    assert one.group_ids() == ["before", "after"]


def test_kill_loses_nothing_that_was_acknowledged(make_daemon):
    one = make_daemon().start()
    load = Load(one)
    one.kill()
    report, acknowledged = load.finish()
    assert list(report["by_status"]) == ["200"], report
    one.start()
    assert missing(one, acknowledged) == set()
    assert one.post().status == 200
    assert one.value("PRAGMA integrity_check") == "ok"


def test_second_daemon_on_the_same_address_is_refused(make_daemon):
    one = make_daemon().start()
    other = make_daemon({"listen": {"port": one.port}})
    refused = daemon.run(daemon.BINARY, "serve", "-c", other.config)
    assert refused.returncode == 1
    assert re.search(rf"{re.escape(str(other.config))}:\d+: \[listen\] port: ", refused.stderr), refused.stderr


# The service manager

def test_notifications(make_daemon):
    one = make_daemon().start()  # waits for READY=1
    assert one.post().status == 200
    one.process.terminate()
    one.wait_notified("STOPPING=1")
    assert one.wait_exit() == 0


def test_passed_socket(make_daemon):
    """As systemd passes it. The address in the file, which cannot be bound, is not used."""
    one = make_daemon({"listen": {"address": "192.0.2.1", "port": 1}})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for i in range(2):
            one.start(sockets=[listener])
            assert one.port == listener.getsockname()[1]
            assert one.post(event(GroupId=f"passed-{i}")).status == 200
            one.stop()
        # The socket outlives the daemon: a client can connect, and waits for the next one.
        waiting = socket.create_connection(listener.getsockname(), timeout=5)
        waiting.close()
    assert len(one.groups()) == 2


def test_a_passed_socket_without_one_for_monitoring(make_daemon):
    one = make_daemon({"admin": {"port": daemon.free_port()}})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one.start(sockets=[listener])
        assert "monitoring is off" in one.log
        one.stop()


def test_closed_standard_descriptors(make_daemon):
    """What is opened next must not get their numbers."""
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
    assert one.lines and all(re.match("<[4-7]>.", line) for line in one.lines), one.log  # nothing went wrong here
    assert {line[:3] for line in one.lines} >= {"<4>", "<6>"}


def test_log_as_json(make_daemon):
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


def test_log_level(make_daemon):
    quiet = make_daemon({"log": {"level": "error"}})
    process = subprocess.Popen([daemon.BINARY, "serve", "-c", quiet.config], stderr=subprocess.PIPE, text=True)
    daemon.eventually(quiet.database.exists, "the database")
    process.terminate()
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize("format", ["text", "json"])
def test_untrusted_bytes_are_escaped(make_daemon, format):
    one = make_daemon({"log": {"format": format}}).start()
    begun = len(one.lines)
    refused = one.post(CallbackCommand="Evil\n<0>forged\x1b[31m\x9b\x7f\r\tend")
    assert refused.status == 400
    one.post(event(GroupId="group\n<0>forged\x1b[31m"))
    one.post(event(GroupId="group\n<0>forged\x1b[31m", Name="conflict"))
    one.stop()
    told = one.lines[begun:]
    assert all(any(re.search(rf"{word}.*forged", line) for line in told) for word in ("Evil", "group")), told
    assert not any(line.startswith("<0>") for line in told)
    assert all(unicodedata.category(character) != "Cc" for line in told for character in line), told


def test_log_holds_no_secret(make_daemon):
    """Daemon.check_log looks into the log of every test; here is a hard try."""
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


# What the server does to a handshake that it does not like: an alert, or the end. Whatever else fails, fails here.
REFUSED = (ssl.SSLError, ConnectionResetError)
REFUSAL = "ALERT_PROTOCOL_VERSION|ALERT_HANDSHAKE_FAILURE|EOF|reset by peer"


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


def shake_hands(one, low, high, ciphers=None):
    """Connects with these versions and ciphers alone. Returns the version and the cipher that were agreed on."""
    context = one.tls_context()
    context.minimum_version, context.maximum_version = low, high
    if ciphers:
        context.set_ciphers(ciphers + ":@SECLEVEL=0")
    with one.connect(context) as connection:
        connection.send(request(event()))
        assert connection.read_answer().status == 200
        return connection.tls.version(), connection.tls.cipher()[0]


@pytest.mark.parametrize("version, name", [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")])
def test_tls_versions_accepted(with_key, version, name):
    assert shake_hands(with_key, version, version)[0] == name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_tls_versions_refused(with_key, version):
    with pytest.raises(REFUSED, match=REFUSAL):
        shake_hands(with_key, version, version, "ALL")


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"])
def test_aead_ciphers_accepted(with_key, cipher):
    names = f"ECDHE-ECDSA-{cipher}:ECDHE-RSA-{cipher}"
    _, agreed = shake_hands(with_key, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, names)
    assert agreed == f"ECDHE-{'RSA' if with_key.kind == 'RSA' else 'ECDSA'}-{cipher}"


@pytest.mark.parametrize("ciphers", [
    "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384",  # CBC
    "ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA",  # CBC, SHA-1
    "AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA",  # no forward secrecy
    "DHE-RSA-AES128-GCM-SHA256:DHE-RSA-CHACHA20-POLY1305",  # no elliptic curves
    "ADH-AES128-GCM-SHA256:AECDH-AES128-SHA",  # no certificate
])
def test_other_ciphers_refused(with_key, ciphers):
    with pytest.raises(REFUSED, match=REFUSAL):
        shake_hands(with_key, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, ciphers)


def test_openssl_sees_the_certificate(with_key):
    seen = daemon.run("openssl", "s_client", "-connect", f"127.0.0.1:{with_key.port}", "-CAfile",
                      with_key.directory / "certificate.pem", "-verify_return_error", input="")
    assert "Verify return code: 0 (ok)" in seen.stdout, seen


def replace(path):
    shutil.copyfile(path, f"{path}.new")
    os.replace(f"{path}.new", path)


@pytest.mark.parametrize("remove", [os.unlink, replace])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_a_deleted_database_is_noticed(make_daemon, suffix, remove):
    """What goes into a deleted file is gone, so it must not be acknowledged."""
    one = make_daemon().start()
    assert one.post(daemon.event(GroupId="before")).status == 200
    remove(f"{one.database}{suffix}")
    answer = one.post(daemon.event(GroupId="after"))
    assert (answer.status, answer.code) == (503, 120301)
    assert one.wait_exit() == 1
    daemon.eventually(lambda: "deleted, moved or replaced" in one.log and "not recorded" in one.log, "a crit line")
