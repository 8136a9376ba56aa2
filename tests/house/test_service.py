"""systemd/imcallbackd.service: systemd understands it, it leaves little to attack, and the daemon lives with it."""

import os
import pathlib
import re
import shlex
import sys
import urllib.request

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "e2e"))

import daemon  # noqa: E402

UNIT = TOP / "systemd" / "imcallbackd.service"
SAMPLE = TOP / "conf" / "imcallbackd.conf"
MAX_EXPOSURE = 11  # in tenths; most of it is that the daemon listens on the network itself


def values(key):
    """What the unit says of a key, line by line."""
    return re.findall(rf"(?m)^{key}=(.*)$", UNIT.read_text())


def test_systemd_understands_it(tmp_path):
    # The program need not be installed where the tests run.
    text, count = re.subn(r"(?m)^ExecStart=\S+", f"ExecStart={daemon.BINARY}", UNIT.read_text())
    assert count == 1
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    done = daemon.run("systemd-analyze", "verify", "--recursive-errors=no", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_understands_the_admin_socket(tmp_path):
    (tmp_path / UNIT.name).write_text(re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={daemon.BINARY}", UNIT.read_text()))
    socket = UNIT.with_name("imcallbackd-admin.socket")
    (tmp_path / socket.name).write_text(socket.read_text())
    done = daemon.run("systemd-analyze", "verify", "--recursive-errors=no", tmp_path / socket.name,
                      env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_little_to_attack():
    done = daemon.run("systemd-analyze", "security", "--offline=yes", f"--threshold={MAX_EXPOSURE}", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_fits_the_sample_configuration():
    (command,) = values("ExecStart")
    assert command.split() == ["/usr/bin/imcallbackd", "serve", "-c", "/etc/imcallbackd/imcallbackd.conf"]
    credentials = {value.split(":")[0] for value in values("LoadCredential")}
    assert set(re.findall(r"(?m)^[^#\n]*= \$CREDENTIALS_DIRECTORY/(.*)$", SAMPLE.read_text())) == credentials
    (directory,) = values("StateDirectory")
    assert f"#database = /var/lib/{directory}/callbacks.db\n" in SAMPLE.read_text()


def test_the_daemon_lives_with_its_sandbox():
    """From start to stop it makes no system call that the unit forbids."""
    allowed = system_calls(["@default"])
    for value in values("SystemCallFilter"):
        if value.startswith("~"):
            allowed -= system_calls(value[1:].split()) - system_calls(["@default"])
        else:
            allowed |= system_calls(value.split())
    admin = daemon.free_port()
    one = daemon.Daemon({"admin": {"port": admin}})
    trace = one.directory / "trace"
    try:
        one.start(["strace", "-D", "-f", "-q", "-o", str(trace)], {"ASAN_OPTIONS": "detect_leaks=0"})
        assert one.post().status == 200
        assert one.post(b"{").status == 400
        for page in ("healthz", "readyz", "metrics"):
            assert urllib.request.urlopen(f"http://127.0.0.1:{admin}/{page}", timeout=20).status == 200
        one.process.send_signal(daemon.signal.SIGHUP)
        daemon.eventually(lambda: "is reloaded" in one.log, "the reload")
        assert one.post(daemon.event(GroupId="after")).status == 200
        one.stop()
        text = daemon.eventually(lambda: re.search(r"\+\+\+ exited with 0", trace.read_text()) and trace.read_text(),
                                 "the end of the trace")
    finally:
        one.destroy()
    made = set(re.findall(r"(?m)^\d+ +(\w+)\(", text))
    assert {"execve", "accept4", "fdatasync", "pwrite64"} <= made
    # SQLite hands its side files to the owner of the database, but as root only.
    assert made - allowed <= {"fchown"}
    (families,) = values("RestrictAddressFamilies")
    assert set(re.findall(r"\bsocket\((\w+)", text)) <= set(shlex.split(families))
    # MemoryDenyWriteExecute=
    assert not re.search(r"PROT_WRITE\|PROT_EXEC", text)
