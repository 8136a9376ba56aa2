"""Tests reloads on SIGHUP: the daemon prepares everything before it switches, does not disturb requests in progress,
and changes nothing if the configuration is broken."""

import contextlib
import re
import signal
import socket
import ssl
import threading
import time

import pytest

import daemon
from certificates import make_signed

RELOADS = 100
NEW_TOKEN = "zzzzwwww"
KEPT = "reload failed, the running configuration stays in effect: "
LEAVES = 8  # certificates that replace each other


def install(one, certificate, key=None):
    (one.directory / "certificate.pem").write_bytes((one.directory / f"{certificate}.pem").read_bytes())
    (one.directory / "key.pem").write_bytes((one.directory / f"{key or certificate}.key").read_bytes())


def certificate_seen(one, context):
    with one.connect(context) as connection:
        return connection.tls.getpeercert(binary_form=True)


def certificate_in(path):
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def set_tokens(one, *tokens):
    path = one.directory / f"token-{daemon.APP}"
    path.write_text("".join(token + "\n" for token in tokens))


def is_accepted(one, context, token):
    """Returns whether the daemon accepts a callback signed with the token. A refusal must have status 403."""
    with one.connect(context) as connection:
        connection.send(daemon.request(daemon.event(), daemon.query_string(token)))
        status = connection.read_answer().status
        assert status in (200, 403)
        return status == 200


@contextlib.contextmanager
def load(one, **options):
    """Runs the load generator again and again during the block. Yields a list, to which the exit status and the report
    of each run are appended."""
    reports, done = [], threading.Event()

    def run():
        while not done.is_set():
            reports.append(one.load(ca=one.directory / "ca.pem", **options))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield reports
    finally:
        done.set()
        thread.join()


def assert_nothing_failed(reports):
    for status, report in reports:
        assert status == 0 and report["by_status"] == {"200": report["requests"]}, report
        assert report["failed_connections"] == report["unanswered"] == 0, report


class Reloads:
    """Reloads with another certificate, with other tokens, and with a broken file, in turn."""

    def __init__(self, one, context):
        self.one, self.context, self.number, self.installed = one, context, 0, "leaf-0"
        self.broken = [lambda: (one.directory / "certificate.pem").write_text("no certificate"),
                       lambda: (one.directory / "key.pem").write_text(""),
                       lambda: install(one, "leaf-0", "leaf-1"),
                       lambda: one.config.write_text(one.config.read_text() + "[limits]\nbody = none\n"),
                       lambda: set_tokens(one)]

    def swap_certificate(self):
        self.installed = f"leaf-{self.number % LEAVES}"
        install(self.one, self.installed)
        self.one.reload()

    def rotate_token(self):
        both, old_first = self.number % 2 == 0, self.number % 4 < 2
        tokens = [daemon.TOKEN, NEW_TOKEN] if old_first else [NEW_TOKEN, daemon.TOKEN]
        set_tokens(self.one, *(tokens if both else [daemon.TOKEN]))
        self.one.reload()
        assert is_accepted(self.one, self.context, NEW_TOKEN) == both
        assert is_accepted(self.one, self.context, daemon.TOKEN)

    def reload_broken(self):
        config, kept = self.one.config.read_text(), self.one.log.count(KEPT)
        self.broken[self.number % len(self.broken)]()
        self.one.reload()
        daemon.eventually(lambda: self.one.log.count(KEPT) == kept + 1, "the line with the reason")
        self.one.config.write_text(config)
        set_tokens(self.one, daemon.TOKEN)
        install(self.one, self.installed)

    def next(self):
        (self.swap_certificate, self.rotate_token, self.reload_broken)[self.number % 3]()
        self.number += 1
        assert certificate_seen(self.one, self.context) == certificate_in(self.one.directory / f"{self.installed}.pem")


