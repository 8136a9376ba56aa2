"""Draws the schedule of faults from the seed, runs it, and drops faults from it to find the smallest failing one."""

import contextlib
import dataclasses
import json
import random
import threading
import traceback

from faults import FAULTS

ROUND_S = 30  # the time of the faults between two quiet phases
LANES = 3  # the largest number of faults at the same time
ATTEMPTS = 50  # to draw a fault that does not need a part of another one


@dataclasses.dataclass
class Step:
    """A fault at `at_s` seconds after the start of its round. number: its place in the schedule as it was drawn."""

    number: int
    round: int
    at_s: float
    seconds: float
    fault: str
    part: str

    def parts(self):
        return {self.part, *FAULTS[self.fault].also(self.part)}

    def overlaps(self, other):
        return (self.round == other.round and self.at_s < other.at_s + other.seconds + 1
                and other.at_s < self.at_s + self.seconds + 1 and bool(self.parts() & other.parts()))


def draw(seed, seconds, plan):
    """Returns the steps of the schedule for this time. A fault comes as often as any other one that the plan allows."""
    dice = random.Random(f"schedule {seed}")
    names = sorted(name for name, fault in FAULTS.items() if fault.needs(plan))
    steps = []
    for number in range(max(1, round(seconds / ROUND_S))):
        for _ in range(LANES):
            at_s = dice.uniform(0, 2)
            while step := draw_step(dice, names, steps, number, at_s):
                steps.append(step)
                at_s = step.at_s + step.seconds + dice.uniform(0.2, 2)
    return steps


def draw_step(dice, names, steps, number, at_s):
    """Returns a step that overlaps none of the others and ends before the round ends, or None."""
    for _ in range(ATTEMPTS):
        fault = dice.choice(names)
        seconds = round(dice.uniform(*FAULTS[fault].seconds), 2)
        step = Step(len(steps), number, round(at_s, 2), seconds, fault, dice.choice(FAULTS[fault].parts))
        if at_s + seconds < ROUND_S and not any(step.overlaps(other) for other in steps):
            return step
    return None


def to_json(steps):
    return "".join(json.dumps(dataclasses.asdict(step)) + "\n" for step in steps)


def from_json(text):
    return [Step(**json.loads(line)) for line in text.splitlines()]


def rounds(steps):
    """Returns the steps of each round, in order."""
    return [[step for step in steps if step.round == number] for number in sorted({step.round for step in steps})]


def run_round(installation, seed, steps):
    """Runs the faults of one round at their times, each in a thread of its own. Returns when all have ended. A fault
    may last longer than it was drawn, so a later one waits for the parts that both need."""
    start = installation.history.seconds()
    locks = {part: threading.Lock() for step in steps for part in step.parts()}
    threads = [threading.Thread(target=run_step, args=(installation, seed, step, start, locks)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_step(installation, seed, step, start, locks):
    """Runs a fault while it holds the lock of each part. All steps take the locks in the same order."""
    history = installation.history

    def record(phase, note=None):
        history.record("fault", number=step.number, name=step.fault, target=step.part, phase=phase, note=note)

    history.wait(start + step.at_s - history.seconds())
    with contextlib.ExitStack() as held:
        for part in sorted(step.parts()):
            held.enter_context(locks[part])
        begin = max(start + step.at_s, history.seconds())
        if begin > start + ROUND_S:
            record("skipped", "an earlier fault has taken longer than the round")
            return
        record("begin")
        try:
            dice = random.Random(f"fault {seed} {step.number}")
            with FAULTS[step.fault].function(installation, step.part, dice):
                history.wait(begin + step.seconds - history.seconds())
        except Exception:  # a fault that cannot be caused or ended is a fault of the nemesis
            record("failed", traceback.format_exc())
        else:
            record("end")


def shrink(steps, fails):
    """Returns a schedule from which no fault can be dropped any more. fails(steps) runs a schedule and returns whether
    it still fails. First tries to drop large parts, then smaller ones."""
    size = max(1, len(steps) // 2)
    while True:
        for start in range(0, len(steps), size):
            fewer = steps[:start] + steps[start + size:]
            if fewer != steps and fails(fewer):
                steps = fewer
                break
        else:
            if size == 1:
                return steps
            size = max(1, size // 2)
