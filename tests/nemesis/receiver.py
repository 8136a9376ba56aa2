"""One receiver with its forwarder, its deliverer and the application's endpoint, the disk of each, and the links
between them."""

import contextlib
import os
import shutil
import signal
import threading

import daemon
import monitoring
from disk import Disk
from endpoint import OK, SECRET, Endpoint
from process import Managed
from processes import eventually, free_port

START_DEADLINE_S = 30
SERVICES = {"receiver": "serve", "forward": "forward", "deliver": "deliver"}


class Application:
    """The endpoint of the application. Its starts and exits go into the history, and only one thread uses it at a
    time."""

    def __init__(self, history, name):
        self.history, self.name = history, name
        self.endpoint = Endpoint()
        self.lock = threading.Lock()
        self.start()

    def _record(self, event, status=None):
        self.history.record("process", name=self.name, event=event, pid=None, status=status,
                            asked="KILL" if event == "exit" else None)

    def start(self):
        with self.lock:
            self.endpoint.start()
        self._record("start")

    def kill(self):
        with self.lock:
            self.endpoint.kill()
        self._record("exit", -signal.SIGKILL)

    def answer(self, *usual, **script):
        with self.lock:
            self.endpoint.answer(*usual, **script)

    def latest_groups(self, count):
        """Returns the groups of the latest requests."""
        with self.lock:
            return {request.group for request in self.endpoint.requests()[-count:] if request.group}

    def disconnect(self):
        with self.lock:
            self.endpoint.disconnect()

    def destroy(self):
        with self.lock:
            self.endpoint.destroy()


class Receiver:
    """installation: see installation.py. Each service has a directory and a disk of its own, as it has in a real
    installation."""

    def __init__(self, installation, name):
        self.installation, self.name = installation, name
        self.directory = installation.directory / name
        self.config = self.directory / "imcallbackd.conf"
        self.disks = {part: Disk(self.directory / part) for part in SERVICES}
        self.database = self.disks["receiver"].directory / "callbacks.db"
        self.state_file = self.disks["deliver"].directory / "state"
        self.port = free_port()
        self.admin_ports = {part: free_port() for part in SERVICES}
        self.application = Application(installation.history, f"endpoint-{name}")
        self.deliver_link = installation.network.add(f"deliver-{name}", self.application.endpoint.port)
        self.balancer_link = installation.network.add(f"balancer-{name}", self.port)
        self.destination_ports = installation.destination_ports(f"forward-{name}")
        self._write_secret("secret", SECRET)
        self.write_tokens()
        self.write_config()
        self.services = {part: self._make_service(part, command) for part, command in SERVICES.items()}

    def _make_service(self, part, command):
        name = f"{part}-{self.name}"
        return Managed(self.installation.history, name, [daemon.BINARY, command, "-c", self.config],
                       self.installation.directory / f"{name}.log", env=self._environment(part))

    def _environment(self, part):
        """With retention, receiver and deliver use a clock that faults can step. They notice a step within a second:
        without the cache of libfaketime, each look at the clock would read the file."""
        if part == "forward" or not self.installation.clock:
            return dict(os.environ)
        clock = self.installation.clock.environment() | {
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_CACHE_DURATION": "1"}
        del clock["FAKETIME_NO_CACHE"]
        return os.environ | clock

    def _write_secret(self, name, *lines):
        path = self.directory / name
        with open(path.with_suffix(".new"), "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write("".join(line + "\n" for line in lines))
        path.with_suffix(".new").rename(path)

    def write_tokens(self):
        """Writes the tokens that are valid at present, for each app."""
        for app, tokens in self.installation.credentials.tokens.items():
            self._write_secret(f"token-{app}", *tokens)

    def write_config(self, addition=""):
        """addition: further lines, which may be wrong."""
        installation, place = self.installation, self.directory
        sections = {
            "listen": {"address": "127.0.0.1", "port": self.port, "trusted_proxies": "127.0.0.1"},
            "tls": {"certificate": place / "certificate.pem", "private_key": place / "key.pem"},
            "store": {"database": self.database, "keep_body": installation.plan.keep_body} | (
                {"retention": "1d"} if installation.clock else {}),
            "callback": {"other_commands": installation.plan.other_commands},
            "limits": {"store_wait": installation.plan.store_wait},
            "admin": {"port": self.admin_ports["receiver"]},
            "forward": {"url": installation.destination.url(self.destination_ports), "receiver": self.name,
                        "password_file": installation.destination.password_file,
                        "admin_port": self.admin_ports["forward"],
                        "shipped_file": self.disks["forward"].directory / "shipped"},
            "deliver": {"url": f"https://127.0.0.1:{self.deliver_link.port}/callback", "in_flight": 4, "timeout": "5s",
                        "ca_file": self.application.endpoint.ca_file, "state_file": self.state_file,
                        "secret_file": place / "secret", "admin_port": self.admin_ports["deliver"]},
        } | {f"app {app}": {"token_file": place / f"token-{app}"} for app in installation.credentials.tokens}
        text = "".join(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
                       for section, keys in sections.items())
        new = self.config.with_suffix(".new")
        new.write_text(text + addition)
        new.rename(self.config)

    def install_certificate(self, name):
        """Copies a certificate of the installation and its key, each in one step."""
        for suffix, target in ((".pem", "certificate.pem"), (".key", "key.pem")):
            new = self.directory / f"{target}.new"
            shutil.copy(self.installation.directory / f"{name}{suffix}", new)
            new.rename(self.directory / target)

    def wait_started(self):
        eventually(lambda: self.ask("receiver", "/healthz")[0], f"receiver {self.name} has started", START_DEADLINE_S)

    def reload(self):
        """Sends SIGHUP as systemd does, which means not before the receiver has started: until then, the signal would
        end the receiver."""
        self.wait_started()
        self.services["receiver"].send(signal.SIGHUP)

    def log_text(self, part="receiver"):
        return (self.installation.directory / f"{part}-{self.name}.log").read_text(errors="replace")

    # State

    def ask(self, part, path):
        """Returns the status and the text, or (None, "") while the process does not answer."""
        with contextlib.suppress(OSError, ValueError, monitoring.http.client.HTTPException):  # killed in the answer
            status, _, text = monitoring.ask(self.admin_ports[part], path)
            return status, text
        return None, ""

    def is_ready(self):
        return self.ask("receiver", "/readyz")[0] == 200

    def metric(self, part, name):
        """Returns the value of a metric without labels, or None."""
        for line in self.ask(part, "/metrics")[1].splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return None

    def has_shipped_and_delivered(self):
        return (self.metric("forward", "imcallbackd_forward_lag_events") == 0 and
                self.metric("deliver", "imcallbackd_deliver_lag_events") == 0)

    # Start and end

    def start(self, *parts):
        for part in parts or SERVICES:
            self.services[part].start()

    def stop(self):
        """Stops the services in order. Returns the names of those that did not end in time."""
        return [part for part in ("deliver", "forward", "receiver") if not self.services[part].hold_down()]

    def replace_database(self, backup):
        """Puts a backup into the place of the database. The receiver must have ended."""
        for path in self.database.parent.glob("callbacks.db*"):
            path.unlink()
        shutil.copy(backup, self.database)

    def destroy(self):
        for service in self.services.values():
            service.destroy()
        self.application.destroy()
        for disk in self.disks.values():
            disk.destroy()
