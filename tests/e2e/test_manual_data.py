"""Tests the manual's commands to export, back up and restore, with PostgreSQL and a stand-in for a search engine."""

import http.server
import json
import os
import threading

import pytest

import daemon
import postgres
from daemon import BINARY, event
from documents import example


class Operator:
    """Runs the commands as an operator would, in the directory of a daemon instead of the system's directories."""

    def __init__(self, one):
        self.one = one
        self.backups = one.directory / "backups"
        programs = one.directory / "programs"
        for directory in (self.backups, programs):
            directory.mkdir()
        (programs / "imcallbackd").symlink_to(BINARY)
        (programs / "sudo").write_text('#!/bin/sh\nexec "$@"\n')
        (programs / "sudo").chmod(0o755)
        self.environment = {"PATH": f"{programs}:{os.environ['PATH']}"}

    def run(self, text, status=0):
        for words, instead in {"/etc/imcallbackd": self.one.directory, "/var/lib/imcallbackd": self.one.directory,
                               "/var/backups": self.backups, "-o imcallbackd -g imcallbackd ": ""}.items():
            text = text.replace(words, str(instead))
        done = daemon.run("bash", "-e", "-o", "pipefail", "-c", text, cwd="/", env=os.environ | self.environment)
        assert done.returncode == status, done
        return done.stdout


@pytest.fixture
def operator(make_daemon):
    one = make_daemon().start()
    for number in range(3):
        members = [{"Member_Account": f'"\\ 张三 {number} {position}'} for position in range(number)]
        assert one.post(event(GroupId=f"g{number}", Name="\x01\x02\\.\n,\t\"'", MemberList=members)).status == 200
    return Operator(one)


@pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")
def test_export_into_postgresql_is_incremental(operator, server):
    operator.environment |= server.environment() | {"PGHOST": "127.0.0.1", "PGPORT": str(server.port),
                                                    "PGUSER": "owner", "PGDATABASE": server.database,
                                                    "PATH": operator.environment["PATH"]}
    assert operator.run(example("imcallbackd.8", "jsonb NOT NULL")) == "COPY 3\n"
    assert operator.run(example("imcallbackd.8", "jsonb NOT NULL")) == "COPY 0\n"
    assert operator.one.post(event(GroupId="later")).status == 200
    assert operator.run(example("imcallbackd.8", "jsonb NOT NULL")) == "COPY 1\n"
    exported = operator.run("imcallbackd export -c /etc/imcallbackd/imcallbackd.conf").split("\n")[:-1]
    stored = operator.run("psql -Atc 'SELECT event FROM disbanded ORDER BY id'").splitlines()
    assert list(map(json.loads, stored)) == list(map(json.loads, exported))
    operator.environment["query"] = example("imcallbackd.8", "jsonb_array_elements_text")
    members = operator.run('psql -F : -Atc "$query"')
    assert [line.rpartition(":")[2] for line in members.split("\n") if ":" in line] == [
        '"\\ 张三 1 0', '"\\ 张三 2 0', '"\\ 张三 2 1', "leckie"]


class Search(http.server.BaseHTTPRequestHandler):
    """A stand-in for the bulk interface of Elasticsearch and OpenSearch that supports only index actions."""

    documents = {}
    errors = False

    def do_POST(self):
        assert self.path == "/disbanded/_bulk" and self.headers["Content-Type"] == "application/x-ndjson"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert body.endswith(b"\n")
        lines = [json.loads(line) for line in body.decode().split("\n")[:-1]]
        for action, document in zip(lines[::2], lines[1::2], strict=True):
            self.documents[action["index"]["_id"]] = document
        answer = json.dumps({"took": 1, "errors": self.errors, "items": []}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def test_export_into_search_is_idempotent(operator):
    assert operator.one.load(connections=20, total=1_500)[0] == 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Search)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    text = example("imcallbackd.8", "_bulk").replace("127.0.0.1:9200", f"127.0.0.1:{server.server_port}")
    try:
        for _ in range(2):
            assert operator.run(text) == "true\ntrue\n"
        exported = operator.run("imcallbackd export -c /etc/imcallbackd/imcallbackd.conf").split("\n")[:-1]
        assert Search.documents == {each["id"]: each for each in map(json.loads, exported)}
        Search.errors = True
        operator.run(text, status=1)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_backup_is_restored(operator):
    one = operator.one
    operator.run(example("imcallbackd-operations.7", "imcallbackd backup"))
    (copy,) = operator.backups.iterdir()
    copy.rename(operator.backups / "callbacks-2026-11-28.db")
    assert one.post(event(GroupId="after-backup")).status == 200
    script = example("imcallbackd-operations.7", "$store/before/").replace("\\\n", "")
    store, *lines = script.splitlines()
    for line in lines:
        if "systemctl stop" in line:
            one.stop()
        elif "systemctl start" in line:
            one.start()
        else:
            operator.run(f"{store}\n{line}")
    assert one.post(event(GroupId="after-restore")).status == 200
    assert one.group_ids() == ["g0", "g1", "g2", "after-restore"]
    kept = daemon.run("sqlite3", "-readonly", one.directory / "before" / "callbacks.db",
                      "SELECT group_id FROM destroyed_group WHERE id = 4")
    assert kept.stdout == "after-backup\n", kept
