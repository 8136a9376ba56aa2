"""Checks handover.pml, the model of the hand-over between the event loops and the writer thread, with spin.

Spin visits all states of each configuration in CHECKED. MODEL=campaign in the environment selects the larger ones.
Each fault that handover.pml can have must make spin find an error. Otherwise the other checks would prove nothing.
"""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("spin"), reason="spin is not installed")

MODEL = pathlib.Path(__file__).with_name("handover.pml")
ONE = ["LOOPS=1", "REQUESTS=1"]
TWO = ["LOOPS=1", "REQUESTS=2"]
THREE = ["LOOPS=1", "REQUESTS=3"]
TWO_LOOPS = ["LOOPS=2", "REQUESTS=2"]
RESET, RETRY, RELOAD, STOP = ["WITH_RESET"], ["WITH_RETRY"], ["WITH_RELOAD"], ["STOPS_AT_ANY_MOMENT"]

# Each configuration is checked with and without STOP, because a stop at any moment can hide a lost wake-up.
CHECKED = {
    "full": [ONE + RESET + RETRY + RELOAD, TWO + RESET + RETRY + RELOAD, TWO_LOOPS + RESET + RETRY],
    "campaign": [THREE + RETRY, TWO_LOOPS + RESET + RETRY + RELOAD],
}
SIZE = os.environ.get("MODEL", "full")
MEMORY_MB = {"full": 900, "campaign": 8000}[SIZE]

# Each fault, and the macros with which it shows.
FAULTS = {
    "BUG_NO_SIGNAL": ONE, "BUG_CHECK_WITHOUT_MUTEX": ONE, "BUG_NO_WAKE": ONE, "BUG_FLAG_BEFORE_INBOX": ONE,
    "BUG_NO_RESUME": ONE, "BUG_BLOCKS_WITH_WORK": ONE, "BUG_NEXT_AFTER_COMPLETE": ONE, "BUG_EVENT_AFTER_INBOX": ONE,
    "BUG_FREED_AT_RESET": ONE + RESET, "BUG_RETRIED_IS_DONE": ONE + RETRY, "BUG_SLEEPS_WHEN_WOKEN": ONE + RELOAD,
    "BUG_PENDING_AFTER_STOP": ONE + STOP, "BUG_ENDS_WITH_PENDING": ONE + STOP, "BUG_ENDING_AFTER_INBOX": TWO + STOP,
    "BUG_RETRIED_IS_LOST": TWO + RETRY, "BUG_WAKES_FIRST_LOOP": TWO_LOOPS,
}


def check(directory, macros, *, safety=True, optimization="-O1"):
    """Returns spin's report on all states of the model, or on those before the first error."""
    def run(*command):
        done = subprocess.run([str(word) for word in command], cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("spin", "-a", *(f"-D{macro}" for macro in macros), MODEL)
    kind = ["-DSAFETY"] if safety else ["-DNFAIR=3"]
    run("cc", optimization, "-w", f"-DMEMLIM={MEMORY_MB}", "-DCOLLAPSE", *kind, "-o", "pan", "pan.c")
    report = run("./pan", "-m100000", *([] if safety else ["-a", "-f"]))
    print(report)
    assert "Search not completed" not in report or "errors: 1" in report, report
    assert "max search depth too small" not in report, report
    return report


@pytest.mark.parametrize("stop", [[], STOP], ids=["at_the_end", "at_any_moment"])
@pytest.mark.parametrize("macros", CHECKED[SIZE], ids="-".join)
def test_each_held_request_ends_exactly_once(macros, stop, tmp_path):
    report = check(tmp_path, macros + stop)
    assert "errors: 0" in report, report


@pytest.mark.parametrize("macros", [ONE + RESET + RETRY + RELOAD, TWO + RETRY], ids="-".join)
def test_no_thread_runs_for_ever_instead(macros, tmp_path):
    report = check(tmp_path, macros + ["LIVENESS"], safety=False)
    assert "errors: 0" in report, report


@pytest.mark.parametrize("fault", FAULTS)
def test_finds_a_fault(fault, tmp_path):
    report = check(tmp_path, [fault, *FAULTS[fault]], optimization="-O0")  # most of the time is the compiler's
    assert "errors: 1" in report, report


def test_knows_each_fault_of_the_model():
    text = "".join(path.read_text() for path in MODEL.parent.glob("*.pml"))
    assert set(re.findall(r"\b(BUG_\w+)", text)) - {"BUG_"} == set(FAULTS)
