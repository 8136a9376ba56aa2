"""Runs the nemesis: starts the installation, sends a known workload, causes the faults of the schedule, waits until all
is shipped and delivered, reads everything into the history, and has the checker judge it.

    python3 tests/nemesis/nemesis.py --seed 7 --seconds 120
    python3 tests/nemesis/nemesis.py --seed 7 --schedule FILE [--shrink]"""

import argparse
import os
import pathlib
import random
import sys

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))

import checker  # noqa: E402
import collect  # noqa: E402
import schedule  # noqa: E402
from clients import Clients  # noqa: E402
from history import History, read  # noqa: E402
from installation import APPS, Installation  # noqa: E402
from workload import Workload  # noqa: E402

CLIENTS = 8
RATE = float(os.environ.get("RATE", "40"))  # operations per second
QUIET_S = 5
FINAL_S = 6


class Run:
    """One run. steps: the schedule, or None to draw it from the seed."""

    def __init__(self, seed, seconds, steps=None):
        self.seed = seed
        self.path = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"imcb-nemesis-{seed}-{os.getpid()}.history"
        self.path.unlink(missing_ok=True)
        self.history = History(self.path)
        self.installation = Installation(self.history, seed)
        plan = self.installation.plan
        self.steps = schedule.draw(seed, seconds, plan) if steps is None else steps
        self.history.record("start", seed=seed, seconds=seconds, retention=plan.retention, receivers=["a", "b"],
                            destination=plan.destination, plan=vars(plan))
        workload = Workload(seed, APPS, other_commands=plan.other_commands)
        self.installation.forget_events = workload.forget
        self.clients = Clients(self.history, workload, ("127.0.0.1", self.installation.client_link.port),
                               self.installation.directory / "ca.pem", self.installation.credentials, CLIENTS, RATE)

    def execute(self):
        """Returns the violations."""
        is_complete = False
        try:
            self.installation.start()
            observer = collect.Observer(self.history, self.installation)
            self.attack()
            self.finish()
            observer.stop()
            self.collect()
            is_complete = True
        finally:
            self.clients.stop()
            self.installation.destroy(keep=not is_complete)
            self.history.close()
        return checker.check(read(self.path))

    def phase(self, name):
        print(f"{self.history.seconds():6.1f} s  {name}", flush=True)
        self.history.record("phase", name=name)

    def quiet(self):
        self.installation.wait_ready()
        self.phase("quiet")
        schedule.wait_until(self.history, self.history.seconds() + QUIET_S)

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
        schedule.wait_until(self.history, self.history.seconds() + FINAL_S)
        self.clients.stop()
        self.phase("end")
        self.count("final_end")
        self.installation.wait_drained()

    def count(self, moment):
        for receiver in self.installation.receivers.values():
            collect.counters(self.history, receiver, moment)

    def collect(self):
        history, installation = self.history, self.installation
        for name, receiver in installation.receivers.items():
            receiver.stop()
            installation.snapshot(receiver, "final")
            collect.deliveries(history, receiver, installation.events[name], installation.credentials.all_tokens)
        installation.haproxy.hold_down()
        collect.destination(history, installation.destination.rows)
        collect.logs(history, installation)


def run(seed, seconds, steps=None):
    """Returns the path of the history and the violations."""
    one = Run(seed, seconds, steps)
    violations = one.execute()
    print(checker.summary(read(one.path)), flush=True)
    for violation in violations[:40]:
        print(violation)
    return one, violations


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="decides everything; it is printed")
    parser.add_argument("--seconds", type=float, default=120, help="how long faults are caused")
    parser.add_argument("--schedule", type=pathlib.Path, help="a file with the faults, as an earlier run printed them")
    parser.add_argument("--shrink", action="store_true", help="drop faults until none can be dropped any more")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    steps = schedule.from_json(given.schedule.read_text()) if given.schedule else None
    one, violations = run(given.seed, given.seconds, steps)
    if violations:
        print(f"history: {one.path}", f"schedule: {save(one)}", sep="\n")
        rules = {violation.rule for violation in violations}
        if given.shrink:
            smallest = schedule.shrink(one.steps, lambda fewer: rules & {
                violation.rule for violation in run(given.seed, given.seconds, fewer)[1]})
            print("smallest schedule:", schedule.to_json(smallest), sep="\n")
    else:
        one.path.unlink()
    return int(bool(violations))


def save(one):
    path = one.path.with_suffix(".schedule")
    path.write_text(schedule.to_json(one.steps))
    return path


if __name__ == "__main__":
    sys.exit(main())
