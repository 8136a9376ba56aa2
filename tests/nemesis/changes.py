"""Changes good histories by hand, and asserts that the checker notices each change under the name of the rule that it
breaks and no other."""

import json

import pytest

import checker
from example import good_history


class Cases:
    """The changes of one file of tests."""

    def __init__(self):
        self.all = []

    def broken(self, rule, **options):
        """Registers a function that changes the lines of a good history in place. rule: the rule that the change
        breaks, or None; options: the arguments of good_history()."""
        def judge(change):
            lines = good_history(**options)
            check_rules(lines, None)
            change(lines)
            check_rules(lines, rule)
        return lambda change: self._add(change, judge)

    def broken_run(self, rule, **options):
        """Registers a function that does something with the Example while the faults are under way."""
        return lambda change: self._add(change, lambda change: check_rules(good_history(also=change, **options), rule))

    def _add(self, change, judge):
        self.all.append(pytest.param(lambda: judge(change), id=change.__name__))
        return change


def check_rules(lines, rule):
    found = checker.check(lines)
    assert {violation.rule for violation in found} == ({rule} if rule else set()), checker.report(found)


def of_type(lines, type, **fields):
    return [line for line in lines if line["type"] == type and fields.items() <= line.items()]


def first(lines, type, **fields):
    return of_type(lines, type, **fields)[0]


def place_of(lines, line):
    return next(place for place, each in enumerate(lines) if each is line)


def remove(lines, removed):
    lines[:] = [line for line in lines if not any(line is each for each in removed)]


def insert_after(lines, line, **fields):
    lines.insert(place_of(lines, line) + 1, json.loads(json.dumps(line)) | fields)


def rows_of(lines, number):
    """Returns the lines of all snapshots that have the event with this number."""
    return [line for line in of_type(lines, "store_row") if line["row"]["name"] == f"group {number}"]


def remove_event(lines, number, *types):
    """Removes the event from the lines of these types, by default from everything but the calls."""
    uid, types = rows_of(lines, number)[0]["uid"], types or ("store_row", "destination_row", "delivery")
    remove(lines, [line for line in lines if line["type"] in types and line["uid"] == uid])


def call_of(lines, number, type="answer"):
    op = next(line["op"] for line in of_type(lines, "invoke") if line["expect"] and
              line["expect"]["name"] == f"group {number}")
    return first(lines, type, op=op)


def delivery_of(lines, number):
    return first(lines, "delivery", uid=rows_of(lines, number)[0]["uid"])


def last_rows(lines, receiver):
    number = of_type(lines, "snapshot", receiver=receiver, moment="final")[0]["snapshot"]
    return {line["id"]: line for line in of_type(lines, "store_row", snapshot=number)}
