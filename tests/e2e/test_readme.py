"""Tests the commands in README.md: the quick start in a copy of the tree, the service in a stand-in for /, and the
sender of [deliver]."""

import os
import pathlib
import re
import shutil
import stat
import subprocess
import tempfile
from unittest.mock import ANY

import pytest

import daemon
from documents import example, examples
from log_reader import LogReader

pytestmark = pytest.mark.full

TOP = pathlib.Path(__file__).resolve().parents[2]
COPIED = (".github", "src", "include", "tests", "conf", "systemd", "CMakeLists.txt", "CMakePresets.json")
START_DEADLINE = 240  # seconds; includes a build
RESTART_DEADLINE = 90  # seconds; generous, because other tests may run at the same time


def block(words):
    """Returns the only block of commands in README.md that contains these words."""
    return example("README.md", words)


class Foreground:
    """A daemon that a command line starts, and that logs its listening address to standard error."""

    def __init__(self, command, directory, deadline, environment=None):
        self.process = subprocess.Popen(["sh", "-c", f"exec {command}"], cwd=directory,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env=os.environ | (environment or {}))
        self.reader = LogReader(self.process.stdout)
        daemon.eventually(lambda: self._port() or self.process.poll() is not None, "listening", deadline)
        assert self._port(), self.output
        self.port = self._port()

    @property
    def output(self):
        return "\n".join(self.reader.lines)

    def _port(self):
        found = re.search(r"listening on https://[\d.]+:(\d+)/", self.output)
        return int(found[1]) if found else None

    def line(self, program):
        """Returns the only line of the output that calls the program, or that starts with this scheme of a URL."""
        (found,) = [line for line in self.reader.lines if re.match(program + "(?: |//)", line)]
        return found

    def interrupt(self):
        self.process.send_signal(daemon.signal.SIGINT)
        assert self.process.wait(daemon.STOP_DEADLINE) == 0, self.output
        self.reader.join()

    def destroy(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()


@pytest.fixture(scope="module")
def clone():
    """Makes a copy of the tree, at a path that needs quoting, configured with free ports."""
    top = pathlib.Path(tempfile.mkdtemp(prefix="a clone's copy-"))
    try:
        for name in COPIED:
            if (TOP / name).is_dir():
                shutil.copytree(TOP / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(TOP / name, top / name)
        config = top / "conf" / "quickstart.conf"
        text, count = re.subn("(?m)^port = (8443|9463)$", lambda _: f"port = {daemon.free_port()}", config.read_text())
        assert count == 2
        config.write_text(text)
        yield top
    finally:
        shutil.rmtree(top)


@pytest.fixture(scope="module")
def quickstart(clone):
    running = Foreground(block("conf/quickstart.sh"), clone, START_DEADLINE)
    try:
        yield running
    finally:
        running.destroy()


def test_printed_commands_of_quickstart_work(quickstart):
    for _ in range(2):  # each run of the command computes a new signature
        answer = daemon.run("sh", "-c", quickstart.line("curl"), cwd="/")
        assert (answer.returncode, answer.stdout) == (0, '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}'), answer
    shown = daemon.run("sh", "-c", quickstart.line("sqlite3"), cwd="/")
    assert shown.returncode == 0 and shown.stderr == ""
    cells = [re.findall(r"[^│\s]+", line) for line in shown.stdout.splitlines() if line.startswith("│")]
    assert cells == [["group_id", "name", "position", "member_account"]] + [
        ["@TGS#2J4SZEAEL", "MyFirstGroup", str(position), member]
        for position, member in enumerate(("leckie", "peter", "bob"))]


def test_commands_after_the_quickstart_work(clone, quickstart):
    text = block("sign -c conf/quickstart.conf").replace("8443", str(quickstart.port))
    answer = daemon.run("sh", "-e", "-c", text, cwd=clone)
    assert answer.returncode == 0 and '"OK"' in answer.stdout and "MyFirstGroup" in answer.stdout, answer


def test_quickstart_prints_the_address_of_the_status_page(quickstart):
    answer = daemon.run("curl", "-fsS", quickstart.line("http:"))
    assert answer.returncode == 0 and "<!DOCTYPE html>" in answer.stdout, answer


def test_second_quickstart_reuses_files(clone, quickstart):
    files = clone / "build" / "quickstart"
    assert stat.S_IMODE((files / "token").stat().st_mode) == stat.S_IMODE((files / "key.pem").stat().st_mode) == 0o600
    assert re.fullmatch("[A-Za-z0-9]{32}", (files / "token").read_text())
    line = quickstart.line("curl")
    quickstart.interrupt()
    # ninja misreads dependencies with an apostrophe in their path, so the second run builds this copy again.
    again = Foreground(block("conf/quickstart.sh"), clone, START_DEADLINE)
    try:
        assert again.line("curl") == line
        assert '"OK"' in daemon.run("sh", "-c", line, cwd="/").stdout
        again.interrupt()
    finally:
        again.destroy()
    rows = daemon.run("sqlite3", "-readonly", files / "callbacks.db", "SELECT count(*) FROM destroyed_group")
    assert rows.stdout == "1\n", rows


class Service:
    """The service as the README installs it, in a directory that stands for /. Scripts replace the programs that need a
    whole system, such as systemctl. All scripts except sudo record their arguments."""

    def __init__(self, clone):
        self.clone = clone
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="imcb-root-"))
        self.calls = self.root / "calls"
        programs = self.root / "stand-ins"
        for directory in ("stand-ins", "var/lib/imcallbackd"):
            (self.root / directory).mkdir(parents=True)
        recorded = f'#!/bin/sh\necho "${{0##*/}} $*" >>{self.calls}\n'
        unpack = f'{recorded}case $2 in *.deb) exec dpkg-deb -x "$2" {self.root};; esac\n'
        for name, text in {"sudo": '#!/bin/sh\n[ "$1" != -u ] || shift 2\nexec "$@"\n', "apt-get": unpack,
                           "usermod": recorded, "systemctl": recorded, "chgrp": recorded, "certbot": recorded,
                           "sudoedit": recorded}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = {"PATH": f"{programs}:{self.root}/usr/bin:{os.environ['PATH']}", "USER": "operator",
                            "CURL_CA_BUNDLE": str(clone / "fullchain.pem")}
        self.port = None

    def below_root(self, text):
        for path in ("/etc/", "/var/lib/"):
            text = text.replace(path, f"{self.root}{path}")
        for words, instead in {"/usr/bin/": f"{self.root}/usr/bin/", "-g imcallbackd ": "",
                               "im.example.org": f"localhost:{self.port}"}.items():
            text = text.replace(words, instead)
        return text

    def run(self, words, standard_input=""):
        done = daemon.run("sh", "-e", "-c", self.below_root(block(words)), cwd=self.clone, input=standard_input,
                          env=os.environ | self.environment)
        assert done.returncode == 0, done
        return done.stdout

    def mode(self, path):
        return oct(stat.S_IMODE((self.root / path).stat().st_mode))

    def edit_configuration(self):
        """Replaces the default ports with free ones, and puts the database below the root."""
        path = self.root / "etc/imcallbackd/imcallbackd.conf"
        text, count = re.subn("(?m)^#(port = )8443$", r"\g<1>0", path.read_text())
        assert count == 1
        text, count = re.subn("(?m)^#(port = )9463$", rf"\g<1>{daemon.free_port()}", text)
        assert count == 1
        path.write_text(self.below_root(text.replace("#database", "database")))

    def start(self):
        """Starts the daemon with the command line of the unit."""
        unit = (self.root / "usr/lib/systemd/system/imcallbackd.service").read_text()
        (command,) = re.findall("(?m)^ExecStart=(.*)$", unit)
        running = Foreground(self.below_root(command), "/", RESTART_DEADLINE)
        self.port = running.port
        return running

    def destroy(self):
        shutil.rmtree(self.root)


