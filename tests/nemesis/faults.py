"""The faults. Each one is a context manager over (installation, part, dice): it starts the fault, and ends it after the
block. `part` names what the fault hits; two faults that need the same part never overlap."""

import contextlib
import dataclasses
import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import typing

import daemon
from disk import IS_POSSIBLE as HAS_DISKS
from endpoint import FAIL, OK, fault, late, status
from installation import NAMES
from network import Link
from process import IS_SANITIZED
from processes import check_run, eventually, memory_bytes
from receiver import START_DEADLINE_S

RELOAD_DEADLINE_S = 20
REFUSED_GROUPS = 40
DAYS = (86_500, 90_000)  # seconds; more than the retention
BACKLOG_S = 2  # how long events accumulate for a paused sender
SET_ASIDE_S = 10  # long enough for another attempt of an event that was refused for some seconds
MIX = [(30, OK), (10, late(0.2)), (3, status(500)), (3, FAIL), (2, status(503, Retry_After="1")), (1, status(429))] + [
    (1, fault(name)) for name in ("hang", "cut_before", "cut_in_head", "cut_in_body", "reset", "garbage", "endless",
                                  "endless_head", "drip")]

RECEIVERS = [f"receiver-{name}" for name in NAMES]
SERVICES = [f"{service}-{name}" for service in ("receiver", "forward", "deliver") for name in NAMES]
SENDERS = [f"{service}-{name}" for service in ("forward", "deliver") for name in NAMES]
ENDPOINTS = [f"endpoint-{name}" for name in NAMES]
LINKS = ["clients", *(f"{link}-{name}" for link in ("balancer", "forward", "deliver") for name in NAMES)]


def receiver_of(installation, part):
    return installation.receivers[part[-1]]


# Processes

@contextlib.contextmanager
def ended(installation, part, number):
    """Ends the process with this signal, and starts it again after the block."""
    service = installation.services()[part]
    service.hold_down(number)
    yield
    service.start()


def kill(installation, part, _):
    return ended(installation, part, signal.SIGKILL)


def terminate(installation, part, _):
    return ended(installation, part, signal.SIGTERM)


@contextlib.contextmanager
def pause(installation, part, _):
    with installation.services()[part].paused():
        yield


@contextlib.contextmanager
def limit(installation, part, kind, value):
    """Sets a resource limit of the process. value(pid) returns the limit."""
    service = installation.services()[part]
    pid = eventually(lambda: service.send(0), f"{part} runs", START_DEADLINE_S)
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (value(pid), before[1]))
    yield
    if service.send(0) == pid:  # otherwise the limit has ended the process
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, kind, before)


def few_descriptors(installation, part, dice):
    spare = dice.randrange(4)
    return limit(installation, part, resource.RLIMIT_NOFILE, lambda pid: len(os.listdir(f"/proc/{pid}/fd")) + spare)


def little_memory(installation, part, dice):
    spare = dice.choice((0, 1 << 20, 4 << 20))
    return limit(installation, part, resource.RLIMIT_AS, lambda pid: memory_bytes(pid, "VmSize") + spare)


# Configuration

@contextlib.contextmanager
def reload(installation, part, dice):
    for _ in range(dice.randint(1, 3)):
        receiver_of(installation, part).reload()
    yield


@contextlib.contextmanager
def broken_configuration(installation, part, dice):
    receiver = receiver_of(installation, part)
    receiver.wait_started()  # with a broken configuration, it would not start
    receiver.write_config(dice.choice(("[nonsense]\n", "[limits]\nbody = -1\n", "[listen\n")))
    receiver.reload()
    yield
    receiver.write_config()
    receiver.reload()


def reload_all(installation):
    """Reloads the configuration of both receivers. Returns whether both report success in time."""
    receivers = installation.receivers.values()
    before = {receiver.name: receiver.log_text().count("configuration reloaded") for receiver in receivers}
    for receiver in receivers:
        receiver.reload()
    with contextlib.suppress(AssertionError):
        return eventually(lambda: all(receiver.log_text().count("configuration reloaded") > before[receiver.name]
                                      for receiver in receivers), "both reloads", RELOAD_DEADLINE_S)
    return False


@contextlib.contextmanager
def rotate_tokens(installation, *_):
    """Clients use the new tokens as soon as both receivers know them. If a receiver does not report this in time, the
    rotation is called off."""
    credentials = installation.credentials
    credentials.add_tokens()
    installation.write_tokens()
    if reload_all(installation):
        credentials.use_new_tokens()
    yield
    credentials.keep_tokens_in_use()
    installation.history.record("tokens_removed")
    installation.write_tokens()
    reload_all(installation)


@contextlib.contextmanager
def rotate_certificate(installation, *_):
    installation.issue_certificate()
    for receiver in installation.receivers.values():
        receiver.install_certificate(f"server-{installation.certificates}")
        receiver.reload()
    yield


# The disk and the database

@contextlib.contextmanager
def full_disk(installation, part, _):
    with receiver_of(installation, part).disks[part.split("-")[0]].full():
        yield


