"""Runs PgBouncer in transaction mode in front of a PostgreSQL server."""

import contextlib
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

import daemon
import postgres
from processes import program

PGBOUNCER = program("pgbouncer")


class Bouncer:
    """PgBouncer and its files. server: a postgres.Postgres, whose database its clients see. spawn: see
    cluster.Patroni; by default, the output goes to the file "log". settings: lines of the section [pgbouncer]."""

    def __init__(self, server, spawn=None, **settings):
        self.server = server
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="imcb-pgbouncer-"))
        self.port = daemon.free_port()
        self.password_file = server.password_file
        self.spawn = spawn or self._spawn
        self.process = None
        self.settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "",
            "auth_type": "scram-sha-256", "auth_file": self.directory / "users",
            "pool_mode": "transaction", "default_pool_size": 1, "max_client_conn": 100,
            "server_login_retry": 1} | settings

    def _spawn(self, _, argv, **options):
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)

    @property
    def log(self):
        return (self.directory / "log").read_text()

    def start(self):
        config, user = self.directory / "pgbouncer.ini", postgres.unprivileged()
        (self.directory / "users").write_text(f'"owner" "{postgres.PASSWORD}"\n')
        config.write_text(
            f"[databases]\n{self.server.database} = host=127.0.0.1 port={self.server.port}\n[pgbouncer]\n"
            + "".join(f"{key} = {value}\n" for key, value in self.settings.items()))
        for path in (self.directory, self.directory / "users", config):
            path.chmod(0o700 if path.is_dir() else 0o600)
            if user:
                shutil.chown(path, user["user"], user["group"])
        self.process = self.spawn("pgbouncer", [PGBOUNCER, "-q", str(config)], cwd=self.directory,
                                  start_new_session=True, **user)
        daemon.eventually(self._is_listening, "PgBouncer listens")
        return self

    def _is_listening(self):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        assert self.process.poll() is None, "PgBouncer has ended"
        return False

    def stop(self):
        """Stops PgBouncer after the transactions in progress. Since version 1.23, SIGTERM would wait for the clients."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def destroy(self):
        if self.process and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory)

    def url(self, port=None, **parameters):
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"postgresql://owner@127.0.0.1:{port or self.port}/{self.server.database}?{query}"

    def __getattr__(self, name):
        """Queries, such as sql() and execute(), go to the server directly."""
        return getattr(self.server, name)
