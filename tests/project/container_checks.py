"""Runs the image that container.sh has built, as an operator would: read-only, without capabilities, with one volume.

All containers share the network namespace of the test, which has only the loopback interface."""

import json
import os
import pathlib
import re
import sqlite3
import subprocess
import sys
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/e2e"))

import daemon  # noqa: E402
from endpoint import Endpoint  # noqa: E402
from processes import check_run, eventually, memory_bytes, run  # noqa: E402

IMAGE = "localhost/imcallbackd"
USER = 10001
LARGEST_BYTES = 60_000_000
CONFIG = "/etc/imcallbackd/imcallbackd.conf"


def podman(*arguments, **options):
    return check_run("podman", *arguments, **options)


def inspect(name, template):
    return podman("inspect", "--format", template, name).strip()


@pytest.fixture
def files(tmp_path):
    """Returns a directory with the volume and the secrets of a receiver, and with its configuration."""
    tmp_path.chmod(0o755)
    for name in ("secrets", "imcallbackd", "imcallbackd-deliver"):
        (tmp_path / name).mkdir(mode=0o700)
    secrets = tmp_path / "secrets"
    check_run(daemon.BINARY, "certificate", "--host", "localhost", "127.0.0.1", "--out", secrets)
    (secrets / "token").write_text(daemon.TOKEN)
    text = (TOP / "conf/container/imcallbackd.conf").read_text()
    (tmp_path / "imcallbackd.conf").write_text(text.replace("1400000001", str(daemon.APP)))
    own(tmp_path)
    return tmp_path


def own(directory):
    check_run("chown", "-R", f"{USER}:{USER}", directory)
    check_run("chmod", "-R", "go=", *directory.glob("*/"))


class Container:
    """A container of the image, of which only the volumes can be written."""

    def __init__(self, name, files, command=(), volumes=("imcallbackd",), options=()):
        self.name, self.files = name, files
        mounts = [f"{files / volume.partition(':')[0]}:/var/lib/{volume}" for volume in volumes]
        mounts += [f"{files}/secrets:/run/secrets:ro", f"{files}/imcallbackd.conf:{CONFIG}:ro"]
        self.started = time.monotonic()
        podman("run", "--detach", "--replace", "--name", name, "--network", "host", "--read-only", "--read-only-tmpfs=false",
               "--cap-drop", "all", "--security-opt", "no-new-privileges", *options,
               *[word for mount in mounts for word in ("--volume", mount)], IMAGE, *command)

    def health(self, *service):
        return run("podman", "exec", self.name, "/usr/bin/imcallbackd", "health", "-c", CONFIG, *service)

    def wait_healthy(self, *service):
        eventually(lambda: self.health(*service).returncode == 0, f"a healthy {self.name}", deadline=60)
        return self

    def log(self):
        done = run("podman", "logs", self.name)
        assert done.stdout == ""  # the log goes to standard error
        return [json.loads(line) for line in done.stderr.splitlines()]

    def stop(self):
        """Returns the seconds from SIGTERM to the exit, and the exit status."""
        before = time.monotonic()
        podman("stop", "--time", "15", self.name)
        return time.monotonic() - before, int(inspect(self.name, "{{.State.ExitCode}}"))

    def remove(self):
        podman("rm", "--force", "--time", "1", self.name)


@pytest.fixture
def start(files):
    containers = []

    def start(*arguments, **options):
        containers.append(Container(*arguments, **options))
        return containers[-1]

    yield start
    for container in containers:
        container.remove()


def load(files, **options):
    options = {"port": 8443, "app": daemon.APP, "token": daemon.TOKEN, "ca": files / "secrets/certificate.pem",
               "connections": 8, "timeout": 30} | options
    return subprocess.Popen([daemon.LOAD, *daemon.long_options(options)], stdout=subprocess.PIPE, text=True)


def groups(files):
    connection = sqlite3.connect(f"file:{files}/imcallbackd/callbacks.db?mode=ro", uri=True)
    try:
        return {name for (name,) in connection.execute("SELECT group_id FROM destroyed_group")}
    finally:
        connection.close()


