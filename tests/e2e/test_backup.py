"""Tests that `backup` makes a complete copy of one instant while the daemon records, or makes no copy and reports
why."""

import contextlib
import os
import pty
import resource
import signal
import stat
import subprocess

import pytest

import daemon
from daemon import BINARY, event

# Four names of this length make a database that is copied in several steps.
LARGE = "x" * 3_500_000
OWNER = 54323  # the unprivileged user that owns a store


def backup(one, *arguments, **options):
    return daemon.run(BINARY, "backup", "-c", one.config, *arguments, **options)


def refused(done, *words, status=1):
    """Asserts that `backup` exited with this status, printed nothing, and reported the failure in one line with all
    these words."""
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("imcallbackd backup: ") and done.stderr.count("\n") == 1, done
    for word in words:
        assert str(word) in done.stderr, done


def names(one):
    return sorted(path.name for path in one.directory.iterdir() if path.name.startswith("copy"))


def rows(database, newest):
    """Returns the events up to an id, their members, the schema, and the result of the integrity check, as the sqlite3
    shell prints them."""
    return [daemon.run("sqlite3", "-readonly", "-cmd", ".timeout 5000", database, query).stdout for query in (
        f"SELECT * FROM destroyed_group WHERE id <= {newest} ORDER BY id",
        f"SELECT * FROM destroyed_group_member WHERE destroyed_group_id <= {newest} ORDER BY 1, 2",
        "SELECT sql FROM sqlite_schema ORDER BY name", "PRAGMA integrity_check")]


def value(database, query):
    return daemon.run("sqlite3", "-readonly", database, query).stdout.rstrip("\n")


def make_large(one):
    for number in range(4):
        assert one.post(event(GroupId=f"large{number}", Name=LARGE)).status == 200


def slow(one, *arguments, **options):
    """Starts a backup in which each fdatasync(), and so each step, takes two seconds longer. With -D, the child of the
    test is the backup and not strace."""
    return subprocess.Popen(
        ["strace", "-D", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=2000000",
         BINARY, "backup", "-c", str(one.config), *map(str, arguments)],
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}, **options)


def test_copies_are_complete_under_load(one):
    """Each copy holds all events up to one id, exactly as the daemon recorded them."""
    load = one.start_load(connections=50, total=10_000)
    before, copies = 0, 0
    try:
        while load.poll() is None or not copies:
            copy = one.directory / f"copy{copies}.db"
            done = backup(one, copy)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
            newest = int(value(copy, "SELECT ifnull(max(id), 0) FROM destroyed_group"))
            assert newest >= before and newest == int(value(copy, "SELECT count(*) FROM destroyed_group"))
            assert rows(copy, newest) == rows(one.database, newest)
            before, copies = newest, copies + 1
        assert load.returncode == 0
    finally:
        load.kill()
        load.communicate()
    print(f"{copies} copies, the last of {before} events")
    assert len(names(one)) == copies  # no other file was left


def test_copies_the_database_of_a_stopped_or_killed_daemon(one):
    assert one.post().status == 200
    one.kill()
    assert (one.directory / "callbacks.db-wal").stat().st_size > 0
    assert backup(one, one.directory / "copy-killed.db").returncode == 0
    one.start()
    one.stop()
    assert backup(one, one.directory / "copy-stopped.db").returncode == 0
    for name in names(one):
        assert value(one.directory / name, "SELECT group_id FROM destroyed_group") == "@TGS#1"
        assert value(one.directory / name, "PRAGMA journal_mode") == "delete"
        assert stat.S_IMODE((one.directory / name).stat().st_mode) == 0o640
    assert names(one) == ["copy-killed.db", "copy-stopped.db"]


