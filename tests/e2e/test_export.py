"""Tests that `export` prints recorded events as JSON Lines, in order, and that it misses no event and repeats none,
even if the daemon or `export` itself is stopped or killed and continues later."""

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import threading
import time

import pytest

import daemon
from daemon import BINARY, COLUMNS, event, load_report
from processes import cpu_seconds, holds, read_proc

# A user that does not own the directory but belongs to its group.
MEMBER, GROUP = 54322, 54321
FOLLOWED = int(os.environ.get("FOLLOWED", "5000"))


def export(one, *arguments, wrapper=(), **options):
    return daemon.run(*wrapper, BINARY, "export", "-c", one.config, *arguments, **options)


def exporting(one, *arguments, stdout=subprocess.PIPE):
    """Starts an export."""
    return subprocess.Popen([BINARY, "export", "-c", str(one.config), *arguments], stdout=stdout, stderr=subprocess.PIPE)


def exported(one, *arguments, wrapper=()):
    """Runs an export that must succeed and returns its objects."""
    done = export(one, *arguments, wrapper=wrapper, text=False)
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    lines = done.stdout.decode().split("\n")  # fails if the output is not UTF-8
    assert lines.pop() == ""
    return [json.loads(line) for line in lines]


class Follower:
    """A running `export --follow` that writes to a file."""

    def __init__(self, one, since=0):
        self.path = one.directory / f"followed-{since}"
        with self.path.open("wb") as file:
            self.process = subprocess.Popen(
                [BINARY, "export", "-c", str(one.config), "--since", str(since), "--follow"], stdout=file,
                stderr=subprocess.PIPE)

    def text(self):
        return self.path.read_bytes()

    def ids(self):
        """Returns the ids of the complete lines."""
        return [json.loads(line)["id"] for line in self.text().split(b"\n")[:-1]]

    def wait_for(self, count):
        daemon.eventually(lambda: self.text().count(b"\n") >= count, f"{count} lines", 60)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        if number != signal.SIGKILL:
            assert (self.process.returncode, said) == (0, b"")
            assert self.text().endswith(b"\n") or not self.text()
        return self.ids()


@contextlib.contextmanager
def loaded(one, total=1_000_000):
    """Runs the load generator until the block or the daemon ends, or until `total` requests were sent."""
    process = one.start_load(connections=20, total=total, timeout=10)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# Lines

def test_prints_every_column_and_member(make_daemon):
    one = make_daemon({"store": {"keep_body": "yes"}}).start()
    hard = "\" \\ / \u0001 \n \t \x7f \u0085 \u2028 é 张三 😀"
    for body in (event(), event(GroupId="community", Type="Community", MemberList=None),
                 event(GroupId="empty", MemberList=[]),
                 event(GroupId="untimed", EventTime=None, Operator_Account="admin"),
                 event(GroupId="hard", Name=hard, MemberList=[{"Member_Account": name} for name in (hard, "b", "a")])):
        assert one.post(body).status == 200
    objects = exported(one)
    assert [list(each) for each in objects] == [[*COLUMNS, "body", "members"]] * 5
    for each, row in zip(objects, one.groups()):
        assert each == row | {"body": row["body"].decode(), "members": one.members(row["group_id"])}
    assert objects[4]["name"] == hard and objects[4]["members"] == [hard, "b", "a"]
    assert [each["member_count"] for each in objects] == [1, None, 0, 1, 3]
    assert objects[3]["event_time_ms"] is None


def test_a_body_that_was_not_kept_is_null(one):
    assert exported(one) == []
    assert one.post().status == 200
    (only,) = exported(one)
    assert only["body"] is None and only["members"] == ["leckie"]


def test_replaces_text_that_is_not_utf8(one):
    """The lines are UTF-8 even if the daemon or another program stored other bytes in the database."""
    assert one.post(event(Name="cut: @").replace(b"@", b"\xe5\xbc")).status == 200
    one.stop()
    daemon.run("sqlite3", one.database, "UPDATE destroyed_group SET owner_account = CAST(x'61ff62' AS TEXT)")
    (only,) = exported(one)
    assert only["name"] == "cut: \ufffd" and only["owner_account"] == "a\ufffdb"
    assert "cut: \ufffd" in only["body"]


