"""Runs a Patroni cluster: one etcd and three PostgreSQL servers with synchronous replication, in a temporary directory.

A node is one Patroni process and the PostgreSQL server that it starts. The working directory of each process of a node
is in the directory of that node, and only this shows which processes belong to the node."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import daemon
import postgres
from processes import eventually, free_port, program

PATRONI, ETCD = program("patroni"), program("etcd")
SETTINGS = {  # for all nodes; Patroni reads them from etcd
    "ttl": 20,  # seconds; Patroni's minimum
    "loop_wait": 1,
    "retry_timeout": 3,
    "primary_start_timeout": 0,  # a crashed primary fails over at once if a standby can take its place
    "maximum_lag_on_failover": 1 << 20,
    "synchronous_mode": True,
    "postgresql": {"use_pg_rewind": True},
}
PARAMETERS = {  # of each server
    "fsync": "off",  # the tests kill processes, not the machine
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # leaves nothing outside the data directory after SIGKILL
}


def missing():
    """Returns what has to be installed before a cluster can run, or None."""
    found = {"PostgreSQL": postgres.programs(), "patroni": PATRONI, "etcd": ETCD}
    return ", ".join(name for name, path in found.items() if not path) or None


class LoggedProcesses:
    """Starts processes whose output goes to a log file in the directory. This is the default of `spawn`."""

    def __init__(self, directory):
        self.directory = directory

    def __call__(self, name, argv, **options):
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)


def processes_in(directory):
    """Returns the ids of the processes that have their working directory in this directory. A zombie has none."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if pathlib.Path(os.readlink(entry / "cwd")).is_relative_to(directory):
                found.append(int(entry.name))
    return found


def is_stopped(pid):
    """Returns whether the process is suspended or has ended."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "TtZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Node:
    """One Patroni process with its PostgreSQL server."""

    def __init__(self, cluster, name):
        self.cluster, self.name = cluster, name
        self.directory = cluster.directory / name
        self.data = self.directory / "data"
        self.port, self.rest_port = free_port(), free_port()
        self.process = None  # what spawn() has returned
        self.segments = self.directory / "segments"  # key and id of each segment of shared memory, one per line

    def __repr__(self):
        return self.name

    def create(self, template):
        """Copies a data directory that initdb has made. The nodes have the same system identifier, so the two that do
        not become the leader follow the leader as they are."""
        self.directory.mkdir(mode=0o700)
        daemon.check_run("cp", "-a", template, self.data)
        login = {"username": "owner", "password": postgres.PASSWORD}
        config = {
            "scope": "imcallbackd", "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest_port}", "connect_address": f"127.0.0.1:{self.rest_port}"},
            "etcd3": {"hosts": [f"127.0.0.1:{self.cluster.etcd_port}"]},
            "bootstrap": {"dcs": SETTINGS},
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}", "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self.data), "bin_dir": str(postgres.programs()),
                "pgpass": str(self.directory / "pgpass"),
                "authentication": {"superuser": login, "replication": login, "rewind": login},
                "parameters": PARAMETERS | {"unix_socket_directories": str(self.directory)},
                # A new copy of the leader replaces the data directory, so that the segments of shared memory which a
                # killed server has left behind can no longer be found there.
                "callbacks": {"on_start": f"sh -c 'sed -n 7p {self.data}/postmaster.pid >>{self.segments}'"},
                "basebackup": {"checkpoint": "fast", "max-rate": "1024M"},
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
        }
        path = self.directory / "patroni.yml"
        path.write_text(json.dumps(config))  # JSON is valid YAML
        path.chmod(0o600)

    def start(self):
        self.process = self.cluster.spawn(self.name, [PATRONI, str(self.directory / "patroni.yml")],
                                          cwd=self.directory, start_new_session=True, **self.cluster.user)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def pids(self):
        return processes_in(self.directory)

    def postmaster(self):
        """Returns the process id of the PostgreSQL server, or None."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            return pid if pid in self.pids() else None
        return None

    def _signal(self, number, without_patroni=False):
        """Sends the signal to all processes of the node. Patroni's own one goes through the object of spawn(), which
        may record it."""
        patroni = self.process.pid if self.is_running() else None
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                if pid != patroni:
                    os.kill(pid, number)
                elif not without_patroni:
                    self.process.send_signal(number)

    def kill(self):
        """Kills all processes of the node at once, as if the node had lost its power. start() brings the node back."""
        if self.is_running():
            self.process.kill()

        def is_gone():
            self._signal(signal.SIGKILL)
            return not self.pids()

        eventually(is_gone, f"the end of all processes of {self.name}", 30)
        if self.process:
            self.process.wait()

    def kill_postgres(self):
        """Kills the PostgreSQL server with its children. Patroni keeps running."""
        postmaster = self.postmaster()
        if postmaster:
            children = [int(pid) for text in [pathlib.Path(f"/proc/{postmaster}/task/{postmaster}/children")]
                        for pid in text.read_text().split()]
            for pid in (postmaster, *children):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def pause(self):
        """Suspends all processes of the node."""
        def is_paused():
            self._signal(signal.SIGSTOP)
            return all(is_stopped(pid) for pid in self.pids())

        eventually(is_paused, f"{self.name} is suspended", 30)

    def resume(self):
        self._signal(signal.SIGCONT)

    def destroy(self):
        """Ends all processes. The server ends through SIGQUIT, because it removes its shared memory then."""
        self.resume()
        if self.is_running():
            self.process.kill()
        if postmaster := self.postmaster():
            with contextlib.suppress(ProcessLookupError, AssertionError):
                os.kill(postmaster, signal.SIGQUIT)
                eventually(lambda: not self.postmaster(), "the end of the server", 10)
        self.kill()
        self._remove_segments()

    def _remove_segments(self):
        """Removes the shared memory of servers that were killed and have not started again in the same directory."""
        noted = set()
        with contextlib.suppress(OSError):
            noted.update(self.segments.read_text().splitlines())
        with contextlib.suppress(OSError):
            noted.update((self.data / "postmaster.pid").read_text().splitlines()[6:7])
        noted = {tuple(line.split()) for line in noted}
        for row in pathlib.Path("/proc/sysvipc/shm").read_text().splitlines()[1:]:
            key, segment, _, _, _, _, attached = row.split()[:7]
            if (key, segment) in noted and attached == "0":
                daemon.run("ipcrm", "-m", segment)

    def status(self, path="patroni", timeout=2):
        """Returns the answer of Patroni's REST API, or None unless the status is 200."""
        with contextlib.suppress(OSError, ValueError):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}/{path}", timeout=timeout) as answer:
                return json.load(answer)
        return None