def test_image_is_small_and_has_no_shell():
    size = int(inspect(IMAGE, "{{.Size}}"))
    print(f"\nimage: {size / 1e6:.1f} MB")
    assert size <= LARGEST_BYTES
    assert inspect(IMAGE, "{{.Config.User}}") == f"{USER}:{USER}"
    assert inspect(IMAGE, "{{.Config.Volumes}}") == "map[/var/lib/imcallbackd:{}]"
    podman("create", "--name", "listed", IMAGE)
    export = subprocess.run("podman export listed | tar -tf -", shell=True, capture_output=True, text=True, check=True)
    podman("rm", "listed")
    names = export.stdout.splitlines()
    programs = {name for name in names if re.match(r"(usr/)?s?bin/.", name)}
    assert programs == {"usr/bin/imcallbackd"}
    assert sum(name.startswith("var/lib/dpkg/status.d/") for name in names) > 10
    assert {"etc/ssl/certs/ca-certificates.crt", "usr/share/doc/imcallbackd/copyright"} <= set(names)


def test_program_of_the_image_has_all_optional_commands():
    version = podman("run", "--rm", "--network", "none", "--read-only", IMAGE, "--version")
    assert "forward: yes\ndeliver: yes\nsystemd: no\n" in version
    assert "libpq: " in version and "libcurl: " in version


def test_receiver_keeps_what_it_acknowledged_over_a_stop_under_load(start, files):
    one = start("receiver", files).wait_healthy()
    print(f"\nhealthy after {time.monotonic() - one.started:.2f} s, podman included")
    pid = int(inspect("receiver", "{{.State.Pid}}"))
    print(f"memory after the start: {memory_bytes(pid) / 1e6:.1f} MB")
    assert f"Uid:\t{USER}\t" in pathlib.Path(f"/proc/{pid}/status").read_text()
    acknowledged = files / "acknowledged"
    with load(files, total=1_000_000, acknowledged=acknowledged) as client:
        eventually(lambda: acknowledged.exists() and acknowledged.stat().st_size > 10_000, "load")
        seconds, status = one.stop()
        client.communicate(timeout=60)
    print(f"SIGTERM to exit under load: {seconds:.2f} s, podman included")
    assert (status, seconds < 11) == (0, True)
    assert (files / "imcallbackd/callbacks.db-wal").stat().st_size == 0  # the log is written back
    names = set(acknowledged.read_text().split())
    assert len(names) > 100 and names <= groups(files)
    assert all({"time", "level", "message"} <= set(line) for line in one.log()), one.log()[0]
    podman("start", "receiver")
    one.wait_healthy()
    report = daemon.load_report(load(files, total=100, seed=7), 60)
    assert report["ok"] == 100 and len(groups(files)) >= len(names) + 100


def test_health_check_of_the_image_follows_readyz(start, files):
    one = start("receiver", files).wait_healthy()
    assert run("podman", "healthcheck", "run", "receiver").returncode == 0
    with sqlite3.connect(files / "imcallbackd/callbacks.db") as connection:
        connection.execute("BEGIN IMMEDIATE")
        daemon.load_report(load(files, total=1, timeout=20), 60)
        assert one.health().returncode == 1
        assert run("podman", "healthcheck", "run", "receiver").returncode == 1
        connection.rollback()
    one.wait_healthy()


def test_secret_that_cannot_be_read_is_reported(start, files):
    (files / "secrets/key.pem").chmod(0)
    os.chown(files / "secrets/key.pem", 0, 0)
    one = start("receiver", files)
    eventually(lambda: inspect("receiver", "{{.State.Status}}") == "exited", "the end of the receiver")
    assert inspect("receiver", "{{.State.ExitCode}}") == "1"
    assert "key.pem: Permission denied" in run("podman", "logs", one.name).stderr


def test_deliver_reads_the_volume_of_the_receiver(start, files):
    endpoint = Endpoint(tls=False).start()
    try:
        text = (files / "imcallbackd.conf").read_text().replace("secret_file", "#secret_file")
        (files / "imcallbackd.conf").write_text(text.replace("#url = https://app.example.com/callback",
                                                             f"url = {endpoint.url()}"))
        start("receiver", files).wait_healthy()
        start("deliver", files, command=("deliver", "-c", CONFIG), options=("--no-healthcheck",),
              volumes=("imcallbackd:ro", "imcallbackd-deliver")).wait_healthy("deliver")
        assert daemon.load_report(load(files, total=5), 60)["ok"] == 5
        eventually(lambda: len(endpoint.requests()) == 5, "five deliveries")
    finally:
        endpoint.destroy()
