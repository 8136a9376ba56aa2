"""Tests the README's section about delivery: its commands, and its handler as the endpoint of a real `deliver`."""

import contextlib
import http.client
import json
import os
import re
import sqlite3
import subprocess

import pytest

import daemon
from daemon import BINARY, event
from test_readme import README, block, blocks

# `install` runs without -o, because the users of the README do not exist here.
STAND_INS = {"sudo": '#!/bin/sh\nwhile :; do case $1 in -[ug]) shift 2;; *) break;; esac; done\nexec "$@"\n',
             "install": '#!/bin/sh\nmode=$2; shift 4; exec /usr/bin/install -m "$mode" "$@"\n',
             "imcallbackd": f'#!/bin/sh\nexec {BINARY} "$@"\n'}


class Application:
    """The handler of the README, with the secret that the README's commands create."""

    def __init__(self, one):
        self.directory = one.directory
        self.port = daemon.free_port()
        programs = one.directory / "programs"
        for directory in ("programs", "etc/imcallbackd", "etc/app"):
            (one.directory / directory).mkdir(parents=True)
        for name, text in STAND_INS.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
        self.run(block("openssl rand"))
        (text,) = blocks("python")
        (self.directory / "handler.py").write_text(text)
        self.process = None

    def in_directory(self, text):
        return text.replace("/etc/", f"{self.directory}/etc/")

    def run(self, text):
        done = daemon.run("sh", "-e", "-c", self.in_directory(text), cwd=self.directory, env=self.environment)
        assert done.returncode == 0, done

    def start(self):
        (command,) = re.findall(r"`(python3 handler\.py .*?)`", README.replace("\n", " "))
        command = self.in_directory(command).replace("8080", str(self.port)).split()
        self.process = subprocess.Popen(["/usr/bin/python3", *command[1:]], cwd=self.directory,
                                        stdin=subprocess.DEVNULL)
        daemon.eventually(lambda: self.post({}) == 401, "the handler answers", 20)
        return self

    def post(self, headers):
        """Returns the status of the answer, or None if the handler does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            try:
                connection.request("POST", "/", b"{}", headers)
                return connection.getresponse().status
            except OSError:
                return None

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def events(self):
        with contextlib.closing(sqlite3.connect(self.directory / "events.db")) as connection:
            return {group: json.loads(members) for group, members in
                    connection.execute("SELECT group_id, members FROM disbanded")}


@pytest.fixture
def application(fresh):
    """The running handler, to which [deliver] points as in the README."""
    application = Application(fresh)
    (section,) = [text for text in blocks("ini") if "secret_file" in text]
    keys = dict(re.findall(r"(?m)^(\w+) = (.*)$", application.in_directory(section)))
    keys["url"] = keys["url"].replace("8080", str(application.port))
    fresh.write_config({"deliver": keys | {"state_file": fresh.directory / "state", "admin_port": 0}})
    fresh.start()
    application.start()
    try:
        yield application
    finally:
        application.stop()


def wait_events(application, *groups):
    daemon.eventually(lambda: set(application.events()) == set(groups), f"the handler has {groups}", 60)


def test_handler_keeps_each_event_once(fresh, application, deliver):
    deliverer = deliver(fresh)
    assert fresh.post(event(GroupId="first", MemberList=[{"Member_Account": "bob"}])).status == 200
    wait_events(application, "first")
    application.stop()
    assert fresh.post(event(GroupId="second")).status == 200
    deliverer.wait_logged("Connection refused")
    application.start()
    wait_events(application, "first", "second")
    assert daemon.run(BINARY, "deliver", "-c", fresh.config, "--replay", "1-2").returncode == 0
    assert len(application.events()) == 2 and application.events()["first"] == ["bob"]


@pytest.mark.parametrize("headers", [
    {},
    {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
    {"webhook-id": "1", "webhook-timestamp": "9999999999", "webhook-signature": "v2,"},
    {"webhook-id": "1", "webhook-timestamp": "1"},
])
def test_handler_refuses_a_request_that_is_not_signed(application, headers):
    assert application.post(headers) == 401
    assert application.events() == {}


def test_start_at_now_skips_what_is_recorded(fresh, application, deliver):
    """The README's command must leave a state from which the service continues."""
    assert fresh.post(event(GroupId="old")).status == 200
    command = block("--start-at now").replace("/etc/imcallbackd/imcallbackd.conf", str(fresh.config))
    process = subprocess.Popen(["sh", "-c", f"exec {command}"], env=application.environment, text=True,
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        assert any("delivering after id 1" in line for line in process.stderr)
        process.send_signal(daemon.signal.SIGINT)
    assert process.returncode == 0
    deliver(fresh)
    assert fresh.post(event(GroupId="new")).status == 200
    wait_events(application, "new")