def test_a_hundred_reloads_under_load_disturb_no_request(fresh):
    for name in ("ca", *(f"leaf-{i}" for i in range(LEAVES))):
        make_signed(fresh.directory, name, None if name == "ca" else "ca", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    install(fresh, "leaf-0")
    fresh.start()
    context = ssl.create_default_context(cafile=fresh.directory / "ca.pem")
    reloads = Reloads(fresh, context)
    with fresh.connect(context) as connection:
        before = fresh.open_files()
        with load(fresh, connections=8, total=2000) as reports, \
                load(fresh, connections=4, total=200, new_connection=True) as reports_of_new:
            for i in range(RELOADS):
                reloads.next()
                assert connection.answer_to(daemon.request(daemon.event(GroupId=f"kept-{i}"))).status == 200
        daemon.eventually(lambda: fresh.open_files() <= before, "the same number of descriptors as before")
    for reports in (reports, reports_of_new):
        assert_nothing_failed(reports)
        print(f"{sum(report['requests'] for _, report in reports)} requests in {len(reports)} runs, 0 failed; slowest "
              f"{max(report['max_us'] for _, report in reports) / 1000:.1f} ms")
    assert fresh.log.count("configuration reloaded") == RELOADS - RELOADS // 3
    assert fresh.log.count(KEPT) == RELOADS // 3
    assert len(fresh.group_ids("kept-")) == RELOADS


def drop_notifications(one):
    """Empties the notification socket, because the daemon would block on a full one."""
    one.notify.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            one.notify.recv(4096)


def test_a_storm_of_signals_applies_the_last_configuration(one):
    """Pending signals are merged, so the daemon may skip some configurations, but must apply the last one."""
    config = one.config.read_text()
    for i in range(200):
        # Replaces the file atomically, as many editors do, so that the daemon reads either the old or the new file.
        (one.directory / "new.conf").write_text(config.replace("[tls]", f"[limits]\nbody = {4096 + i}\n[tls]"))
        (one.directory / "new.conf").rename(one.config)
        one.process.send_signal(signal.SIGHUP)
        drop_notifications(one)

    def answer(length):
        drop_notifications(one)
        return one.post(body=b" " * length).status

    daemon.eventually(lambda: answer(4096 + 200) == 413 and answer(4096 + 199) == 400, "the last configuration")
    assert KEPT not in one.log


def test_notifies_the_service_manager(one):
    """Units of Type=notify-reload require MONOTONIC_USEC, the time of the reload, in the message that announces it. A
    reload that fails is announced and completed in the same way."""
    started = time.monotonic_ns() // 1000
    one.process.send_signal(signal.SIGHUP)
    one.notify.settimeout(daemon.START_DEADLINE)
    messages = [one.notify.recv(4096).decode() for _ in range(2)]
    found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)\n?", messages[0])
    assert found and started - 1000 <= int(found[1]) <= time.monotonic_ns() // 1000, messages
    assert messages[1].strip() == "READY=1"
    (one.directory / "certificate.pem").write_text("broken")
    one.process.send_signal(signal.SIGHUP)
    assert [one.notify.recv(4096).decode().split("\n")[0] for _ in range(2)] == ["RELOADING=1", "READY=1"]


# Broken configurations

def line_of(one, start):
    """Returns the number of the only line that starts with this text."""
    (number,) = [i for i, line in enumerate(one.config.read_text().split("\n"), 1) if line.startswith(start)]
    return number


def with_line(one, section, line):
    one.config.write_text(one.config.read_text().replace(f"[{section}]\n", f"[{section}]\n{line}\n"))


def with_client_ca(one, text):
    (one.directory / "ca.pem").write_text(text)
    with_line(one, "tls", f"client_ca = {one.directory / 'ca.pem'}")


