"""Tests the drawing and the shrinking of schedules, without an installation."""

import contextlib
import types

import pytest

import schedule
from faults import FAULTS, Fault
from history import History, read
from installation import Plan

PLANS = [Plan("patroni", True, "no", "reject", "1s", True), Plan("pgbouncer", False, "yes", "acknowledge", "5s", False)]


@pytest.mark.parametrize("plan", PLANS)
def test_the_same_seed_draws_the_same_schedule(plan):
    assert schedule.draw(7, 120, plan) == schedule.draw(7, 120, plan) != schedule.draw(8, 120, plan)


@pytest.mark.parametrize("plan", PLANS)
def test_faults_that_need_the_same_part_do_not_overlap(plan):
    for seed in range(20):
        steps = schedule.draw(seed, 120, plan)
        assert all(step == other or not step.overlaps(other) for step in steps for other in steps)
        assert all(FAULTS[step.fault].needs(plan) for step in steps)


def test_several_faults_are_under_way_at_a_time():
    steps = schedule.draw(7, 300, PLANS[0])
    most = max(sum(other.round == step.round and other.at_s <= step.at_s < other.at_s + other.seconds
                   for other in steps) for step in steps)
    assert most == schedule.LANES


def test_every_possible_fault_is_drawn():
    for plan in PLANS:
        drawn = {step.fault for seed in range(20) for step in schedule.draw(seed, 300, plan)}
        assert drawn == {name for name, fault in FAULTS.items() if fault.needs(plan)}


def test_a_schedule_survives_its_file():
    steps = schedule.draw(7, 60, PLANS[0])
    assert schedule.from_json(schedule.to_json(steps)) == steps


def test_a_fault_that_lasts_too_long_delays_the_next_one(monkeypatch, tmp_path):
    @contextlib.contextmanager
    def slow(installation, *_):
        installation.history.wait(0.1)
        yield

    monkeypatch.setitem(FAULTS, "slow", Fault(slow, ["part"], (0, 0)))
    installation = types.SimpleNamespace(history=History(tmp_path / "history"))
    schedule.run_round(installation, 1, [schedule.Step(number, 0, 0, 0, "slow", "part") for number in range(3)])
    installation.history.close()
    assert [line["phase"] for line in read(tmp_path / "history")] == ["begin", "end"] * 3


@pytest.mark.parametrize("culprits", [{3}, {0, 11}, {5, 6, 7}])
def test_shrinking_keeps_only_the_faults_that_are_needed(culprits):
    steps = schedule.draw(7, 60, PLANS[0])
    tries = []

    def fails(fewer):
        tries.append(fewer)
        return culprits <= {step.number for step in fewer}

    assert {step.number for step in schedule.shrink(steps, fails)} == culprits
    assert len(tries) < 4 * len(steps)
