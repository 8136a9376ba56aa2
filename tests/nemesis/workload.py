"""Draws the operations of the clients. The seed and the order of the draws alone decide what the operations are."""

import collections
import dataclasses
import random
import threading

import events
import misuse

REMEMBERED = 4000  # events that can be repeated

# (kind, weight, honest, function that draws the operation). The weights are relative.
TABLE = [
    ("event", 460, True, events.event),
    ("event", 15, True, events.documented_sample),
    ("event", 10, True, events.torn_text),
    ("community", 50, True, events.community),
    ("no_time", 60, True, events.no_time),
    ("repeat", 120, True, events.repeat),
    ("conflict", 40, True, events.conflict),
    ("large", 2, True, events.large),
    ("url_check", 15, True, events.url_check),
    ("other_command", 25, True, events.other_command),
    *((f"reject_{cause}", 5, False, function) for cause, function in misuse.REJECTED.items()),
    *((f"body_{cause}", 5, False, function) for cause, function in misuse.BODIES.items()),
    *((f"hostile_{name}", 4, False, function) for name, function in misuse.HOSTILE.items()),
    *((f"slow_{name}", weight, False, function) for name, (weight, function) in misuse.SLOW.items()),
]


@dataclasses.dataclass
class Draw:
    """One draw: the dice of the operation, and what a function of the table needs to know."""
    op: int
    kind: str
    honest: bool
    dice: random.Random
    app: int
    other_commands: str
    body_limit: int
    earlier: collections.deque  # the events that can be repeated

    def maybe(self, probability):
        return self.dice.random() < probability


class Workload:
    """The operations of a run; next() can be called from any thread."""

    def __init__(self, seed, apps, other_commands="reject", body_limit=4 << 20, table=None):
        """apps: the SDKAppIDs, which have different tokens; other_commands, body_limit: as in the configuration of the
        receivers; table: replaces TABLE."""
        self.seed, self.apps, self.other_commands, self.body_limit = seed, list(apps), other_commands, body_limit
        self.settings = tuple(table or TABLE)
        self.earlier = collections.deque(maxlen=REMEMBERED)
        self._honest_only = tuple(row for row in self.settings if row[2])
        self._lock = threading.Lock()
        self._drawn = 0

    def next(self, only_honest=False):
        """Returns the next operation."""
        with self._lock:
            self._drawn += 1
            dice = random.Random(f"{self.seed} {self._drawn}")
            table = self._honest_only if only_honest else self.settings
            (kind, _, honest, function), = dice.choices(table, [row[1] for row in table])
            operation = function(Draw(self._drawn, kind, honest, dice, dice.choice(self.apps), self.other_commands,
                                      self.body_limit, self.earlier))
            if operation.kind in ("event", "community", "large"):
                self.earlier.append(operation)
            return operation

    def forget(self):
        """No event drawn so far is repeated by a later draw. A receiver records an event again if its retention has
        deleted the event."""
        with self._lock:
            self.earlier.clear()