BROKEN = {
    "certificate is missing": (lambda one: (one.directory / "certificate.pem").unlink(), "certificate ="),
    "certificate is garbage": (lambda one: (one.directory / "certificate.pem").write_text("x"), "certificate ="),
    "certificate is empty": (lambda one: (one.directory / "certificate.pem").write_text(""), "certificate ="),
    "key is missing": (lambda one: (one.directory / "key.pem").unlink(), "private_key ="),
    "key is garbage": (lambda one: (one.directory / "key.pem").write_text("x"), "private_key ="),
    "key is of another certificate":
        (lambda one: daemon.make_certificate(one.directory, "-newkey", "ed25519", name="other.pem"), "private_key ="),
    "client CA is garbage": (lambda one: with_client_ca(one, "x"), "client_ca ="),
    "client CA is missing": (lambda one: with_line(one, "tls", "client_ca = /nowhere.pem"), "client_ca ="),
    "tokens are missing": (lambda one: (one.directory / f"token-{daemon.APP}").unlink(), "token_file ="),
    "tokens are empty": (set_tokens, "token_file ="),
    "tokens are too many": (lambda one: set_tokens(one, "a", "b", "c"), "token_file ="),
    "unknown key": (lambda one: with_line(one, "listen", "color = blue"), "color ="),
    "unknown section": (lambda one: with_line(one, "tls", "[paint]\ncolor = blue"), "[paint]"),
    "number out of range": (lambda one: with_line(one, "listen", "threads = 257"), "threads ="),
    "value of another type": (lambda one: with_line(one, "store", "keep_body = maybe"), "keep_body ="),
    "key twice": (lambda one: with_line(one, "tls", "certificate = /x"), "private_key ="),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_configuration_is_not_applied(one, name):
    """The old configuration stays in effect, and one line names the place of the fault."""
    context, old = one.tls_context(), certificate_in(one.directory / "certificate.pem")
    breaks, start = BROKEN[name]
    breaks(one)
    one.reload()
    (line,) = daemon.eventually(lambda: [line for line in one.lines if KEPT in line], "the line with the reason")
    # The error names the second occurrence of a repeated key. In this row, that is the line before private_key.
    number = line_of(one, start) - (name == "key twice")
    assert re.search(re.escape(f"{KEPT}{one.config}:{number}: ") + r"\S", line), line
    assert line.startswith("<3>")
    assert certificate_seen(one, context) == old
    assert is_accepted(one, context, daemon.TOKEN)


def test_missing_configuration_is_not_applied(one):
    context = one.tls_context()
    one.config.rename(one.directory / "elsewhere")
    one.reload()
    (line,) = daemon.eventually(lambda: [line for line in one.lines if KEPT in line], "the line with the reason")
    assert str(one.config) in line
    assert is_accepted(one, context, daemon.TOKEN)


def test_applies_nothing_if_one_file_is_broken(one):
    """The certificate is valid but the token file is not, so neither is applied."""
    context, old = one.tls_context(), certificate_in(one.directory / "certificate.pem")
    daemon.make_certificate(one.directory, "-newkey", "ed25519")
    set_tokens(one, "no token")
    one.reload()
    assert certificate_seen(one, context) == old
    assert is_accepted(one, context, daemon.TOKEN)


PROTECTIONS = {
    "client_ca": ({"tls": {"client_ca": "certificate.pem"}}, {}),
    "allow_from": ({"callback": {"allow_from": "127.0.0.1"}}, {}),
    "token_file": ({}, {"apps": {daemon.APP: []}}),
    "token_file of another": ({}, {"apps": {daemon.APP: [daemon.TOKEN], 1400000009: []}}),
}


@pytest.mark.parametrize("name", PROTECTIONS)
def test_reload_keeps_protections_until_a_restart(fresh, name):
    """A reload of a truncated file must not admit more callers. A restart accepts the same file."""
    protected, unprotected = PROTECTIONS[name]
    for keys in protected.values():
        keys |= {key: fresh.directory / value for key, value in keys.items() if value.endswith(".pem")}
    fresh.write_config(protected)
    fresh.start()
    fresh.write_config(**unprotected)
    fresh.reload()
    (line,) = daemon.eventually(lambda: [line for line in fresh.lines if KEPT in line], "the line with the reason")
    assert name.split()[0] in line and "restart" in line, line
    assert name != "token_file of another" or "[app 1400000009] token_file" in line, line
    fresh.stop()
    fresh.start()
    assert fresh.post(token=None if name == "token_file" else daemon.TOKEN).status == 200


# What a reload changes, and what it does not change

def test_applies_rotated_tokens(one):
    context = one.tls_context()
    for tokens in ([daemon.TOKEN, NEW_TOKEN], [NEW_TOKEN], [daemon.TOKEN]):
        set_tokens(one, *tokens)
        one.reload()
        assert [token for token in (daemon.TOKEN, NEW_TOKEN) if is_accepted(one, context, token)] == tokens


def test_an_open_connection_uses_the_new_tokens(one):
    with one.connect() as connection:
        for token, status in ((daemon.TOKEN, 200), (NEW_TOKEN, 200), (daemon.TOKEN, 403)):
            assert connection.answer_to(daemon.request(daemon.event(), daemon.query_string(token))).status == status
            set_tokens(one, NEW_TOKEN)
            one.reload()


def test_applies_added_and_removed_apps(make_daemon):
    other = 1400000002
    one = make_daemon().start()
    for apps in ({daemon.APP: [daemon.TOKEN], other: ["another"]}, {other: ["another"]}, {daemon.APP: [daemon.TOKEN]}):
        one.reload(apps=apps)
        for app, token in ((daemon.APP, daemon.TOKEN), (other, "another")):
            assert one.post(token=token, SdkAppid=app).status == (200 if app in apps else 403)


def test_applies_limits(one):
    body = daemon.padded(daemon.event(), 5000)
    for limit, status in (("4K", 413), ("5K", 200)):
        one.reload({"limits": {"body": limit}})
        assert one.post(body=body).status == status
    one.reload({"limits": {"request_timeout": "1s"}})
    with socket.create_connection(("127.0.0.1", one.port)) as silent:
        started = time.monotonic()
        silent.settimeout(daemon.START_DEADLINE)
        assert silent.recv(1) == b""
        assert 0.9 < time.monotonic() - started < 2


def test_applies_allowed_addresses(one):
    for allow_from, allowed in (("127.0.0.1", ["127.0.0.1"]), ("127.0.0.2", ["127.0.0.2"]),
                                ("127.0.0.0/8", ["127.0.0.1", "127.0.0.2"])):
        one.reload({"callback": {"allow_from": allow_from}})
        for source in ("127.0.0.1", "127.0.0.2"):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                with one.connect(source=source) as connection:
                    assert connection.answer_to(daemon.request(daemon.event())).status == 200
                    assert source in allowed
                    continue
            assert source not in allowed


def test_applies_other_commands(one):
    for value, status in (("acknowledge", 200), ("reject", 400)):
        one.reload({"callback": {"other_commands": value}})
        assert one.post(body=b"{}", CallbackCommand="Group.CallbackAfterSendMsg").status == status


def test_warns_of_keys_that_need_a_restart(one):
    """One line per key says that a restart is required. The other changes are applied."""
    one.reload({"listen": {"address": "127.0.0.2", "port": 1, "path": "/other", "threads": 7},
                "store": {"database": one.directory / "other.db"}, "limits": {"body": "4K"},
                "admin": {"address": "::1", "port": 2}})
    assert one.post().status == 200
    assert one.post(body=b" " * 5000).status == 413
    lines = [line for line in one.lines if "restart the daemon to apply" in line]
    assert len(lines) == 7, lines
    for key, start in (("[listen] address", "address = 127"), ("[listen] port", "port = 1"),
                       ("[listen] path", "path ="), ("[listen] threads", "threads ="),
                       ("[store] database", "database ="), ("[admin] address", "address = ::"),
                       ("[admin] port", "port = 2")):
        (line,) = [line for line in lines if f" {key}: " in line]
        assert line.startswith("<4>") and f"{one.config}:{line_of(one, start)}: " in line, line
    assert not (one.directory / "other.db").exists()
    # The daemon compares the new values with those in effect, not with those that it read last.
    one.reload()
    daemon.eventually(lambda: one.log.count("restart the daemon to apply") == 14, "the same lines again")
    one.reload({})
    assert one.log.count("restart the daemon to apply") == 14


def test_accepts_an_app_that_never_had_a_token(make_daemon):
    one = make_daemon(apps={daemon.APP: []}).start()
    one.reload({"store": {"keep_body": "yes"}}, {daemon.APP: []})
    assert one.post(token=None).status == 200
    assert one.groups()[0]["body"]  # the reload was applied