class Patroni:
    """An etcd and three nodes. Several threads may call the methods at the same time, except create() and destroy().

    spawn(name, argv, **options) starts a process, with the options of subprocess.Popen except its streams, and returns
    an object with pid, poll(), kill(), wait(timeout) and send_signal(). etcd_port: the port of a relay in front of
    etcd, through which the nodes connect to etcd; the relay passes connections on to own_etcd_port. A caller that needs
    the relay's target before it can name its port passes own_etcd_port, too."""

    def __init__(self, spawn=None, etcd_port=None, own_etcd_port=None):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="imcb-patroni-"))
        self.spawn = spawn or LoggedProcesses(self.directory)
        self.user = postgres.unprivileged()
        self.own_etcd_port, self.etcd_peer_port = own_etcd_port or free_port(), free_port()
        self.etcd_port = etcd_port or self.own_etcd_port
        self.etcd = None
        self.database, self.schema = "postgres", "public"
        self.nodes = [Node(self, f"patroni-{number}") for number in range(3)]
        self.password_file = self.directory / "password"

    # Start and end

    def create(self):
        """Creates the files of all nodes."""
        self.password_file.write_text(postgres.PASSWORD + "\n")
        self.password_file.chmod(0o600)
        source = postgres.Postgres()
        try:
            source.create()
            for node in self.nodes:
                node.create(source.data)
        finally:
            source.destroy()
        if self.user:
            daemon.check_run("chown", "-R", f"{self.user['user']}:{self.user['group']}", self.directory)
        return self

    def start(self, deadline=60):
        """Starts everything and waits until the cluster is healthy."""
        self.start_etcd()
        for node in self.nodes:
            node.start()
        self.wait_healthy(deadline)
        return self

    def destroy(self):
        """Ends all processes and removes the directory."""
        for node in self.nodes:
            node.destroy()
        if self.etcd and self.etcd.poll() is None:
            self.etcd.send_signal(signal.SIGCONT)
            self.etcd.kill()
            self.etcd.wait()
        shutil.rmtree(self.directory)

    # Queries

    def url(self, ports=None, **parameters):
        """Returns a URL with all hosts, which selects the primary. ports: those of relays in front of the nodes, in the
        order of the nodes."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports or [node.port for node in self.nodes])
        query = "&".join(f"{name}={value}"
                         for name, value in ({"target_session_attrs": "read-write"} | parameters).items())
        return f"postgresql://owner@{hosts}/{self.database}?{query}"

    def query(self, statements, timeout=10):
        """Runs the statements on the primary. Returns whether they succeeded, and their output with the errors."""
        environment = os.environ | {"PGPASSWORD": postgres.PASSWORD, "PGCONNECT_TIMEOUT": "2", "LC_ALL": "C.UTF-8"}
        command = [postgres.programs() / "psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", self.url(), "-f",
                   "-"]
        try:
            done = subprocess.run(command, input=statements, text=True, timeout=timeout, env=environment,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except subprocess.TimeoutExpired:
            return False, f"no result in {timeout} s"
        return done.returncode == 0, done.stdout

    def execute(self, statements, deadline=60):
        """Runs the statements until they succeed, and returns their output. They may take effect more than once."""
        end = time.monotonic() + deadline
        while True:
            succeeded, output = self.query(statements)
            if succeeded:
                return output
            assert time.monotonic() < end, (statements, output)
            time.sleep(0.2)

    def rows(self, query, deadline=60):
        """Returns the rows as dictionaries."""
        return json.loads(self.execute(f"SELECT coalesce(json_agg(q), '[]') FROM ({query}) AS q", deadline))

    # State

    def leader(self):
        """Returns the node that holds the leader lock and accepts writes, or None."""
        return next((node for node in self.nodes if node.is_running() and node.status("primary")), None)

    def wait_leader(self, other_than=None, deadline=60):
        """Waits for a leader, which must be another node than `other_than`, and returns the leader."""
        return eventually(lambda: (node := self.leader()) is not other_than and node, "a leader", deadline, 0.1)

    def is_healthy(self):
        """Returns whether there is a leader, to which two standbys are streaming, one of them synchronously."""
        leader = self.leader()
        members = leader and (leader.status("cluster") or {}).get("members", [])
        if not leader or sorted(member["role"] for member in members) != ["leader", "replica", "sync_standby"]:
            return False
        return self.query("SELECT count(*) FILTER (WHERE state = 'streaming'), "
                          "count(*) FILTER (WHERE sync_state = 'sync') FROM pg_stat_replication") == (True, "2|1\n")

    def wait_healthy(self, deadline=60):
        eventually(self.is_healthy, "a healthy cluster", deadline, 0.2)

    # Faults

    def kill_leader(self):
        """Kills the leader with its server. Another node takes over when the leader lock has expired, after up to 20 s.
        Waits for a leader. Returns the node, for restart_node()."""
        return self._at_leader(Node.kill)

    def kill_postgres_of_leader(self):
        """Kills the server of the leader. Patroni then hands the lock over, and starts the server as a standby."""
        return self._at_leader(Node.kill_postgres)

    def _at_leader(self, action):
        leader = self.wait_leader()
        action(leader)
        return leader

    def restart_node(self, node):
        """Starts a node that was killed."""
        if not node.is_running():
            node.start()

    def pause_node(self, node):
        node.pause()

    def resume_node(self, node):
        node.resume()

    def switchover(self, deadline=60):
        """Makes the synchronous standby the leader, and returns this node, or None if the cluster is not healthy."""
        leader = self.leader()
        members = leader and (leader.status("cluster") or {}).get("members", [])
        candidate = next((member["name"] for member in members or [] if member["role"] == "sync_standby"), None)
        if not candidate:
            return None
        request = urllib.request.Request(
            f"http://127.0.0.1:{leader.rest_port}/switchover", headers={"Content-Type": "application/json"},
            data=json.dumps({"leader": leader.name, "candidate": candidate}).encode())
        try:
            urllib.request.urlopen(request, timeout=deadline).close()
        except OSError:  # Patroni refuses, or stopped before it answered
            return None
        return self.wait_leader(leader, deadline)

    def start_etcd(self):
        """Starts etcd. It advertises etcd_port, because Patroni connects to the advertised address."""
        self.etcd = self.spawn("etcd", [
            ETCD, "--name", "etcd", "--data-dir", str(self.directory / "etcd"), "--log-level", "warn",
            "--listen-client-urls", f"http://127.0.0.1:{self.own_etcd_port}",
            "--advertise-client-urls", f"http://127.0.0.1:{self.etcd_port}",
            "--listen-peer-urls", f"http://127.0.0.1:{self.etcd_peer_port}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{self.etcd_peer_port}",
            "--initial-cluster", f"etcd=http://127.0.0.1:{self.etcd_peer_port}"],
            cwd=self.directory, start_new_session=True, **self.user)

    def kill_etcd(self):
        self.etcd.kill()
        self.etcd.wait()

    def pause_etcd(self):
        self.etcd.send_signal(signal.SIGSTOP)

    def resume_etcd(self):
        self.etcd.send_signal(signal.SIGCONT)
