"""Runs a PostgreSQL server in a temporary directory, a TCP proxy in front of it, and forwarders that ship to it."""

import contextlib
import fcntl
import glob
import json
import os
import pathlib
import pwd
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import daemon
from service import Service

PASSWORD = "p-4711-secret"
TEMPLATES = pathlib.Path(daemon.LOAD).parent  # the directory of the build
SUCCESS, END = "00000", "end of the output"  # the SQLSTATE and the last line of a Postgres.query() that succeeds


def programs():
    """Returns the directory with the programs of the newest installed PostgreSQL, or None if no version is
    installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
    return pathlib.Path(found[-1]) if found else None


def unprivileged():
    """Returns options for subprocess that select another user if the tests run as root, because PostgreSQL refuses to
    run as root."""
    if os.geteuid() != 0:
        return {}
    names = [entry.pw_name for entry in pwd.getpwall()]
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def has_ended(pid):
    """Returns whether the process has ended. A zombie counts as ended, although its parent has not waited for it
    yet."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Postgres:
    """A PostgreSQL server and its files. settings: server parameters for the command line."""

    def __init__(self, **settings):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="imcb-pg-"))
        self.data = self.directory / "data"
        self.port = daemon.free_port()
        self.password_file = self.directory / "password"
        self.process = None
        self.session = None
        self.settings = {"fsync": "off"} | settings
        self.database = "postgres"
        self.schema = "public"
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(self.directory, unprivileged()["user"], unprivileged()["group"])
            os.chown(self.password_file, unprivileged()["user"], unprivileged()["group"])

    def program(self, name, *arguments):
        done = daemon.run(programs() / name, *arguments, cwd="/", env=self.environment(), timeout=120,
                          **unprivileged())
        assert done.returncode == 0, (name, done.stdout, done.stderr)
        return done.stdout

    def environment(self, options=""):
        return os.environ | {"PGPASSWORD": PASSWORD, "PGOPTIONS": f"-c search_path={self.schema} {options}",
                             "LC_ALL": "C.UTF-8"}

    def create(self):
        """Creates the data directory. Only the first test of a build runs initdb, which takes a second of processor
        time. All later tests copy the result."""
        template = TEMPLATES / f"postgres-{programs().parent.name}"
        with open(f"{template}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                self.program("initdb", "-D", self.data, "-U", "owner", "-A", "scram-sha-256", "--pwfile",
                             self.password_file, "-E", "UTF8", "--no-locale", "--no-sync")
                daemon.check_run("cp", "-a", self.data, f"{template}.new")
                os.rename(f"{template}.new", template)
                return self
        daemon.check_run("cp", "-a", template, self.data)
        return self

    def create_standby(self, primary):
        """Creates the data directory of a streaming standby of the primary."""
        self.program("pg_basebackup", "-D", self.data, "-R", "-c", "fast", "-h", "127.0.0.1", "-p", primary.port, "-U",
                     "owner", "-d", f"application_name=standby password={PASSWORD}")
        return self

    def start(self):
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": self.directory,
                   "logging_collector": "off"} | self.settings
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        log_file = self.directory / "log"
        with log_file.open("ab") as log:
            known = log.tell()
            self.process = subprocess.Popen([programs() / "postgres", "-D", self.data, *words], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, cwd="/", start_new_session=True,
                                            **unprivileged())
        daemon.eventually(lambda: b"ready to accept" in log_file.read_bytes()[known:] or self.process.poll() is not None,
                          "the server", 60)
        assert self.process.poll() is None, log_file.read_text()
        return self

    def stop(self, number=signal.SIGINT):
        """Stops the server. SIGINT requests PostgreSQL's fast shutdown, which does not wait for clients."""
        self.end_session()
        if self.process:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def kill(self):
        """Kills the server and all its child processes, as in a crash. A child that still runs would prevent the next
        start."""
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self.process.wait(60)
        self.process = None
        daemon.eventually(lambda: all(has_ended(child) for child in children), "the end of its processes", 60)

    def promote(self):
        self.program("pg_ctl", "promote", "-w", "-D", self.data)

    def destroy(self):
        if self.process:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def psql_command(self, *arguments):
        return [programs() / "psql", "-X", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "owner", "-d",
                self.database, *arguments]

    def psql(self, *arguments, **options):
        return daemon.run(*self.psql_command("-v", "ON_ERROR_STOP=1", *arguments), env=self.environment(), **options)

    def query(self, statements):
        """Runs the statements in a session that stays open, because a process and a connection for each call take
        0.1 s of processor time. Returns whether all statements succeeded, and their output with the errors."""
        if not self.session:
            self.session = subprocess.Popen(
                self.psql_command("-At"), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, env=self.environment("-c statement_timeout=60s"))
        with contextlib.suppress(BrokenPipeError):
            self.session.stdin.write(f"\\set LAST_ERROR_SQLSTATE {SUCCESS}\n{statements}\n;\n"
                                     f"\\echo {END} :LAST_ERROR_SQLSTATE\n")
            self.session.stdin.flush()
        lines = []
        while line := self.session.stdout.readline():
            if line.startswith(END):
                return line == f"{END} {SUCCESS}\n", "".join(lines)
            lines.append(line)
        self.end_session()  # psql has lost its connection
        return False, "".join(lines)

    def end_session(self):
        if self.session:
            self.session.kill()
            self.session.communicate()
            self.session = None

    def sql(self, query):
        """Returns the rows as dictionaries."""
        return json.loads(self.execute(f"SELECT coalesce(json_agg(q), '[]') FROM ({query}) AS q"))

    def value(self, query):
        (row,) = self.sql(query)
        (value,) = row.values()
        return value

    def execute(self, statements):
        succeeded, output = self.query(statements)
        assert succeeded, (statements, output)
        return output

    def url(self, port=None, **parameters):
        parameters = {"options": f"-csearch_path%3D{self.schema}"} | parameters
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://owner@127.0.0.1:{port or self.port}/{self.database}?{query}"

    def use_new_schema(self, name):
        """Creates an empty schema, which all later calls use."""
        self.execute(f"CREATE SCHEMA {name}; SET search_path = {name}")
        self.schema = name
        return self


