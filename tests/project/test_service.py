"""systemd/: systemd understands the units, they leave little to attack, and the daemon lives with them."""

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
MAX_EXPOSURE = {UNIT: 5, FORWARD: 11}  # in tenths; the forwarder needs the network


def test_systemd_understands_them(tmp_path):
    # The program need not be installed where the tests run.
    copies = []
    for path in (*UNITS.glob("*.service"), *UNITS.glob("*.socket")):
        copies.append(tmp_path / path.name)
        copies[-1].write_text(path.read_text().replace("/usr/bin/imcallbackd", daemon.BINARY))
    assert len(copies) >= 3
    done = daemon.run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *copies)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_understands_the_admin_socket(tmp_path):
    (tmp_path / UNIT.name).write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={daemon.BINARY}", UNIT.read_text()))
    socket = UNIT.with_name("imcallbackd-admin.socket")
    (tmp_path / socket.name).write_text(socket.read_text())
    done = daemon.run("systemd-analyze", "verify", "--recursive-errors=no", tmp_path / socket.name,
                      env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", MAX_EXPOSURE, ids=lambda unit: unit.stem)
def test_little_to_attack(unit):
    done = daemon.run("systemd-analyze", "security", "--offline=yes", f"--threshold={MAX_EXPOSURE[unit]}", unit)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_forwarder_fits_the_sample_configuration():
    """The note is in its state directory, which the receiver's group may read."""
    text = FORWARD.read_text()
    assert "StateDirectory=imcallbackd-forward\nStateDirectoryMode=0750\n" in text and "Group=imcallbackd\n" in text
    assert "#shipped_file = /var/lib/imcallbackd-forward/shipped\n" in SAMPLE.read_text()


def test_it_fits_the_sample_configuration():
    (command,) = values("ExecStart")
    config = "/etc/imcallbackd/imcallbackd.conf"
    assert command.split() == ["/usr/bin/imcallbackd", "serve", "-c", config]
    assert f"/usr/bin/imcallbackd check -c {config} " in values("ExecReload")[0]
    # Nothing that systemd reads only once, at the start; the forwarder may be restarted at any time.
    own, _, rest = SAMPLE.read_text().partition("\n[forward]\n")
    assert "CREDENTIALS" not in own + rest[rest.index("\n["):] and values("LoadCredential") == []
    (directory,) = values("StateDirectory")
    assert f"#database = /var/lib/{directory}/callbacks.db\n" in SAMPLE.read_text()


@pytest.mark.parametrize("unit, name, address", [("imcallbackd.socket", "callback", "443"),
                                                 ("imcallbackd-admin.socket", "admin", "127.0.0.1:9463")])
def test_sockets(unit, name, address):
    assert (values("FileDescriptorName", unit), values("ListenStream", unit)) == ([name], [address])
    (passed,) = values("Sockets")
    assert unit in passed.split()


def test_the_daemon_lives_with_its_sandbox():
    """From start to stop it makes no system call that the unit forbids."""
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
    text = re.search(rf'(?ms)^\d+ +execve\("{daemon.BINARY}".*', text)[0]  # what was before is the shell's
    made = set(re.findall(r"(?m)^\d+ +(\w+)\(", text))
    assert {"execve", "accept4", "fdatasync", "pwrite64"} <= made
    # SQLite hands its side files to the owner of the database, but as root only.
    assert made - allowed <= {"fchown"}
    assert set(re.findall(r"\bsocket\((\w+)", text)) == {"AF_UNIX"}
    assert values("RestrictAddressFamilies") == ["AF_UNIX"] and values("PrivateNetwork") == ["yes"]
    # MemoryDenyWriteExecute=
    assert not re.search(r"PROT_WRITE\|PROT_EXEC", text)


@pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")
def test_the_forwarder_lives_with_its_sandbox():
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
        note = one.directory / "shipped"
        daemon.eventually(lambda: note.exists() and " groups 1 " in note.read_text(), "the note", 60)
        assert stat.S_IMODE(note.stat().st_mode) == 0o640
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