def test_the_daemon_continues_with_a_copy(one):
    assert one.post(event(GroupId="before")).status == 200
    assert backup(one, "copy.db", cwd=one.directory).returncode == 0
    assert one.post(event(GroupId="lost")).status == 200
    one.stop()
    for suffix in ("", "-wal", "-shm"):
        (one.directory / f"callbacks.db{suffix}").unlink()
    (one.directory / "copy.db").rename(one.database)
    one.start()
    assert one.post(event(GroupId="after")).status == 200
    assert one.group_ids() == ["before", "after"]
    beyond = daemon.run(BINARY, "export", "-c", one.config, "--since", 3)
    assert beyond.returncode == 1 and "backup" in beyond.stderr


@pytest.mark.parametrize("arguments, words", [
    ([], "TARGET"), ([""], "TARGET"), (["a", "b"], "unexpected argument 'b'"),
    (["-c", "x", "y"], "is given too many times"), (["--to", "x"], "unknown option '--to'"),
])
def test_rejects_wrong_usage(shared, arguments, words):
    refused(backup(shared, *arguments), words, "--help", status=2)


def test_needs_a_configuration():
    refused(daemon.run(BINARY, "backup", "copy.db"), "-c FILE is required", "--help", status=2)


def test_overwrites_nothing(one):
    (one.directory / "copy-file").write_text("mine")
    (one.directory / "copy-directory").mkdir()
    (one.directory / "copy-link").symlink_to("nowhere")
    before = names(one)
    for name in [*before, "callbacks.db"]:
        refused(backup(one, one.directory / name), one.directory / name, "exists already", "another name")
    assert names(one) == before and (one.directory / "copy-file").read_text() == "mine"
    assert one.post().status == 200


def test_reports_what_is_wrong(fresh):
    refused(backup(fresh, fresh.directory / "copy.db"), fresh.database, "first start")
    refused(daemon.run(BINARY, "backup", "-c", fresh.directory / "missing", "copy.db"), "missing: No such file")
    fresh.start()
    refused(backup(fresh, fresh.directory / "missing" / "copy.db"), "missing/copy.db", "No such file")
    refused(backup(fresh, fresh.config / "copy.db"), "Not a directory")
    refused(backup(fresh, fresh.directory / ("copy" + "y" * 300)), "File name too long")
    assert names(fresh) == []


def test_finds_damage(one):
    """Copying alone does not detect an overwritten page of members, but the integrity check of the copy does."""
    assert one.load(connections=10, total=2_000, members=10)[0] == 0
    one.stop()
    root = one.value("SELECT rootpage FROM sqlite_schema WHERE name = 'destroyed_group_member'")
    with one.database.open("r+b") as file:
        file.seek((root - 1) * 4096 + 12)
        file.write(b"\xff" * 64)
    refused(backup(one, one.directory / "copy.db"), "copy.db", "damaged")
    assert names(one) == []


@contextlib.contextmanager
def small_disk(one):
    """Yields the path of a file system of 8 MiB, which is mounted during the block."""
    place = one.directory / "small"
    place.mkdir()
    if os.geteuid() != 0 or daemon.run("mount", "-t", "tmpfs", "-o", "size=8m", "none", place).returncode != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        daemon.run("umount", place)


def test_checks_the_free_space_first(one):
    make_large(one)
    with small_disk(one) as place:
        refused(backup(one, place / "copy.db"), place / "copy.db", "the copy needs", "free some space")
        assert list(place.iterdir()) == []


def test_leaves_free_space_on_the_file_system_of_the_daemon(fresh):
    with small_disk(fresh) as place:
        fresh.write_config({"store": {"database": place / "callbacks.db"}})
        fresh.start()
        refused(backup(fresh, place / "copy.db"), place / "copy.db", "the copy needs 65 MiB", "another file system")
        assert not (place / "copy.db").exists()
        assert backup(fresh, fresh.directory / "copy.db").returncode == 0
        fresh.stop()
        fresh.process = None


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000_000, 5_000_000))


def test_a_failed_write_leaves_no_file(one):
    make_large(one)
    refused(backup(one, one.directory / "copy.db", preexec_fn=limit_file_size), "copy.db", "File too large")
    assert names(one) == []