class Forwarder(Service):
    """The process `imcallbackd forward` with the configuration of a daemon."""

    command = "forward"

    def check_log(self):
        super().check_log()
        assert PASSWORD not in self.log


def ship_to(one, server, receiver="a", port=None, settings=None, **keys):
    """Writes a configuration with [forward]. port: the port of a proxy in front of the server; keys: the keys of
    [forward]; settings: the keys of other sections."""
    section = {"url": server.url(port), "receiver": receiver, "password_file": server.password_file, "admin_port": 0,
               "shipped_file": one.directory / "shipped"} | keys
    one.write_config((settings or {}) | {"forward": section})


def shipping_daemon(make_daemon, server, *arguments, **keys):
    """Starts a daemon with the configuration that ship_to() writes. The further arguments are those of ship_to()."""
    one = make_daemon()
    ship_to(one, server, *arguments, **keys)
    return one.start()


def has_rows(server, count, table="destroyed_group", deadline=60):
    """Waits until the table has this number of rows."""
    daemon.eventually(lambda: server.query(f"SELECT count(*) FROM {table}") == (True, f"{count}\n"),
                      f"{count} rows in {table}", deadline)


def verify(one, *arguments):
    return daemon.run(daemon.BINARY, "forward", "-c", one.config, "--verify", *arguments, timeout=600)


class Proxy:
    """A TCP proxy in front of the server, which can delay, stall and cut connections. delay_ms: the delay in each
    direction; rate: the limit in bytes per second from the client; None means no limit."""

    def __init__(self, port, delay_ms=0, rate=None):
        self.target = port
        self.delay_s = delay_ms / 1000
        self.rate = rate
        self.listener = socket.create_server(("127.0.0.1", 0))
        if rate:
            # A larger receive buffer would take all that the client sends at once, regardless of the rate.
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self.port = self.listener.getsockname()[1]
        self.cut_at = None  # called with bytes from the client; returns how many pass before a cut; None: no cut
        self.stalled = threading.Event()  # no bytes pass while this event is set
        self.pairs = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                pair = (client, server)
                self.pairs.append(pair)
                self._pass_on(pair, client, server, True)
                self._pass_on(pair, server, client, False)

    def _pass_on(self, pair, source, target, from_client):
        """One thread reads and another one sends, so that a delay does not limit the rate."""
        waiting = queue.Queue()

        def read():
            with contextlib.suppress(OSError):
                while data := source.recv(1 << 14 if self.rate else 1 << 18):
                    if from_client and self.rate:
                        time.sleep(len(data) / self.rate)
                    waiting.put((time.monotonic() + self.delay_s, data))
            waiting.put(None)

        def send():
            with contextlib.suppress(OSError):
                while item := waiting.get():
                    due, data = item
                    while self.stalled.is_set():
                        time.sleep(0.01)
                    if (pause := due - time.monotonic()) > 0:
                        time.sleep(pause)
                    passing = self.cut_at(data) if from_client and self.cut_at else None
                    target.sendall(data[:passing])
                    if passing is not None:
                        break
            self._close(pair)

        for function in (read, send):
            threading.Thread(target=function, daemon=True).start()

    def _close(self, pair):
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def cut(self):
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            self._close(pair)

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        self.listener.close()
        self.cut()
