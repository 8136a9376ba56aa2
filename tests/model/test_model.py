"""Checks handover.pml, the model of the hand-over between the event loops and the writer thread, with spin.

Each fault that handover.pml can have must make spin find an error. Otherwise the other checks would prove nothing.
"""

import pathlib
import re
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("spin"), reason="spin is not installed")

MODEL = pathlib.Path(__file__).with_name("handover.pml")
ONE = ["LOOPS=1", "REQUESTS=1"]
STOP = ["STOPS_AT_ANY_MOMENT"]
MEMORY_MB = 900

# Each fault, and the macros with which it shows.
FAULTS = {
    "BUG_NO_SIGNAL": ONE, "BUG_CHECK_WITHOUT_MUTEX": ONE, "BUG_RETRIED_IS_DONE": ONE, "BUG_FREED_AT_RESET": ONE,
    "BUG_NO_WAKE": ONE, "BUG_FLAG_BEFORE_INBOX": ONE, "BUG_NO_RESUME": ONE, "BUG_BLOCKS_WITH_WORK": ONE,
    "BUG_NEXT_AFTER_COMPLETE": ONE, "BUG_PENDING_AFTER_STOP": ONE + STOP,
    "BUG_ENDS_WITH_PENDING": ONE + STOP,
}


def check(directory, macros, *, safety=True):
    """Returns spin's report on all states of the model, or on those before the first error."""
    def run(*command):
        done = subprocess.run([str(word) for word in command], cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("spin", "-a", *(f"-D{macro}" for macro in macros), MODEL)
    kind = ["-DSAFETY"] if safety else ["-DNFAIR=3"]
    run("cc", "-O1", "-w", f"-DMEMLIM={MEMORY_MB}", "-DCOLLAPSE", "-DREVERSE", *kind, "-o", "pan", "pan.c")
    report = run("./pan", "-m1000000", *([] if safety else ["-a", "-f"]))
    print(report)
    assert "Search not completed" not in report or "errors: 1" in report, report
    return report


@pytest.mark.parametrize("macros", [ONE, ONE + STOP], ids=" ".join)
def test_each_held_request_ends_exactly_once(macros, tmp_path):
    report = check(tmp_path, macros)
    assert "errors: 0" in report, report


def test_no_thread_runs_for_ever_instead(tmp_path):
    report = check(tmp_path, ONE + ["LIVENESS"], safety=False)
    assert "errors: 0" in report, report


@pytest.mark.parametrize("fault", FAULTS)
def test_finds_a_fault(fault, tmp_path):
    report = check(tmp_path, [fault, *FAULTS[fault]])
    assert "errors: 1" in report, report


def test_knows_each_fault_of_the_model():
    text = "".join(path.read_text() for path in MODEL.parent.glob("*.pml"))
    assert set(re.findall(r"ifn?def (BUG_\w+)", text)) == set(FAULTS)
