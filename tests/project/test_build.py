"""Builds the project with plain CMake and without the optional dependencies: cmocka, libsystemd, libpq and libcurl."""

import os
import pathlib
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/e2e"))

import daemon  # noqa: E402  (after the path)

OPTIONAL = {"cmocka.pc", "libsystemd.pc", "libpq.pc", "libcurl.pc"}


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Returns the build directory and what CMake printed. pkg-config does not find the OPTIONAL packages."""
    packages, build = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("build")
    for directory in run("pkg-config", "--variable", "pc_path", "pkg-config").strip().split(":"):
        for path in pathlib.Path(directory).glob("*.pc"):
            if path.name not in OPTIONAL and not (packages / path.name).exists():
                (packages / path.name).symlink_to(path)
    environment = os.environ | {"PKG_CONFIG_LIBDIR": str(packages)}
    output = run("cmake", "-S", TOP, "-B", build, "-DIMCALLBACKD_SYSTEMD=OFF", env=environment)
    run("cmake", "--build", build, "-j", "2", env=environment)
    return build, output


def test_builds_without_what_is_optional(build):
    directory, output = build
    assert run(directory / "imcallbackd", "--version").split("\n")[1:4] == ["forward: no", "deliver: no", "systemd: no"]
    assert "The tests are left out: install libcmocka-dev" in output


@pytest.fixture
def one(build, monkeypatch):
    monkeypatch.setattr(daemon, "BINARY", str(build[0] / "imcallbackd"))
    one = daemon.Daemon()
    yield one
    one.destroy()


def test_serve_says_that_nothing_is_notified(one):
    process = subprocess.Popen([daemon.BINARY, "serve", "-c", str(one.config)], stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"NOTIFY_SOCKET": "/nowhere"})
    try:
        lines = iter(process.stderr.readline, "")
        assert any("NOTIFY_SOCKET: the service manager is not notified" in line for line in lines)
    finally:
        process.terminate()
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_serve_refuses_passed_sockets(one):
    done = subprocess.run([daemon.BINARY, "serve", "-c", str(one.config)], capture_output=True, text=True, timeout=30,
                          env=os.environ | {"LISTEN_FDS": "1"})
    assert done.returncode == 1
    assert "LISTEN_FDS: the sockets that the service manager passed cannot be used" in done.stderr
