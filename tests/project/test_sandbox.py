"""Checks that the sandbox has the restrictions of the systemd unit, and runs end-to-end tests in the sandbox. In the
environment, SANDBOXED names the files to run; by default, all files except test_readme.py run."""

import os
import pathlib
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
SANDBOX = TOP / "tests" / "sandbox"
sys.path[:0] = [str(SANDBOX), str(TOP / "tests" / "e2e")]

import unit  # noqa: E402
from processes import run  # noqa: E402


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    calls = tmp_path_factory.mktemp("sandbox") / "calls"
    calls.write_text("\n".join(sorted(unit.allowed_system_calls())))
    return [sys.executable, str(SANDBOX / "launch.py"), str(calls)]


@pytest.mark.parametrize("attempt, error", [
    ("open(config + '-neighbor', 'w')", None), ("open('/dev/null', 'w')", None), ("open('/etc/hostname')", None),
    ("socket.socket(socket.AF_UNIX)", None), ("mmap.mmap(-1, 4096)", None),
    ("open('/var/tmp/imcallbackd', 'w')", "Permission denied"),
    ("os.mkdir('/var/tmp/imcallbackd')", "Permission denied"),
    ("socket.socket(socket.AF_INET)", "Operation not permitted"),
    ("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", "Operation not permitted"),
    ("os.chown(config, 0, 0)", "Operation not permitted"), ("os.setuid(0)", "Operation not permitted"),
    ("mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)", "Operation not permitted"),
    ("os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))", "Operation not permitted"),
])
def test_sandbox_permits_only_what_the_unit_permits(launcher, tmp_path, attempt, error):
    config = tmp_path / "config"
    config.write_text("[listen]\nport = 0\n")
    program = f"import mmap, os, socket, sys; config = sys.argv[-1]; {attempt}"
    done = run(*launcher, sys.executable, "-c", program, config)
    if error is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0 and error in done.stderr, done.stderr


def test_daemon_works_in_the_sandbox(launcher):
    files = os.environ.get("SANDBOXED", "").split() or [
        path.name for path in sorted((TOP / "tests/e2e").glob("test_*.py")) if path.name != "test_readme.py"]
    done = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
               *(TOP / "tests/e2e" / name for name in files), timeout=None,
               env=os.environ | {"IMCALLBACKD_WRAPPER": " ".join(launcher)})
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
