"""Starts the servers that sync events to the disk without being receivers of callbacks, Redis and PostgreSQL, and the
web servers that answer at the edge without recording anything, h2o and HAProxy."""

import glob
import os
import pathlib
import pwd
import shutil
import signal
import socket
import ssl

import servers
from processes import check_run, eventually

RIVALS = servers.BUILD.parent / "dev/tests/imcallbackd-bench-rivals"
COMMIT_DELAY_US = 100
CONNECTIONS = 200
PASSWORD = "benchmark"  # noqa: S105 # of a server that only this benchmark can reach
ANSWER = '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}'

# The columns and keys of imcallbackd's own store.
SCHEMA = """
CREATE TABLE destroyed_group (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sdk_appid bigint NOT NULL,
    group_id text NOT NULL, event_time_ms bigint, type text, owner_account text, operator_account text, name text,
    member_count bigint, opt_platform text, client_ip text, received_at_ms bigint NOT NULL);
CREATE UNIQUE INDEX destroyed_group_identity ON destroyed_group (sdk_appid, event_time_ms, group_id);
CREATE TABLE destroyed_group_member (destroyed_group_id bigint, position bigint, member_account text NOT NULL,
    PRIMARY KEY (destroyed_group_id, position));
"""


class Rival(servers.Server):
    """A server that imcallbackd-bench-rivals loads."""

    protocol = None

    def load_words(self, seed, total, options):
        return [str(word) for word in (RIVALS, self.protocol, self.port, self.certificate, seed, options["connections"],
                                       total, options.get("members", 3))]

    def stored(self):
        """Returns the numbers of events, of distinct events and of members that the running server has."""
        raise NotImplementedError

    def check_store(self):
        """Starts the server again, so that it has what reached the disk, and checks its store."""
        self.start()
        found = self.stored()
        self.stop()
        wanted = (self.acknowledged_events, self.acknowledged_events, self.acknowledged_members)
        if found != wanted:
            raise SystemExit(f"{self.name}: wrong numbers of events and members: {found} stored, {wanted} acknowledged")
        return self.acknowledged_events


class Redis(Rival):
    """Appends the JSON text of each event to a stream, and syncs the log before it answers."""

    name = protocol = "redis"

    def __init__(self, directory, key="rsa", database=None):
        super().__init__(directory, key, database)
        self.place = directory / f"redis-{self.port}"
        self.place.mkdir()

    def command(self):
        return [servers.BUILD / "redis-server", "--port", 0, "--tls-port", self.port, "--bind", "127.0.0.1",
                "--tls-cert-file", self.certificate, "--tls-key-file", self.private_key, "--tls-auth-clients", "no",
                "--dir", self.place, "--appendonly", "yes", "--appendfsync", "always", "--save", "",
                "--auto-aof-rewrite-percentage", 0]

    def ask(self, command):
        context = ssl.create_default_context(cafile=self.certificate)
        with socket.create_connection(("127.0.0.1", self.port)) as plain, \
                context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(4096).decode().strip()

    def stored(self):
        answer = eventually(lambda: (text := self.ask("XLEN callback")).startswith(":") and text, "the log of Redis",
                            servers.START_DEADLINE_S)
        events = int(answer[1:])
        return events, events, self.acknowledged_members  # the members are inside the entries