@pytest.mark.without_coverage
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_fails_if_the_directory_cannot_be_synced(one):
    """An unreadable directory cannot be synced, so the copy could vanish in a power failure."""
    assert one.post().status == 200
    one.stop()
    place = one.directory / "unreadable"
    place.mkdir()
    for path in (one.directory, *one.directory.iterdir()):
        os.chown(path, OWNER, OWNER)
    place.chmod(0o300)
    done = daemon.run("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--clear-groups", BINARY, "backup", "-c",
                      one.config, place / "copy.db")
    refused(done, place / "copy.db", "Permission denied")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_file(one, number):
    make_large(one)
    with slow(one, one.directory / "copy.db", stderr=subprocess.PIPE, text=True) as process:
        daemon.eventually(lambda: names(one), "a partial copy")
        assert names(one) == [f"copy.db.partial-{process.pid}"]
        process.send_signal(number)
        assert process.wait(60) == 1
        assert process.stderr.read() == f"imcallbackd backup: {one.directory}/copy.db: the backup was cancelled; no copy was made\n"
    assert names(one) == []


@pytest.mark.parametrize("slow_file", ["callbacks.db", "copy.db.partial-$$"], ids=["source", "copy"])
def test_a_signal_interrupts_a_long_statement(one, slow_file):
    """Counting the rows of the source and checking the copy take minutes here. SQLite does each in a single instruction
    of its virtual machine, during which only sqlite3_interrupt() has an effect."""
    one.stop()
    made = daemon.run("sqlite3", one.database, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT "
                      "60000) INSERT INTO destroyed_group SELECT i, 1, format('%0200d', i), i, '', '', '', '', 0, '', "
                      "'', '', i, NULL FROM n; PRAGMA wal_checkpoint(TRUNCATE)")
    assert made.returncode == 0, made.stderr
    trace = one.directory / "trace"
    # The backup keeps the PID of the shell, $$.
    command = (f"exec strace -D -o {trace} -P {one.directory}/{slow_file} -e trace=pread64 "
               f"-e inject=pread64:delay_enter=100000 {BINARY} backup -c {one.config} {one.directory}/copy.db")
    with subprocess.Popen(["bash", "-c", command], stderr=subprocess.PIPE, text=True,
                          env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}) as process:
        daemon.eventually(lambda: trace.exists() and trace.read_text().count("pread64") > 20, "reads by the backup", 60)
        process.terminate()
        try:
            assert process.wait(60) == 1
        finally:
            process.kill()
        assert process.stderr.read() == f"imcallbackd backup: {one.directory}/copy.db: the backup was cancelled; no copy was made\n"
    assert names(one) == []


def test_excludes_events_that_are_recorded_meanwhile(one):
    """The daemon records and answers while the copy is made. The copy does not contain the events that were recorded
    meanwhile."""
    make_large(one)
    with slow(one, one.directory / "copy.db") as process:
        daemon.eventually(lambda: names(one), "a partial copy")
        one.record(*(f"meanwhile{number}" for number in range(20)))
        assert names(one) != ["copy.db"]
        assert process.wait(60) == 0
    assert names(one) == ["copy.db"]
    assert value(one.directory / "copy.db", "SELECT count(*) FROM destroyed_group") == "4"
    assert one.value("SELECT count(*) FROM destroyed_group") == 24


def test_shows_progress_on_a_terminal(one):
    try:
        ours, theirs = pty.openpty()
    except OSError as error:
        pytest.skip(f"no pseudo-terminal: {error}")
    make_large(one)
    with slow(one, one.directory / "copy.db", stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # reading the terminal fails when the backup has closed it
            while piece := os.read(ours, 4096):
                shown += piece
        assert process.wait(60) == 0
    os.close(ours)
    assert b"\rcopied 4 of 1" in shown and shown.endswith(b"MiB\r\n"), shown
