"""Starts the servers that bench.py compares, measures their use of processor and memory, and checks their stores."""

import os
import pathlib
import re
import signal
import socket
import sqlite3
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/e2e"))

from certificates import P_256, RSA_2048, make_certificate  # noqa: E402
from monitoring import metrics  # noqa: E402
from processes import eventually, free_port, long_options, read_proc  # noqa: E402

BUILD = TOP / "build/bench"
DAEMON = TOP / "build/release/imcallbackd"
LOAD = TOP / "build/dev/tests/imcallbackd-load"
WRITER = TOP / "build/dev/tests/imcallbackd-bench-writer"

APP = 1400000001
TOKEN = "0123456789abcdef0123456789abcdef"
START_DEADLINE_S = 30
KEYS = {"rsa": RSA_2048, "ecdsa": P_256}


def make_certificates(directory):
    for name, options in KEYS.items():
        make_certificate(directory, *options, name=f"{name}.pem", key=f"{name}.key")


class Server:
    """A process, possibly with children, that listens on a port."""

    name = None
    syncs = "fsync|fdatasync"  # the system calls that sync what is recorded
    events_sql = None  # selects the numbers of events, of distinct events and of members; None: no store

    def __init__(self, directory, key="rsa", database=None):
        self.directory, self.key = directory, key
        self.certificate, self.private_key = directory / f"{key}.pem", directory / f"{key}.key"
        self.database = database or directory / f"{self.name}-{key}.db"
        self.port = free_port()
        self.acknowledged_events = self.acknowledged_members = 0
        self.process = None

    def command(self):
        raise NotImplementedError

    def load_words(self, seed, total, options):
        """Returns the command line of the load generator for this server."""
        return [str(LOAD), *long_options({
            "port": self.port, "app": APP, "token": TOKEN, "ca": self.certificate, "seed": seed, "total": total,
            "gated": True, "timeout": 120} | options)]

    def start(self, wrapper=(), environment=None):
        log = (self.directory / f"{self.name}-{self.key}.log").open("a")
        self.process = subprocess.Popen([*map(str, wrapper), *map(str, self.command())], stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log, env=os.environ | (environment or {}))
        eventually(self._accepts, f"{self.name} accepts connections; see {log.name}", START_DEADLINE_S)
        return self

    def _accepts(self):
        assert self.process.poll() is None, f"{self.name} does not start"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.process = None

    def processes(self):
        found = [self.process.pid]
        for pid in found:
            for children in read_proc(pid, "task/*/children"):
                found += map(int, children.split())
        return found

    def batches(self):
        """Returns the numbers of callbacks in all commits and of commits, if the server counts them."""
        return 0, 0

    def memory_kib(self):
        """Returns the proportional set size, in which memory that several processes share counts only once."""
        return sum(int(re.search(r"(?m)^Pss: +(\d+)", text)[1])
                   for pid in self.processes() for text in read_proc(pid, "smaps_rollup"))

    def check_store(self):
        """Checks that the stopped server has recorded every acknowledged event once, with its members.

        Returns the number of events, or None if the server has no store.
        """
        if not self.events_sql:
            return None
        with sqlite3.connect(self.database) as connection:
            found = connection.execute(self.events_sql).fetchone()
        wanted = (self.acknowledged_events, self.acknowledged_events, self.acknowledged_members)
        if found != wanted:
            raise SystemExit(f"{self.name}: wrong numbers of events and members: {found} stored, {wanted} acknowledged")
        return self.acknowledged_events


class Daemon(Server):
    name = "imcallbackd"
    events_sql = ("SELECT (SELECT count(*) FROM destroyed_group), (SELECT count(*) FROM (SELECT DISTINCT sdk_appid, "
                  "group_id FROM destroyed_group)), (SELECT count(*) FROM destroyed_group_member)")

    def __init__(self, directory, key="rsa", database=None, threads=0):
        super().__init__(directory, key, database)
        self.admin_port, self.threads = free_port(), threads

    def command(self):
        config, token = self.directory / f"imcallbackd-{self.key}-{self.port}.conf", self.directory / "token"
        token.write_text(TOKEN + "\n")
        token.chmod(0o600)
        config.write_text(
            f"[listen]\naddress = 127.0.0.1\nport = {self.port}\nthreads = {self.threads}\n[tls]\n"
            f"certificate = {self.certificate}\nprivate_key = {self.private_key}\n[app {APP}]\ntoken_file = {token}\n"
            f"[store]\ndatabase = {self.database}\n[limits]\nconnections_per_address = 4096\nstore_wait = 30s\n"
            f"[admin]\nport = {self.admin_port}\n[log]\nlevel = warning\n")
        return [DAEMON, "serve", "-c", config]

    def batches(self):
        found = metrics(self.admin_port)
        return tuple(found[f"imcallbackd_commit_batch_callbacks_{each}"] for each in ("sum", "count"))


class Nginx(Server):
    """Reads the request and answers OK without checking or recording anything."""

    name = "nginx"

    def command(self):
        config, place = self.directory / f"nginx-{self.key}.conf", self.directory / f"nginx-{self.key}"
        place.mkdir(exist_ok=True)
        paths = "".join(f"{kind}_temp_path {place}/{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config.write_text(
            f"daemon off;\nworker_processes auto;\npid {place}/pid;\nerror_log {place}/error.log;\n"
            f"events {{ worker_connections 4096; }}\nhttp {{\n{paths}access_log off;\nkeepalive_requests 1000000000;\n"
            f"client_max_body_size 16m;\nserver {{\nlisten 127.0.0.1:{self.port} ssl;\n"
            f"ssl_certificate {self.certificate};\nssl_certificate_key {self.private_key};\n"
            "ssl_protocols TLSv1.2 TLSv1.3;\ndefault_type application/json;\n"
            """return 200 '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}';\n}\n}\n""")
        return [BUILD / "nginx", "-c", config, "-e", place / "error.log"]


class Receiver(Server):
    """A typical receiver with one transaction per request."""

    events_sql = ("SELECT (SELECT count(*) FROM event), (SELECT count(*) FROM (SELECT DISTINCT group_id FROM event)), "
                  "(SELECT count(*) FROM member)")


class Go(Receiver):
    name = "go"

    def command(self):
        return [BUILD / "receiver-go", f"127.0.0.1:{self.port}", self.certificate, self.private_key, self.database,
                TOKEN]


class FastApi(Receiver):
    name = "fastapi"

    def start(self, wrapper=(), environment=None):
        return super().start(wrapper, {"RECEIVER_TOKEN": TOKEN, "RECEIVER_DATABASE": str(self.database)})

    def command(self):
        return ["/usr/bin/python3", "-B", "-m", "uvicorn", "--app-dir", TOP / "tests/bench", "receiver:app", "--port",
                self.port, "--ssl-certfile", self.certificate, "--ssl-keyfile", self.private_key, "--no-access-log",
                "--log-level", "warning"]