@contextlib.contextmanager
def read_only_disk(installation, part, _):
    """The file system is read-only when the service starts, as after a boot with a damaged disk. The kernel refuses the
    change while files are open for writing, and the readers of the store have its -shm file open."""
    receiver = receiver_of(installation, part)
    disk = receiver.disks[part.split("-")[0]]
    receiver.stop()
    disk.set_read_only(True)
    receiver.start()
    yield
    receiver.stop()
    disk.set_read_only(False)
    receiver.start()


@contextlib.contextmanager
def shell(installation, part, statement):
    """Holds a transaction of the sqlite3 shell open."""
    with subprocess.Popen(["sqlite3", "-bail", receiver_of(installation, part).database], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        process.stdin.write(f".timeout 20000\n{statement};\nSELECT 'open';\n")
        process.stdin.flush()
        output = []
        while "open\n" not in output:
            output.append(process.stdout.readline())
            assert output[-1], f"no transaction is open: {output}"
        yield
        with contextlib.suppress(BrokenPipeError):
            process.communicate("ROLLBACK;\n")


def lock(installation, part, _):
    return shell(installation, part, "BEGIN IMMEDIATE")


def long_read(installation, part, _):
    return shell(installation, part, "BEGIN; SELECT count(*) FROM destroyed_group")


def take_backup(installation, receiver):
    """Returns the path of the copy."""
    target = pathlib.Path(tempfile.mkdtemp(prefix="backup-", dir=installation.directory)) / "callbacks.db"
    check_run(daemon.BINARY, "backup", "-c", receiver.config, target, timeout=120)
    return target


@contextlib.contextmanager
def backup(installation, part, _):
    receiver = receiver_of(installation, part)
    started = installation.history.seconds()
    copy = take_backup(installation, receiver)
    installation.snapshot(receiver, "backup", copy, invoke_at=started)
    copy.unlink()
    yield


@contextlib.contextmanager
def restore(installation, part, _):
    """Moves the database to another disk, as operators do: stop, back up, restore, start."""
    receiver = receiver_of(installation, part)
    service = receiver.services["receiver"]
    service.hold_down()
    try:
        copy = take_backup(installation, receiver)
        receiver.replace_database(copy)
        installation.snapshot(receiver, "restore", copy)
        copy.unlink()
    finally:
        service.start()
    yield


def put_forward(installation, seconds):
    """Retention may delete all earlier events after this, so they are read before, and clients no longer repeat
    them."""
    for receiver in installation.receivers.values():
        installation.snapshot(receiver, "clock")
    installation.forget_events()
    installation.step_clock(seconds)


@contextlib.contextmanager
def step_clock(installation, _, dice):
    put_forward(installation, dice.choice((30, *DAYS)))
    yield


@contextlib.contextmanager
def step_clock_with_backlog(installation, part, dice):
    """Steps the clock while events wait for a paused sender, and restarts the receiver, which then applies the
    retention at once. The retention must keep these events."""
    receiver = receiver_of(installation, part).services["receiver"]
    with installation.services()[part].paused():
        installation.history.wait(BACKLOG_S)
        put_forward(installation, dice.choice(DAYS))
        receiver.hold_down()
        receiver.start()
        yield


# The network

@contextlib.contextmanager
def on_links(installation, part, begin, end):
    links = installation.network.links[part]
    for link in links:
        begin(link)
    yield
    for link in links:
        end(link)


def cut(installation, part, _):
    return on_links(installation, part, Link.cut, Link.cut)


def delay(installation, part, dice):
    delay_s = dice.choice((0.02, 0.1, 0.4))
    return on_links(installation, part, lambda link: link.delay(delay_s), lambda link: link.delay(0))


def stall(installation, part, _):
    return on_links(installation, part, lambda link: link.stall(True), lambda link: link.stall(False))


def refuse(installation, part, _):
    return on_links(installation, part, lambda link: link.refuse(True), lambda link: link.refuse(False))


# The application

@contextlib.contextmanager
def application_down(installation, part, _):
    application = receiver_of(installation, part).application
    application.kill()
    yield
    application.start()


@contextlib.contextmanager
def application_answers(installation, part, *usual, **script):
    application = receiver_of(installation, part).application
    application.answer(*usual, **script)
    yield
    application.answer(OK)
    application.disconnect()


def application_fails(installation, part, dice):
    return application_answers(installation, part, dice.choice((status(500), status(503, Retry_After="2"), FAIL)))


@contextlib.contextmanager
def application_refuses(installation, part, dice):
    """The application refuses the events of some groups until deliver sets them aside, which it does after an hour."""
    application = receiver_of(installation, part).application
    application.answer(OK, groups={group: [status(404)] for group in application.latest_groups(REFUSED_GROUPS)})
    yield
    put_forward(installation, dice.choice(DAYS))
    installation.history.wait(SET_ASIDE_S)
    application.answer(OK)


def application_hangs(installation, part, _):
    return application_answers(installation, part, fault("hang"))


def application_misbehaves(installation, part, dice):
    return application_answers(installation, part, mix=MIX, seed=dice.randrange(1 << 30))


# The destination

@contextlib.contextmanager
def destination(installation, begin, end):
    hit = getattr(installation.destination, begin)()  # a node, or None
    yield
    if end:
        getattr(installation.destination, end)(*filter(None, [hit]))


@dataclasses.dataclass
class Fault:
    """parts: what the fault can hit; seconds: the shortest and the longest time; also: returns further parts that the
    fault needs for itself; needs: the plan and the machine that the fault needs."""

    function: typing.Callable
    parts: list
    seconds: tuple
    also: typing.Callable = lambda part: ()
    needs: typing.Callable = lambda plan: True


def with_disk(part):
    return (f"disk {part}",)


def all_of_the_receiver(part):
    return [f"{prefix}{service}-{part[-1]}" for prefix in ("", "disk ") for service in
            ("receiver", "forward", "deliver")]


def on_destination(kind, begin, end, seconds):
    return Fault(lambda installation, *_: destination(installation, begin, end), ["destination"],
                 seconds, needs=lambda plan: plan.destination == kind)


def both(_):
    return (*RECEIVERS,)


def clock_and_stores(_):
    return ("clock", *RECEIVERS, *(f"disk {part}" for part in RECEIVERS))


def with_clock(plan):
    return plan.retention


def without_clock(plan):
    return not plan.retention  # libfaketime needs descriptors and memory, too


def without_sanitizer(plan):
    """AddressSanitizer reserves terabytes of addresses, and needs descriptors to find leaks when a process ends."""
    return without_clock(plan) and not IS_SANITIZED


FAULTS = {
    "kill": Fault(kill, [*SERVICES, "haproxy"], (0, 4)),
    "terminate": Fault(terminate, [*SERVICES, "haproxy"], (0, 3)),
    "pause": Fault(pause, [*SERVICES, "haproxy"], (0.5, 6)),
    "few descriptors": Fault(few_descriptors, SERVICES, (2, 6), needs=without_sanitizer),
    "little memory": Fault(little_memory, SERVICES, (2, 6), needs=without_sanitizer),
    "reload": Fault(reload, RECEIVERS, (0.5, 1)),
    "broken configuration": Fault(broken_configuration, RECEIVERS, (1, 4)),
    "token rotation": Fault(rotate_tokens, ["tokens"], (1, 4), both),
    "certificate rotation": Fault(rotate_certificate, ["certificate"], (1, 2), both),
    "full disk": Fault(full_disk, SERVICES, (1, 8), with_disk, lambda plan: HAS_DISKS),
    "read-only disk": Fault(read_only_disk, SERVICES, (1, 6), all_of_the_receiver, lambda plan: HAS_DISKS),
    "lock": Fault(lock, RECEIVERS, (0.5, 8), with_disk),
    "long read": Fault(long_read, RECEIVERS, (2, 8), with_disk),
    "backup": Fault(backup, RECEIVERS, (0, 0.5)),
    "restore": Fault(restore, RECEIVERS, (0, 0.5), with_disk),
    "clock step": Fault(step_clock, ["clock"], (2, 4), clock_and_stores, with_clock),
    "clock step and paused sender": Fault(step_clock_with_backlog, SENDERS, (4, 8), clock_and_stores, with_clock),
    "cut": Fault(cut, LINKS, (0.1, 2)),
    "delay": Fault(delay, LINKS, (1, 6)),
    "stall": Fault(stall, LINKS, (0.5, 6)),
    "refuse": Fault(refuse, LINKS, (0.5, 4)),
    "etcd cut off": Fault(stall, ["etcd"], (1, 8), lambda part: ["destination"],
                          lambda plan: plan.destination == "patroni"),
    "application down": Fault(application_down, ENDPOINTS, (0.5, 6)),
    "application fails": Fault(application_fails, ENDPOINTS, (1, 6)),
    "application refuses": Fault(application_refuses, ENDPOINTS, (3, 8), clock_and_stores, with_clock),
    "application hangs": Fault(application_hangs, ENDPOINTS, (1, 6)),
    "application misbehaves": Fault(application_misbehaves, ENDPOINTS, (2, 10)),
    "leader killed": on_destination("patroni", "kill_leader", "restart_node", (2, 8)),
    "PostgreSQL of the leader killed": on_destination("patroni", "kill_postgres_of_leader", None, (1, 2)),
    "leader paused": on_destination("patroni", "pause_leader", "resume_node", (2, 25)),
    "switchover": on_destination("patroni", "switchover", None, (1, 2)),
    "etcd killed": on_destination("patroni", "kill_etcd", "start_etcd", (1, 8)),
    "etcd paused": on_destination("patroni", "pause_etcd", "resume_etcd", (1, 12)),
    "PgBouncer killed": on_destination("pgbouncer", "kill", "start", (0.5, 5)),
    "PostgreSQL killed": on_destination("pgbouncer", "kill_server", "start_server", (0.5, 5)),
}
