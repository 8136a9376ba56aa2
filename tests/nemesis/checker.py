"""Checks the history of a run from the history alone. `python3 checker.py HISTORY` prints the violations and a summary,
and ends with status 1 if there is a violation."""

import collections
import sys

import check_delivery
import check_events
import check_processes
import check_stores
from history import read
from index import Index, Violation

RULES = check_events.RULES + check_stores.RULES + check_delivery.RULES + check_processes.RULES
SHOWN = 20  # violations per rule


def check(lines, rules=None):
    """Returns the violations. lines: the history as read() returns it; rules: by default all of them."""
    index = Index(lines)
    found = [Violation("history", text) for text in index.mistakes]
    for rule in RULES if rules is None else rules:
        found += rule(index)
    return found


def report(violations):
    """Returns a text with the first violations of each rule."""
    by_rule = collections.defaultdict(list)
    for violation in violations:
        by_rule[violation.rule].append(violation.text)
    lines = []
    for rule, texts in by_rule.items():
        lines += [f"{rule}: {text}" for text in texts[:SHOWN]]
        if len(texts) > SHOWN:
            lines.append(f"{rule}: and {len(texts) - SHOWN} more")
    return "\n".join(lines)


def count(lines):
    """Returns what happened in the run: {name: number}, and the number of faults by name."""
    index = Index(lines)
    deliveries = [line for each in index.deliveries.values() for line in each]
    accepted = [line for line in deliveries if line["accepted"]]
    exits = [line for line in index.lines["process"] if line["event"] == "exit"]
    return {
        "seconds": round(index.seconds),
        "events": sum(any(call.acknowledged for call in calls) for calls in index.attempts.values()),
        "recorded rows": sum(map(len, index.stored.values())), "rows in the destination": len(index.destination),
        "requests": len(index.calls),
        "repeats": len(index.calls) - len({call.op for call in index.calls if call.kind != "repeat"}),
        "unknown outcomes": sum(call.outcome == "unknown" for call in index.calls),
        "answers 503": sum(call.status == 503 for call in index.calls),
        "faults": len(index.faults), "kills": sum(line["asked"] == "KILL" for line in exits), "exits": len(exits),
        "deliveries": len(deliveries), "accepted again": len(accepted) - len(index.accepted_at),
        "snapshots": len(index.snapshots),
        "rows deleted by retention": sum(
            len(index.stored[receiver].keys() - index.final(receiver).rows.keys())
            for receiver in index.receivers if index.final(receiver)),
    }, collections.Counter(fault.name for fault in index.faults)


def summary(lines):
    """Returns count() as text."""
    numbers, faults = count(lines)
    return "\n".join([f"{name}: {value}" for name, value in numbers.items()] +
                     [f"fault {name}: {times}" for name, times in sorted(faults.items())])


def main(path):
    lines = read(path)
    violations = check(lines)
    if violations:
        print(report(violations))
    print(summary(lines))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
