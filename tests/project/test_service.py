"""Checks the units in systemd/: systemd accepts them, they expose little, and the programs work within their limits."""

import os
import pathlib
import re
import socket
import stat
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests" / "e2e"), str(TOP / "tests" / "sandbox")]

import daemon  # noqa: E402
import postgres  # noqa: E402
from monitoring import ask  # noqa: E402
from unit import UNITS, allowed_system_calls, values  # noqa: E402

UNIT = UNITS / "imcallbackd.service"
SAMPLE = TOP / "conf" / "imcallbackd.conf"
FORWARD = UNITS / "imcallbackd-forward.service"
DELIVER = UNITS / "imcallbackd-deliver.service"
# The limits are in tenths of systemd's exposure score. forward and deliver need the network, which raises their score.
MAX_EXPOSURE = {UNIT: 5, FORWARD: 11, DELIVER: 11}


def test_systemd_accepts_the_units(tmp_path):
    # systemd-analyze requires that the program exists. The copies name the built program, so that it need not be
    # installed.
    copies = []
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        copies.append(tmp_path / path.name)
        copies[-1].write_text(path.read_text().replace("/usr/bin/imcallbackd", daemon.BINARY))
    assert len(copies) >= 3
    done = daemon.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *copies)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_accepts_the_admin_socket(tmp_path):
    (tmp_path / UNIT.name).write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={daemon.BINARY}", UNIT.read_text()))
    socket = UNIT.with_name("imcallbackd-admin.socket")
    (tmp_path / socket.name).write_text(socket.read_text())
    done = daemon.run("systemd-analyze", "verify", "--recursive-errors=no", tmp_path / socket.name,
                      env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", MAX_EXPOSURE, ids=lambda unit: unit.stem)
def test_exposure_is_low(unit):
    done = daemon.run("systemd-analyze", "security", "--offline=yes", f"--threshold={MAX_EXPOSURE[unit]}", unit)
    assert done.returncode == 0, done.stdout + done.stderr


def test_forwarder_unit_fits_the_sample_configuration():
    """shipped_file is in the forwarder's state directory, which the receiver's group may read."""
    text = FORWARD.read_text()
    assert "StateDirectory=imcallbackd-forward\nStateDirectoryMode=0750\n" in text and "Group=imcallbackd\n" in text
    assert "#shipped_file = /var/lib/imcallbackd-forward/shipped\n" in SAMPLE.read_text()


def test_deliver_unit_fits_the_sample_configuration():
    """The state and the note are in the sender's state directory, which the receiver's group may read. The sender may
    read the tokens, but not the private key."""
    text = DELIVER.read_text()
    assert "StateDirectory=imcallbackd-deliver\nStateDirectoryMode=0750\n" in text and "Group=imcallbackd\n" in text
    assert "#state_file = /var/lib/imcallbackd-deliver/state\n" in SAMPLE.read_text()
    (hidden,) = values("InaccessiblePaths", DELIVER.name)
    assert f"private_key = {hidden.removeprefix('-')}\n" in SAMPLE.read_text()


def test_daemon_unit_fits_the_sample_configuration():
    (command,) = values("ExecStart")
    config = "/etc/imcallbackd/imcallbackd.conf"
    assert command.split() == ["/usr/bin/imcallbackd", "serve", "-c", config]
    assert f"/usr/bin/imcallbackd check -c {config} " in values("ExecReload")[0]
    # systemd reads credentials only when a service starts, so a reload of the daemon would not see new ones. Only
    # [forward] may use credentials, because the forwarder can be restarted instead of reloaded.
    own, _, rest = SAMPLE.read_text().partition("\n[forward]\n")
    assert "CREDENTIALS" not in own + rest[rest.index("\n["):] and values("LoadCredential") == []
    (directory,) = values("StateDirectory")
    assert f"#database = /var/lib/{directory}/callbacks.db\n" in SAMPLE.read_text()


@pytest.mark.parametrize("unit, name, address", [("imcallbackd.socket", "callback", "443"),
                                                 ("imcallbackd-admin.socket", "admin", "127.0.0.1:9463")])
def test_socket_units_name_what_the_daemon_expects(unit, name, address):
    assert (values("FileDescriptorName", unit), values("ListenStream", unit)) == ([name], [address])
    (passed,) = values("Sockets")
    assert unit in passed.split()


def test_daemon_makes_only_permitted_system_calls():
    """strace records all system calls from the start of the daemon to its end."""
    allowed = allowed_system_calls()
    one = daemon.Daemon()
    trace = one.directory / "trace"
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in ("callback", "admin")]
    admin = listeners[1].getsockname()[1]
    try:
        one.start(["strace", "-D", "-f", "-q", "-o", str(trace)],
                  {"ASAN_OPTIONS": "detect_leaks=0", "WATCHDOG_USEC": "1000000"}, listeners, "callback:admin")
        one.wait_notified("WATCHDOG=1")
        assert one.post().status == 200
        assert one.post(b"{").status == 400
        for page in ("healthz", "readyz", "metrics"):
            assert ask(admin, f"/{page}")[0] == 200
        one.process.send_signal(daemon.signal.SIGHUP)
        daemon.eventually(lambda: "configuration reloaded" in one.log, "the reload")
        assert one.post(daemon.event(GroupId="after")).status == 200
        one.stop()
        text = daemon.eventually(lambda: re.search(r"\+\+\+ exited with 0", trace.read_text()) and trace.read_text(),
                                 "the end of the trace")
    finally:
        one.destroy()
        for listener in listeners:
            listener.close()
    text = re.search(rf'(?ms)^\d+ +execve\("{daemon.BINARY}".*', text)[0]  # the calls before are those of the shell
    made = set(re.findall(r"(?m)^\d+ +(\w+)\(", text))
    assert {"execve", "accept4", "fdatasync", "pwrite64"} <= made
    # SQLite calls fchown() only as root, to give the files next to the database the same owner. The service does not
    # run as root.
    assert made - allowed <= {"fchown"}
    assert set(re.findall(r"\bsocket\((\w+)", text)) == {"AF_UNIX"}
    assert values("RestrictAddressFamilies") == ["AF_UNIX"] and values("PrivateNetwork") == ["yes"]
    # MemoryDenyWriteExecute=
    assert not re.search(r"PROT_WRITE\|PROT_EXEC", text)


@pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")
def test_forwarder_makes_only_permitted_system_calls():
    allowed = allowed_system_calls(FORWARD.name)
    one = daemon.Daemon()
    trace = one.directory / "trace"
    admin = daemon.free_port()
    server = postgres.Postgres().create()
    try:
        postgres.ship_to(one, server.start(), admin_port=admin, url=server.url().replace("127.0.0.1", "localhost"))
        one.start()
        assert one.post().status == 200
        forwarder = postgres.Forwarder(one).start({"ASAN_OPTIONS": "detect_leaks=0"},
                                                  ["strace", "-D", "-f", "-q", "-o", str(trace)])
        shipped = one.directory / "shipped"
        daemon.eventually(lambda: shipped.exists() and " groups 1 " in shipped.read_text(), "the shipped file", 60)
        assert stat.S_IMODE(shipped.stat().st_mode) == 0o640
        assert ask(admin, "/metrics")[0] == 200
        forwarder.stop()
        text = daemon.eventually(lambda: re.search(r"\+\+\+ exited with 0", trace.read_text()) and trace.read_text(),
                                 "the end of the trace")
    finally:
        one.destroy()
        server.destroy()
    made = set(re.findall(r"(?m)^\d+ +(\w+)\(", text))
    assert made >= {"execve", "connect", "rename"}
    assert made - allowed <= {"fchown"}  # as above
    (families,) = values("RestrictAddressFamilies", FORWARD.name)
    assert set(re.findall(r"\bsocket\((\w+)", text)) <= set(families.split())