def test_service_installs_and_answers(clone, quickstart):
    service = Service(clone)
    daemon.make_certificate(clone, "-newkey", "rsa:2048", name="fullchain.pem", key="privkey.pem")
    try:
        service.run("cpack")
        service.run("certbot certonly")
        shutil.copy(clone / "fullchain.pem", service.root / "etc/imcallbackd/certificate.pem")
        shutil.copy(clone / "privkey.pem", service.root / "etc/imcallbackd/key.pem")
        service.run("/dev/stdin", "the-token-of-the-console\n")
        assert (service.root / "etc/imcallbackd/token").read_text() == "the-token-of-the-console\n"
        assert service.mode("etc/imcallbackd/token") == "0o640"
        assert (service.root / "usr/share/imcallbackd/certbot-hook.sh").exists()
        service.edit_configuration()
        assert "[app 1400000001]" in service.run("sudoedit")
        running = service.start()
        try:
            assert service.run("signed=$(sudo") == '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}'
            check_queries(service)
            running.interrupt()
        finally:
            running.destroy()
        check_certificate_for_a_proxy(service)
        assert [line.split()[0:2] for line in service.calls.read_text().splitlines()] == [
            ["apt-get", "install"], ["apt-get", "install"], ["certbot", "certonly"], ["sudoedit", ANY],
            ["systemctl", "enable"], ["usermod", "--append"], ["chgrp", "imcallbackd"]]
    finally:
        service.destroy()


def check_certificate_for_a_proxy(service):
    """Checks that the daemon works with the certificate that a proxy on the same machine verifies."""
    (service.root / "etc/ssl").mkdir()
    service.run("chgrp")
    assert [service.mode(name) for name in ("etc/ssl/imcallbackd.pem", "etc/imcallbackd/key.pem")] == ["0o644", "0o640"]
    service.environment["CURL_CA_BUNDLE"] = str(service.root / "etc/ssl/imcallbackd.pem")
    running = service.start()
    try:
        assert '"OK"' in service.run("signed=$(sudo")
        running.interrupt()
    finally:
        running.destroy()


def check_queries(service):
    """Checks that each query of the README finds the sample that was sent before."""
    (queries,) = examples("README.md", "sql")
    expected = {"The groups that were disbanded last": "MyFirstGroup", "The groups that a user": "@TGS#"}
    output = service.run("usermod", re.sub("(?m)^-- ", ".print -- ", queries))
    parts = output.split("-- ")[1:]
    assert len(parts) == len(expected), output
    for part, (title, shown) in zip(parts, expected.items()):
        heading, _, table = part.partition("\n")
        assert heading.startswith(title)
        assert shown in table, part
