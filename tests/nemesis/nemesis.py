"""Runs the nemesis: starts the installation, sends a known workload, causes the faults of the schedule, waits until all
is shipped and delivered, reads everything into the history, and has the checker judge it.

    python3 tests/nemesis/nemesis.py --seed 7 --seconds 120
    python3 tests/nemesis/nemesis.py --seed 7 --schedule FILE [--shrink]"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import sys
import time

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

import checker  # noqa: E402
import cluster  # noqa: E402
import collect  # noqa: E402
import delivery  # noqa: E402
import pooler  # noqa: E402
import reverse_proxies  # noqa: E402
import schedule  # noqa: E402
from checker import Violation  # noqa: E402
from clients import Clients  # noqa: E402
from history import History, read  # noqa: E402
from installation import APPS, Installation  # noqa: E402
from workload import Workload  # noqa: E402

CLIENTS = 8
RATE = float(os.environ.get("RATE", "40"))  # operations per second
QUIET_S = 5
FINAL_S = 6
SHOWN = 40  # violations
SKIPPED = 77  # the exit status of a test that cannot run here


class Run:
    """One run. steps: the schedule, or None to draw it from the seed; keep: whether the files of a run without a
    violation stay."""

    def __init__(self, seed, seconds, steps=None, keep=False):
        self.seed, self.keep = seed, keep
        self.path = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"imcb-nemesis-{seed}-{os.getpid()}.history"
        self.path.unlink(missing_ok=True)
        self.history = History(self.path)
        self.installation = Installation(self.history, seed)
        plan = self.installation.plan
        self.steps = schedule.draw(seed, seconds, plan) if steps is None else steps
        self.history.record("start", seed=seed, seconds=seconds, retention=plan.retention, receivers=["a", "b"],
                            destination=plan.destination, plan=vars(plan))
        workload = Workload(seed, APPS, other_commands=plan.other_commands)
        self.clients = Clients(self.history, workload, ("127.0.0.1", self.installation.client_link.port),
                               self.installation.directory / "ca.pem", self.installation.credentials, CLIENTS, RATE)
        self.installation.forget_events = self.clients.forget

    def execute(self):
        """Returns the violations."""
        stuck = []
        try:
            self.installation.start()
            observer = collect.Observer(self.history, self.installation)
            try:
                self.attack()
                self.finish()
            except AssertionError as error:  # a deadline has passed; what is there still tells why
                stuck = [Violation("stuck", str(error))]
            self.clients.stop()
            observer.stop()
            self.collect()
        finally:
            self.clients.stop()
            self.installation.destroy()
            self.history.close()
        lines = read(self.path)
        violations = stuck + checker.check(lines)
        self.numbers, _ = checker.count(lines)
        print(checker.summary(lines), flush=True)
        if not (violations or self.keep):
            self.path.unlink()
            shutil.rmtree(self.installation.directory)
        return violations

    def phase(self, name):
        print(f"{self.history.seconds():6.1f} s  {name}", flush=True)
        self.history.record("phase", name=name)

    def quiet(self):
        self.installation.wait_ready()
        self.phase("quiet")
        self.history.wait(QUIET_S)

    def attack(self):
        """Runs the rounds of faults, with a quiet phase before each of them and after the last one."""
        self.clients.start()
        self.quiet()
        collect.samples(self.history, self.installation, "quiet")
        for steps in schedule.rounds(self.steps):
            self.phase("faults")
            schedule.run_round(self.installation, self.seed, steps)
            self.phase("recovery")
            self.quiet()
        self.clients.stop()

    def finish(self):
        """Waits until everything is shipped and delivered. Then honest clients alone call receivers that count from
        zero."""
        self.phase("recovery")
        self.installation.wait_drained()
        collect.samples(self.history, self.installation, "final")
        for receiver in self.installation.receivers.values():
            receiver.services["receiver"].hold_down()
            receiver.start("receiver")
        self.installation.wait_ready()
        self.count("final_begin")
        self.phase("final")
        self.clients.start(only_honest=True)
        self.history.wait(FINAL_S)
        self.clients.stop()
        self.phase("end")
        self.installation.wait_drained()
        self.count("final_end")

    def count(self, moment):
        for receiver in self.installation.receivers.values():
            collect.counters(self.history, receiver, moment)

    def collect(self):
        history, installation = self.history, self.installation
        for name, receiver in installation.receivers.items():
            receiver.stop()
            installation.snapshot(receiver, "final")
            collect.deliveries(history, receiver, installation.events[name], installation.credentials.all_tokens,
                               installation.offsets)
        installation.haproxy.hold_down()
        collect.destination(history, installation.destination.rows)
        collect.logs(history, installation)


def run(seed, seconds, steps=None, keep=False):
    """Runs once, and prints what was found. Returns the run and its violations."""
    print(f"seed {seed}", flush=True)
    one = Run(seed, seconds, steps, keep)
    violations = one.execute()
    if violations or keep:
        schedule_file = one.path.with_suffix(".schedule")
        schedule_file.write_text(schedule.to_json(one.steps))
        print(*violations[:SHOWN], f"{len(violations)} violations", f"history: {one.path}",
              f"logs: {one.installation.directory}", f"schedule: {schedule_file}", sep="\n", flush=True)
    return one, violations


def shrink(one, violations):
    """Prints the smallest schedule that still violates one of the same rules."""
    rules = {violation.rule for violation in violations}
    steps = schedule.shrink(one.steps, lambda fewer: rules & {
        violation.rule for violation in run(one.seed, 0, fewer)[1]})
    print("smallest schedule:", schedule.to_json(steps), sep="\n")


def campaign(seed, seconds, campaign_s):
    """Runs with one seed after the other until the time has passed, and prints the sums. Returns whether a run had a
    violation."""
    end, sums = time.monotonic() + campaign_s, collections.Counter()
    while True:
        one, violations = run(seed, seconds)
        sums.update({"seeds": 1} | one.numbers)
        seed += 1
        if violations or time.monotonic() >= end:
            print("all runs:", *(f"{name}: {number}" for name, number in sums.items()), sep="\n")
            return bool(violations)


def missing_programs():
    found = {"sqlite3": shutil.which("sqlite3"), "haproxy": reverse_proxies.program("haproxy"),
             "PgBouncer": pooler.PGBOUNCER, "libfaketime": delivery.Clock.LIBRARIES}
    return [name for name, path in found.items() if not path] + [cluster.missing()] * bool(cluster.missing())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="decides everything; printed")
    parser.add_argument("--seconds", type=float, default=120, help="how long faults are caused in one run")
    parser.add_argument("--campaign", type=float, metavar="SECONDS", default=0,
                        help="run with the next seeds until this time has passed")
    parser.add_argument("--schedule", type=pathlib.Path, help="a file with the faults, as an earlier run wrote it")
    parser.add_argument("--keep", action="store_true", help="keep the files of a run without a violation")
    parser.add_argument("--shrink", action="store_true", help="drop faults until none can be dropped any more")
    given = parser.parse_args()
    if missing := missing_programs():
        print(f"not installed: {', '.join(missing)}; see tests/README.md")
        return SKIPPED
    if given.campaign:
        return int(campaign(given.seed, given.seconds, given.campaign))
    steps = schedule.from_json(given.schedule.read_text()) if given.schedule else None
    one, violations = run(given.seed, given.seconds, steps, given.keep)
    if violations and given.shrink:
        shrink(one, violations)
    return int(bool(violations))


if __name__ == "__main__":
    sys.exit(main())