def test_prints_ten_thousand_members(one):
    members = [f"member-{number}-{'x' * 20}" for number in range(10_000)]
    assert one.post(event(MemberList=[{"Member_Account": member} for member in members])).status == 200
    assert one.post(event(GroupId="after")).status == 200
    large, after = exported(one)
    assert large["members"] == members and after["group_id"] == "after"


def test_since_skips_earlier_events(one):
    one.record(*(f"g{number}" for number in range(5)))
    for since, expected in ((0, [1, 2, 3, 4, 5]), (3, [4, 5]), (5, [])):
        assert [each["id"] for each in exported(one, "--since", since)] == expected
    beyond = export(one, "--since", 6)
    assert (beyond.returncode, beyond.stdout) == (1, "")
    assert "id 6 is from another database" in beyond.stderr and beyond.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments, words", [
    (["--since", "x"], "--since requires"), (["--since", "-1"], "unknown option '-1'"), (["--since", "1.5"], "--since requires"),
    (["--since", str(2 ** 63)], "--since requires"), (["--since"], "requires a value"),
    (["--follow", "x"], "unexpected argument 'x'"), (["--folow"], "unknown option"),
    (["--follow", "--follow"], "'--follow' is given too many times"), (["x"], "unexpected argument 'x'"),
])
def test_rejects_wrong_usage(shared, arguments, words):
    done = export(shared, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and done.stderr.count("\n") == 1 and "--help" in done.stderr


def test_needs_a_configuration_and_a_database(make_daemon):
    bare = daemon.run(BINARY, "export")
    assert bare.returncode == 2 and "-c FILE is required" in bare.stderr
    one = make_daemon()
    for text, words in ((None, "first start"), ("no database at all, but text that is long enough", "not a database")):
        if text:
            one.database.write_text(text * 20)
        done = export(one, "--follow")
        assert (done.returncode, done.stdout) == (1, ""), done
        assert str(one.database) in done.stderr and words in done.stderr and done.stderr.count("\n") == 1, done


# Following

def test_follow_misses_nothing_and_repeats_nothing(one):
    """Under load, each side stops or is killed in turn; each follower continues after the last complete line."""
    followed = []
    for daemons_end, followers_end in (("stop", signal.SIGKILL), ("kill", signal.SIGTERM), ("kill", signal.SIGKILL)):
        with loaded(one):
            follower = Follower(one, len(followed))
            follower.wait_for(300)
            followed += follower.end(followers_end)  # the follower ends first, while the daemon records
            follower = Follower(one, len(followed))
            follower.wait_for(300)
            getattr(one, daemons_end)()  # then the daemon ends, while a follower reads
        one.start()
        with loaded(one, 500) as load:
            assert load.wait(60) == 0
        newest = one.value("SELECT max(id) FROM destroyed_group")
        follower.wait_for(newest - len(followed))
        followed += follower.end()
        assert followed == list(range(1, newest + 1))
    assert len(followed) == one.value("SELECT count(*) FROM destroyed_group")
    assert [each["group_id"] for each in exported(one)] == one.group_ids()


def test_follow_at_full_load(one):
    """FOLLOWED=1000000 turns the test into a campaign, which prints the delay of the follower."""
    follower = Follower(one)
    begin = time.monotonic()
    report = load_report(one.start_load(connections=128, total=FOLLOWED, timeout=20))
    seconds, written = time.monotonic() - begin, follower.text().count(b"\n")
    assert report["ok"] == FOLLOWED, report
    follower.wait_for(FOLLOWED)
    print(f"{FOLLOWED} callbacks at {report['ok'] / seconds:.0f} a second, p99 {report['p99_us']} us; "
          f"{FOLLOWED - written} lines missing at the end of the load, complete {time.monotonic() - begin - seconds:.2f} s later")
    assert follower.end() == list(range(1, FOLLOWED + 1))


def test_follow_ends_at_a_replaced_database(one):
    assert one.post(event(GroupId="old")).status == 200
    follower = Follower(one)
    follower.wait_for(1)
    one.stop()
    for suffix in ("", "-wal", "-shm"):
        path = one.directory / f"callbacks.db{suffix}"
        path.rename(one.directory / f"old.db{suffix}")
    one.start()
    one.record(*(f"new{number}" for number in range(3)))
    _, said = follower.process.communicate(timeout=60)
    assert follower.process.returncode == 1
    assert b"replaced" in said and b"up to id 1" in said and said.count(b"\n") == 1
    assert follower.ids() == [1]


@pytest.mark.parametrize("printed", [0, 3])
def test_follow_ends_at_a_restored_database(one, printed):
    """The new events get the ids of lost events, and more ids than those. The follower does not run meanwhile, so it
    cannot notice a moment with fewer rows. printed: the number of lost events that the follower has printed; without
    one, it has only --since."""
    one.record("g1", "g2")
    backup = one.directory / "backup.db"
    daemon.check_run(BINARY, "backup", "-c", one.config, backup)
    one.record("old3", "old4", "old5")
    follower = Follower(one, 5 - printed)
    follower.wait_for(printed)
    daemon.eventually(lambda: any("poll" in place for place in read_proc(follower.process.pid, "wchan")), "its wait")
    follower.process.send_signal(signal.SIGSTOP)
    one.stop()
    daemon.check_run("sqlite3", one.database, ".timeout 20000", f".restore {backup}")
    one.start()
    one.record(*(f"new{number}" for number in range(3, 10)))
    follower.process.send_signal(signal.SIGCONT)
    _, said = follower.process.communicate(timeout=60)
    assert follower.process.returncode == 1
    assert b"restored" in said and b"id 5" in said and said.count(b"\n") == 1
    assert follower.ids() == list(range(6 - printed, 6))


def test_a_slow_reader_does_not_hold_the_log(one):
    """While nothing reads the pipe, the daemon can still checkpoint its whole write-ahead log. No line is lost."""
    assert one.load(connections=50, total=5_000)[0] == 0
    with exporting(one) as process:
        first = process.stdout.readline()
        assert one.post().status == 200
        one.stop()
        assert (one.directory / "callbacks.db-wal").stat().st_size == 0
        rest = process.stdout.readlines()
        assert process.wait(60) == 0
    assert [json.loads(line)["id"] for line in [first, *rest]][:5_000] == list(range(1, 5_001))


# The output

def test_ends_although_events_are_recorded_faster(one):
    """Otherwise an export whose reader is slower than the load would never end."""
    assert one.load(connections=20, total=2000)[0] == 0
    with exporting(one) as process:
        first = process.stdout.readline()
        assert one.load(connections=20, total=4000)[0] == 0
        ids = [json.loads(line)["id"] for line in [first, *process.stdout]]
        assert process.wait(60) == 0
    assert 2000 <= len(ids) <= 3000 and ids == list(range(1, len(ids) + 1))  # rows are read by the thousand


def test_a_closed_pipe_ends_the_export(one):
    assert one.load(connections=50, total=5_000)[0] == 0
    for arguments in ([], ["--follow"]):
        with exporting(one, *arguments) as process:
            assert json.loads(process.stdout.readline())["id"] == 1
            process.stdout.close()
            assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_a_closed_pipe_ends_an_idle_follower(one):
    with exporting(one, "--follow") as process:
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_an_idle_follower_uses_no_cpu(one):
    one.record("g1")
    with exporting(one, "--follow") as process:
        assert json.loads(process.stdout.readline())["id"] == 1
        before = cpu_seconds(process.pid)
        assert holds(lambda: process.poll() is None, 0.6)
        assert cpu_seconds(process.pid) - before < 0.1
        process.terminate()
        assert process.wait(60) == 0


def test_waits_for_a_full_pipe_that_is_non_blocking(one):
    """A write to the full pipe fails with EAGAIN. `export` waits, so a slow reader still receives all lines."""
    assert one.load(connections=20, total=1000)[0] == 0
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with exporting(one, stdout=writing) as process, open(reading, "rb") as pipe:
        daemon.eventually(lambda: not select.select([], [writing], [], 0)[1], "a full pipe")
        os.close(writing)
        ids = [json.loads(line)["id"] for line in pipe]
        assert process.wait(60) == 0
    assert ids == list(range(1, 1001))


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


@pytest.mark.parametrize("path, preexec, words", [
    ("/dev/full", None, "No space left"), pytest.param(None, limited, "File too large", marks=pytest.mark.without_coverage),
])
def test_reports_a_failed_write(one, path, preexec, words):
    assert one.load(connections=10, total=100)[0] == 0
    with open(path or one.directory / "limited", "wb") as file:
        done = daemon.run(BINARY, "export", "-c", one.config, stdout=file, stderr=subprocess.PIPE, capture_output=False,
                          preexec_fn=preexec)
    assert done.returncode == 1
    assert "standard output: cannot be written" in done.stderr and words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments, status", [([], 1), (["--follow"], 0)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_export_after_a_line(one, arguments, status, number):
    """The last line is complete. An export without --follow reports the last id."""
    assert one.load(connections=50, total=5_000)[0] == 0
    with exporting(one, *arguments) as process:
        text = process.stdout.readline()
        process.send_signal(number)
        text += process.stdout.read()
        said = process.stderr.read().decode()
        assert process.wait(60) == status
    ids = [json.loads(line)["id"] for line in text.decode().split("\n")[:-1]]
    assert text.endswith(b"\n") and ids == list(range(1, len(ids) + 1)) and len(ids) < 5_000
    assert said == ("" if status == 0 else f"imcallbackd export: stopped by a signal after id {len(ids)}; continue with --since {len(ids)}\n")


# Rights

def member_reads(one, expected):
    """Reads the database with the sqlite3 shell and with `export`, as a member of the group, which may only read.
    expected: the number of events; None while this number grows."""
    become = ("setpriv", f"--reuid={MEMBER}", f"--regid={GROUP}", "--clear-groups")
    shell = daemon.run(*become, "sqlite3", "-readonly", "-cmd", ".timeout 5000", one.database,
                       "SELECT count(*) FROM destroyed_group")
    assert (shell.returncode, shell.stderr) == (0, ""), shell
    assert expected is None or shell.stdout == f"{expected}\n"
    ids = [each["id"] for each in exported(one, wrapper=become)]
    assert ids == list(range(1, len(ids) + 1)) and len(ids) >= int(shell.stdout)


@pytest.mark.without_coverage
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_group_member_reads_at_any_time(fresh):
    os.chown(fresh.directory, 0, GROUP)
    fresh.directory.chmod(0o2750)
    fresh.start()
    with loaded(fresh):
        for _ in range(10):
            member_reads(fresh, None)
        fresh.kill()
    count = fresh.value("SELECT count(*) FROM destroyed_group")
    assert (fresh.directory / "callbacks.db-wal").stat().st_size > 0
    member_reads(fresh, count)  # the daemon was killed
    fresh.start()
    member_reads(fresh, count)
    assert fresh.post().status == 200
    fresh.stop()
    member_reads(fresh, count + 1)
    names = sorted(path.name for path in fresh.directory.iterdir() if path.name.startswith("callbacks"))
    assert names == ["callbacks.db", "callbacks.db-shm", "callbacks.db-wal"]
    for name in names:
        status = (fresh.directory / name).stat()
        assert (status.st_mode & 0o777, status.st_uid) == (0o640, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_reports_missing_rights(fresh):
    fresh.directory.chmod(0o755)
    fresh.start()
    done = export(fresh, wrapper=("setpriv", f"--reuid={MEMBER}", f"--regid={GROUP}", "--clear-groups"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Permission denied; become a member of the group" in done.stderr


def test_restarts_of_the_daemon_fail_no_export(one):
    """Two threads export all the time while the daemon stops, is killed and starts. Each export must succeed and print
    the 100 events after id 400."""
    assert one.load(connections=20, total=500)[0] == 0
    over, wrong = threading.Event(), []

    def read():
        while not over.is_set():
            done = export(one, "--since", 400)
            if (done.returncode, done.stderr, done.stdout.count("\n")) != (0, "", 100):
                wrong.append(done)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for end in ("stop", "kill", "kill", "stop"):
            getattr(one, end)()
            one.start()
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert wrong == []
