"""Tests the examples of imcallbackd-deliver(8): its commands, and the handler as the endpoint of a real `deliver`."""

import contextlib
import http.client
import json
import os
import re
import shutil
import sqlite3
import subprocess

import pytest

import daemon
from daemon import BINARY, event
from documents import TOP, example

PAGE = "imcallbackd-deliver.8"
# `install` runs without -o, because the users of the manual do not exist here.
STAND_INS = {"sudo": '#!/bin/sh\nwhile :; do case $1 in -[ug]) shift 2;; *) break;; esac; done\nexec "$@"\n',
             "install": '#!/bin/sh\nmode=$2; shift 4; exec /usr/bin/install -m "$mode" "$@"\n',
             "imcallbackd": f'#!/bin/sh\nexec {BINARY} "$@"\n'}


class Application:
    """The handler of the examples, with the secret that the manual's commands create."""

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
        self.run(example(PAGE, "openssl rand"))
        self.process = None

    def in_directory(self, text):
        for words, instead in {"/etc/": "/etc/", "/var/lib/app/": "/"}.items():
            text = text.replace(words, f"{self.directory}{instead}")
        return text

    def run(self, text):
        done = daemon.run("sh", "-e", "-c", self.in_directory(text), cwd=self.directory, env=self.environment)
        assert done.returncode == 0, done

    def run_on(self, one, text):
        """Runs commands for the files of this daemon instead of those of the system."""
        for words, instead in {"/etc/imcallbackd/imcallbackd.conf": one.config,
                               "/var/lib/imcallbackd-deliver": one.directory}.items():
            text = text.replace(words, str(instead))
        self.run(text)

    def start(self):
        directory, command = example(PAGE, "python3 handler.py").splitlines()
        assert directory == "cd /usr/share/doc/imcallbackd/examples"
        command = self.in_directory(command).replace("8080", str(self.port)).split()
        self.process = subprocess.Popen(["/usr/bin/python3", *command[1:]], cwd=TOP / "conf/deliver",
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
    """The running handler, to which [deliver] points as in the manual."""
    application = Application(fresh)
    section = application.in_directory(example(PAGE, "secret_file ="))
    keys = dict(re.findall(r"(?m)^(\w+) = (.*)$", section))
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
    application.run_on(fresh, example(PAGE, "set_aside").replace("1207", "1"))


@pytest.mark.parametrize("headers", [
    {},
    {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
    {"webhook-id": "1", "webhook-timestamp": "9999999999", "webhook-signature": "v2,"},
    {"webhook-id": "1", "webhook-timestamp": "1"},
])
def test_handler_refuses_a_request_that_is_not_signed(application, headers):
    assert application.post(headers) == 401
    assert application.events() == {}


def test_handler_refuses_a_timestamp_that_is_no_number(application):
    assert application.post({"webhook-id": "1", "webhook-timestamp": "x", "webhook-signature": "v1,\xff"}) == 400


def test_handler_keeps_an_event_that_is_not_valid_utf8(fresh, application, deliver):
    deliver(fresh)
    body = event(GroupId="odd", Name="?").replace(b'"?"', b'"\xff"')
    assert fresh.post(body).status == 200
    wait_events(application, "odd")


def test_start_at_now_skips_what_is_recorded(fresh, application, deliver):
    """The manual's command must leave a state from which the service continues."""
    assert fresh.post(event(GroupId="old")).status == 200
    command = example(PAGE, "--start-at now").replace("/etc/imcallbackd/imcallbackd.conf", str(fresh.config))
    process = subprocess.Popen(["sh", "-c", f"exec {command}"], env=application.environment, text=True,
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with process:
        assert any("delivering after id 1" in line for line in process.stderr)
        process.send_signal(daemon.signal.SIGINT)
    assert process.returncode == 0
    deliver(fresh)
    assert fresh.post(event(GroupId="new")).status == 200
    wait_events(application, "new")


def test_url_of_the_callback_so_far_is_accepted(fresh):
    """The endpoint does not exist here, which is a warning."""
    keys = dict(re.findall(r"(?m)^(\w+) = (.*)$", example(PAGE, "ca_file =")))
    assert keys["url"].startswith("https://")
    shutil.copy(fresh.directory / "certificate.pem", fresh.directory / "application-ca.pem")
    keys = {"url": f"https://127.0.0.1:{daemon.free_port()}/im/callback", "admin_port": 0,
            "ca_file": keys["ca_file"].replace("/etc/imcallbackd", str(fresh.directory)),
            "state_file": fresh.directory / "state"}
    fresh.write_config({"deliver": keys})
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0 and "[deliver] url: " in done.stderr, done


def test_commands_of_the_readme_start_the_sender(fresh):
    """`check` warns that the endpoint does not exist here. systemctl only records its arguments."""
    keys = dict(re.findall(r"(?m)^(\w+) = (.*)$", example("README.md", "[deliver]")))
    assert set(keys) == {"url"}
    url = keys["url"].replace("8080", str(daemon.free_port()))
    fresh.write_config({"deliver": {"url": url, "state_file": fresh.directory / "state", "admin_port": 0}})
    programs = fresh.directory / "programs"
    programs.mkdir()
    stand_ins = STAND_INS | {"systemctl": f'#!/bin/sh\necho "$*" >>{programs}/calls\n'}
    for name, text in stand_ins.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    text = example("README.md", "imcallbackd-deliver").replace("/etc/imcallbackd", str(fresh.directory))
    done = daemon.run("sh", "-e", "-c", text, env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"})
    assert done.returncode == 0 and "[deliver] url: " in done.stderr, done
    assert (programs / "calls").read_text().splitlines() == ["reload imcallbackd", "enable --now imcallbackd-deliver"]
