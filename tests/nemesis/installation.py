"""The installation that the nemesis attacks: two receivers with their services behind HAProxy, the destination of both
forwarders, and the links between all of them."""

import contextlib
import dataclasses
import pathlib
import random
import tempfile
import threading
import time

import collect
import destination
import reverse_proxies
from certificates import make_signed
from delivery import Clock
from network import Network
from process import Managed, Recorded
from processes import eventually
from receiver import Receiver

NAMES = ("a", "b")
APPS = (1400000001, 1400000002)
READY_DEADLINE_S = 120
DRAIN_DEADLINE_S = 600


@dataclasses.dataclass
class Plan:
    """What the seed decides before the start. destination: "patroni" or "pgbouncer"; checks_readiness: whether HAProxy
    takes a receiver that cannot record out of service, so that its clients hardly ever see a 503."""

    destination: str
    retention: bool
    keep_body: str
    other_commands: str
    store_wait: str
    checks_readiness: bool

    @staticmethod
    def draw(seed):
        dice = random.Random(f"plan {seed}")
        return Plan(dice.choice(("patroni", "patroni", "pgbouncer")), dice.random() < 0.5, dice.choice(("yes", "no")),
                    dice.choice(("reject", "acknowledge")), dice.choice(("1s", "5s")),
                    dice.random() < 0.5)


class Credentials:
    """The tokens and the time with which clients sign. Only a rotation changes the tokens."""

    def __init__(self, clock):
        self.clock = clock
        self.tokens = {app: [f"token-{app}-0"] for app in APPS}
        self.all_tokens = [token for tokens in self.tokens.values() for token in tokens]
        self.current = {app: tokens[0] for app, tokens in self.tokens.items()}

    def token(self, app):
        return self.current[app]

    def now(self):
        return time.time() + (self.clock.ahead_s if self.clock else 0)

    def add_tokens(self):
        """Makes a second token valid for each app."""
        for app, tokens in self.tokens.items():
            tokens.append(f"token-{app}-{len(self.all_tokens)}")
            self.all_tokens.append(tokens[-1])

    def use_new_tokens(self):
        self.current = {app: tokens[-1] for app, tokens in self.tokens.items()}

    def keep_tokens_in_use(self):
        self.tokens = {app: [token] for app, token in self.current.items()}


class Balancer(reverse_proxies.Proxy):
    """Writes the configuration of HAProxy from conf/proxy. The nemesis starts the process itself."""

    program, file = "haproxy", "haproxy-balancer.cfg"

    def command(self):
        return [reverse_proxies.program(self.program), *reverse_proxies.HAProxy.command(self)]


class Installation:
    """Everything but the clients. history: see history.py; seed: decides the plan. forget_events is called when
    retention may delete the events so far."""

    forget_events = staticmethod(lambda: None)

    def __init__(self, history, seed):
        self.history, self.plan = history, Plan.draw(seed)
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"imcb-nemesis-{seed}-"))
        self.directory.chmod(0o755)
        self.network = Network()
        self.clock = Clock(self.directory) if self.plan.retention else None
        self.offsets = [0]  # all values of clock.ahead_s so far
        self.credentials = Credentials(self.clock)
        self.certificates = 0
        self.moments = threading.Lock()  # held while a store is read
        self.events = {name: {} for name in NAMES}  # {event_uid: (row, members)} of all stores that were read
        make_signed(self.directory, "ca", None, "basicConstraints=critical,CA:TRUE")
        self.destination = destination.make(self.plan.destination, self.network, self.spawn)
        self.receivers = {name: Receiver(self, name) for name in NAMES}
        self.issue_certificate()
        for receiver in self.receivers.values():
            receiver.install_certificate(f"server-{self.certificates}")
        self.balancer = self._make_balancer()
        self.client_link = self.network.add("clients", self.balancer.port)

    def spawn(self, name, argv, **options):
        """Starts a process of the destination, whose start and exit go into the history."""
        return Recorded(self.history, name, argv, self.directory / f"{name}.log", **options)

    def destination_ports(self, name):
        """Returns the ports of new links with this name, one for each server of the destination."""
        return [self.network.add(name, port).port for port in self.destination.ports]

    def issue_certificate(self):
        self.certificates += 1
        make_signed(self.directory, f"server-{self.certificates}", "ca", "subjectAltName=DNS:localhost,IP:127.0.0.1")

    def write_tokens(self):
        for receiver in self.receivers.values():
            receiver.write_tokens()

    def _make_balancer(self):
        balancer = Balancer()
        check = "option httpchk\n    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host localhost\n"
        changes = {":::443 v4v6": f"127.0.0.1:{balancer.port}"} | (
            {} if self.plan.checks_readiness else {check: "\n"})
        balancer.write_config(changes | {
            f"10.0.0.1{number}:443": f"127.0.0.1:{receiver.balancer_link.port} addr 127.0.0.1 port "
                                     f"{receiver.admin_ports['receiver']}"
            for number, receiver in enumerate(self.receivers.values(), 1)})
        self.haproxy = Managed(self.history, "haproxy", balancer.command, self.directory / "haproxy.log",
                               cwd=balancer.directory)
        return balancer

    def start(self):
        self.destination.start()
        for receiver in self.receivers.values():
            receiver.start()
        self.haproxy.start()
        self.wait_ready()

    def is_ready(self):
        return all(receiver.is_ready() for receiver in self.receivers.values()) and self.haproxy.process

    def wait_ready(self):
        """Waits until both receivers can record and HAProxy has noticed."""
        eventually(self.is_ready, "both receivers are ready", READY_DEADLINE_S, 0.2)
        start = time.monotonic()
        eventually(lambda: self.is_ready() and time.monotonic() - start > 4, "HAProxy uses both", READY_DEADLINE_S, 0.5)

    def wait_drained(self):
        """Waits until everything that is recorded was shipped and delivered."""
        eventually(lambda: all(receiver.has_shipped_and_delivered() for receiver in self.receivers.values()),
                   "everything is shipped and delivered", DRAIN_DEADLINE_S, 0.5)

    def snapshot(self, receiver, moment, path=None, **fields):
        """Reads the store of a receiver, or a copy of it, into the history."""
        with self.moments:
            self.events[receiver.name] |= collect.snapshot(self.history, receiver.name, path or receiver.database,
                                                           moment, **fields)

    def step_clock(self, seconds):
        self.history.record("clock", ahead_s=self.clock.ahead_s + seconds)  # before a call can notice the step
        self.clock.put_forward(seconds)
        self.offsets.append(self.clock.ahead_s)

    def services(self):
        """Returns all supervised processes, by name."""
        managed = [service for receiver in self.receivers.values() for service in receiver.services.values()]
        return {service.name: service for service in (*managed, self.haproxy)}

    def destroy(self):
        """Ends everything, whatever fails meanwhile. Logs and configurations stay in the directory."""
        with contextlib.ExitStack() as stack:
            for each in (self.destination, self.balancer, *self.receivers.values(), self.haproxy):
                stack.callback(each.destroy)
            self.network.close()