class Postgres(Rival):
    """Records the group and its members with one statement, in a transaction of its own."""

    name = "postgresql"
    protocol = "postgresql"
    syncs = "fdatasync"  # of the write-ahead log; checkpoints call fsync

    def __init__(self, directory, key="rsa", database=None, commit_delay_us=0):
        super().__init__(directory, key, database)
        if commit_delay_us:
            self.name = "postgresql-delay"
        self.commit_delay_us = commit_delay_us
        self.place = directory / f"postgresql-{self.port}"
        self.key_copy = self.place / "server.key"
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]))
        if not programs:
            raise SystemExit("PostgreSQL: no server is installed; install the package postgresql")
        self.programs = pathlib.Path(programs[-1])
        self.create()

    def unprivileged(self):
        """Returns the start of a command line that leaves root, because PostgreSQL refuses to run as root."""
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []

    def create(self):
        self.place.mkdir(mode=0o700)
        password = self.place / "password"
        password.write_text(PASSWORD + "\n")
        shutil.copy(self.private_key, self.key_copy)
        self.key_copy.chmod(0o600)
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            for path in (self.place, password, self.key_copy):
                os.chown(path, user.pw_uid, user.pw_gid)
        check_run(*self.unprivileged(), self.programs / "initdb", "-D", self.place / "data", "-U", "owner", "-A",
                  "scram-sha-256", "--pwfile", password, "-E", "UTF8", "--no-locale", cwd="/", timeout=120)
        os.environ["PGPASSWORD"] = PASSWORD  # for the load generator as well
        self.start()
        self.query(SCHEMA)
        self.stop()

    def command(self):
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "ssl": "on",
                    "ssl_cert_file": self.certificate, "ssl_key_file": self.key_copy, "max_connections": CONNECTIONS,
                    "fsync": "on", "synchronous_commit": "on", "max_wal_size": "4GB", "shared_buffers": "256MB",
                    "commit_delay": self.commit_delay_us, "commit_siblings": 5, "logging_collector": "off"}
        return [*self.unprivileged(), self.programs / "postgres", "-D", self.place / "data",
                *(word for name, value in settings.items() for word in ("-c", f"{name}={value}"))]

    def start(self, wrapper=(), environment=None):
        super().start(wrapper, environment)
        eventually(lambda: self.answers("SELECT 1"), "PostgreSQL accepts statements", servers.START_DEADLINE_S)
        return self

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGINT)  # the fast shutdown, which does not wait for clients
            self.process.wait(60)
            self.process = None

    def psql(self, statement):
        return [self.programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement,
                f"host=127.0.0.1 port={self.port} user=owner dbname=postgres sslmode=verify-ca "
                f"sslrootcert={self.certificate}"]

    def answers(self, statement):
        try:
            return bool(self.query(statement))
        except AssertionError:
            return False

    def query(self, statement):
        return check_run(*self.psql(statement))

    def stored(self):
        counted = self.query("SELECT (SELECT count(*) FROM destroyed_group), (SELECT count(DISTINCT (sdk_appid, "
                             "group_id)) FROM destroyed_group), (SELECT count(*) FROM destroyed_group_member)")
        return tuple(map(int, counted.split("|")))


class Haproxy(servers.Server):
    """Reads the whole request and answers OK."""

    name = "haproxy"

    def command(self):
        config, pem = self.directory / "haproxy.cfg", self.directory / "haproxy.pem"
        pem.write_text(self.certificate.read_text() + self.private_key.read_text())
        config.write_text(
            f"global\nnbthread {os.cpu_count()}\nmaxconn 4096\ntune.ssl.cachesize 20000\n"
            "defaults\nmode http\ntimeout client 300s\ntimeout http-request 10s\n"
            f"frontend edge\nbind 127.0.0.1:{self.port} ssl crt {pem}\noption http-buffer-request\n"
            f"http-request return status 200 content-type application/json string '{ANSWER}'\n")
        return [servers.BUILD / "haproxy", "-db", "-f", config]


class H2o(servers.Server):
    """Answers OK from a file. h2o rejects POST for files, so an internal redirect turns the request into a GET."""

    name = "h2o"

    def command(self):
        config, place = self.directory / "h2o.conf", self.directory / "h2o"
        place.mkdir(exist_ok=True)
        (place / "answer.json").write_text(ANSWER)
        config.write_text(
            f"num-threads: {os.cpu_count()}\nmax-connections: 4096\nhttp1-request-timeout: 300\n"
            f"user: {pwd.getpwuid(os.geteuid()).pw_name}\n"
            f"listen:\n  host: 127.0.0.1\n  port: {self.port}\n  ssl:\n    certificate-file: {self.certificate}\n"
            f"    key-file: {self.private_key}\n"
            f"hosts:\n  default:\n    paths:\n      /answer:\n        file.dir: {place}\n"
            "        file.index: [answer.json]\n      /:\n        redirect:\n          url: /answer\n"
            "          status: 302\n          internal: YES\n")
        return [servers.BUILD / "h2o", "-c", config]
