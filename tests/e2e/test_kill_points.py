"""The daemon is killed at its n-th system call of a kind, for increasing n, until a scenario ends without a kill. After
the next start, all acknowledged events are in the database. By default, only the calls pwrite64, fdatasync and
ftruncate are tested, each until the fourth kill. KILL_POINTS sets another number of kills. KILL_POINTS=all tests all
calls in CALLS without a limit on the kills."""

import os
import signal
import ssl

import pytest

import daemon
from daemon import event, padded, request
from ledger import Ledger

KILL_POINTS = os.environ.get("KILL_POINTS", "4")
ALL = KILL_POINTS == "all"
LARGE = 1024 * 1024  # four recorded bodies of this size make a checkpoint due


class Scene:
    """A daemon under strace, and the events that it acknowledged before the kill."""

    def __init__(self, one):
        self.one = one
        self.acknowledged = {}

    def start(self, call, number):
        self.one.start(["strace", "-D", "-f", "-qqq", "-e", f"trace={call}", "-e", "signal=none", "-o", "/dev/null", "-e",
                        f"inject={call}:signal=KILL:when={number}"], {"ASAN_OPTIONS": "detect_leaks=0"})

    def post(self, *names, size=0):
        with self.one.connect() as connection:
            for name in names:
                body = event(GroupId=name)
                assert connection.answer_to(request(padded(body, size) if size else body)).status == 200
                self.acknowledged[name] = 1

    def reload(self):
        self.one.process.send_signal(signal.SIGHUP)
        daemon.eventually(lambda: "configuration reloaded" in self.one.log or self.is_dead(), "the end of the reload")
        assert not self.is_dead()

    def is_dead(self):
        return self.one.process.poll() is not None


def first_start(scene):
    scene.post("first")


def commits(scene):
    scene.post("one", "two", "three")


def checkpoint(scene):
    scene.post(*[f"large-{i}" for i in range(6)], size=LARGE)


def reload(scene):
    scene.post("before")
    scene.reload()
    scene.post("after")


def stop(scene):
    scene.post("before")
    scene.one.process.terminate()
    assert scene.one.process.wait(daemon.STOP_DEADLINE) == 0


# Maps each scenario to the argument `large` of prepare(). None means that the scenario starts without a database.
SCENES = {first_start: None, commits: 0, checkpoint: 0, reload: 0, stop: 1, "recovery": 3}
CALLS = {"pwrite64": 1, "fdatasync": 1, "ftruncate": 1, "openat": 60, "unlink": 1, "mmap": 60}  # the first n of each


def prepare(scene, large):
    """Runs an earlier daemon that records 1 + `large` large events, and kills it, so that the next daemon must recover
    the write-ahead log."""
    scene.one.start()
    scene.post("old", *[f"old-{i}" for i in range(large)], size=LARGE)
    scene.one.kill()


def run_killed(scene, name, call, number):
    """Runs the scenario with a daemon that is killed at this call. Returns False if the scenario ended before the
    kill."""
    try:
        scene.start(call, number)
        if callable(name):
            name(scene)
        if not scene.is_dead():
            scene.one.kill()
            return False
    except (OSError, ssl.SSLError, AssertionError, TimeoutError):
        daemon.eventually(scene.is_dead, "the end of a daemon that was killed")
    status = scene.one.wait_exit()
    assert status in (0, -signal.SIGKILL), scene.one.log
    return status != 0


@pytest.mark.parametrize("call", CALLS if ALL else ["pwrite64", "fdatasync", "ftruncate"])
@pytest.mark.parametrize("name", SCENES, ids=lambda name: getattr(name, "__name__", name))
def test_kills_at_system_calls_lose_nothing(make_daemon, name, call):
    number, kills = CALLS[call], 0
    while True:
        one = make_daemon({"store": {"keep_body": "yes"}})
        scene = Scene(one)
        if SCENES[name] is not None:
            prepare(scene, SCENES[name])
        killed = run_killed(scene, name, call, number)
        one.start()
        ledger = Ledger(one)
        ledger.check(scene.acknowledged)
        ledger.check_file()
        scene.post("afterwards")
        one.stop()
        kills += killed
        if not killed or (not ALL and kills == int(KILL_POINTS)):
            break
        number += 1 if ALL or number < 3 else number // 2
    print(f"{kills} kills")
