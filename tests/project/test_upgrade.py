"""A store of the first release is taken over by this program, and by the first release again after a downgrade, however
often either of them is killed. The test builds the first release from the history of the repository."""

import pathlib
import signal
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests/e2e"))

import daemon  # noqa: E402
from daemon import event, load_report  # noqa: E402
from ledger import Ledger  # noqa: E402
from processes import check_run, run  # noqa: E402

FIRST_RELEASE = "8f4432aa9b20d7fbf4dc52295c5a118e79bd0fd1"  # 0.1.0
NEW = daemon.BINARY
MEMBERS = 3
CALLS = ("pwrite64", "fdatasync", "ftruncate", "openat")


@pytest.fixture(scope="module")
def first():
    """Returns the path of the first release's program. Later runs use the same build."""
    if run("git", "cat-file", "-e", f"{FIRST_RELEASE}^{{commit}}", cwd=TOP).returncode != 0:
        pytest.skip(f"the history of this tree does not have the commit {FIRST_RELEASE}")
    directory = TOP / "build/first-release"
    if not (directory / "CMakeLists.txt").exists():
        directory.mkdir(parents=True, exist_ok=True)
        check_run("sh", "-c", f"git archive {FIRST_RELEASE} | tar -x -C {directory}", cwd=TOP)
    check_run("cmake", "-S", directory, "-B", directory / "build", "-DCMAKE_BUILD_TYPE=Debug", "-DBUILD_TESTING=OFF")
    check_run("cmake", "--build", directory / "build", timeout=600)
    (program,) = (path for path in (directory / "build").rglob("imcallbackd") if path.is_file())
    assert check_run(program, "--version").startswith("imcallbackd 0.1.0\n")
    return str(program)


class Store:
    """A store that both programs use in turn, and the events that they acknowledged."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.one = daemon.Daemon()
        self.acknowledged = {}

    def start(self, program, wrapper=()):
        self.monkeypatch.setattr(daemon, "BINARY", program)
        self.one.start(wrapper)

    def record(self, seed, total=300):
        """Records events of the load generator, one without a time, and a body that is rejected."""
        file = self.one.directory / "acknowledged"
        with self.one.start_load(connections=8, total=total, members=MEMBERS, seed=seed, acknowledged=file) as load:
            assert load_report(load, 60)["ok"] == total
        names = file.read_text().split()
        self.one.record(f"odd-{seed}", EventTime=None)
        assert self.one.post(event(GroupId=f"bad-{seed}", Name=7)).status == 400
        self.acknowledged |= {name: MEMBERS for name in names} | {f"odd-{seed}": 1}

    def kill(self):
        """Kills the daemon, which leaves a write-ahead log that the next start must recover."""
        self.one.kill()
        assert (self.one.directory / "callbacks.db-wal").stat().st_size > 0

    def start_killed(self, program, call, number):
        """Starts the program, which is killed at this system call. Returns False if the start ends before."""
        try:
            self.start(program, ["strace", "-D", "-f", "-qqq", "-e", f"trace={call}", "-e", "signal=none", "-o", "/dev/null",
                                 "-e", f"inject={call}:signal=KILL:when={number}"])
        except (AssertionError, OSError):
            self.one.process.wait(daemon.STOP_DEADLINE)
            assert self.one.wait_exit() == -signal.SIGKILL
            return True
        self.one.kill()
        return False

    def check(self):
        ledger = Ledger(self.one)
        ledger.check(self.acknowledged)
        ledger.check_file()


@pytest.fixture
def store(monkeypatch):
    store = Store(monkeypatch)
    yield store
    store.one.destroy()


def test_an_upgrade_and_a_downgrade_keep_all_events(store, first):
    for round_, program in enumerate((first, NEW, first, NEW)):
        store.start(program)
        store.check()
        store.record(seed=10 + round_)
        store.kill()
    store.start(NEW)
    store.check()
    rows = len(store.one.groups())
    store.one.record("odd-again", EventTime=1234)
    store.one.record("odd-again", EventTime=1234)  # recognized
    assert len(store.one.groups()) == rows + 1
    store.one.stop()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_kills_during_the_first_start_lose_nothing(store, first, call, direction):
    old, new = (first, NEW) if direction == "upgrade" else (NEW, first)
    store.start(old)
    store.record(seed=7)
    store.kill()
    number, kills = 1, 0
    while kills < 6 and store.start_killed(new, call, number):
        kills += 1
        number += 1 if number < 4 else number
    store.start(new)
    store.check()
    store.record(seed=8)
    store.one.stop()
    assert kills > 0


def test_commands_of_this_release_read_a_store_of_the_first_release(store, first, tmp_path):
    store.start(first)
    store.record(seed=3)
    arguments = ("-c", store.one.config)
    assert len(check_run(NEW, "export", *arguments).splitlines()) == len(store.acknowledged)
    check_run(NEW, "backup", *arguments, tmp_path / "copy.db")
    checked = subprocess.run([NEW, "check", *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked
    store.one.stop()
    assert run("sqlite3", tmp_path / "copy.db", "SELECT count(*) FROM destroyed_group").stdout.strip() == str(
        len(store.acknowledged))
