"""Tests commands under limits on open files, threads and file sizes, with unusable sockets, or with a database in use.

Also tests retention, a directory in place of the configuration, the arguments of `sign` and `certificate`, and
`--help`.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys

import pytest

import daemon
from daemon import APP, BINARY

OLD = 300  # events; more than the store deletes in one step
COUNTED = 60000 + os.getpid() % 5000  # a user id without any other thread
NO_LEAK_CHECK = os.environ | {"ASAN_OPTIONS": "detect_leaks=0"}  # the leak check would start a thread


def serve(one, shell, **options):
    """Runs `serve` until it exits. The shell command gets the daemon's command line as "$@"."""
    return daemon.run("bash", "-c", shell, "bash", BINARY, "serve", "-c", one.config, **options)


# Limits of open files

def open_files(one):
    """Returns the soft and the hard limit on open files of the daemon's process."""
    with open(f"/proc/{one.process.pid}/limits") as limits:
        return re.search(r"Max open files +(\d+) +(\d+)", limits.read()).groups()


def test_raises_the_soft_limit_on_open_files(make_daemon):
    one = make_daemon({"limits": {"connections": 100}})
    one.start(["bash", "-c", 'ulimit -S -n 64; ulimit -H -n 400; exec "$@"', "bash"])
    assert open_files(one) == ("400", "400")
    assert "open files" not in one.log and " may be open" not in one.log


def test_the_database_gets_no_standard_descriptor(make_daemon):
    """If the database became descriptor 2, the log would overwrite it."""
    port = daemon.free_port()
    one = make_daemon({"listen": {"port": port}})
    with subprocess.Popen(["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", BINARY, "serve", "-c", one.config]) as process:
        def listens():
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        daemon.eventually(listens, "a listening daemon")
        one.port = port
        assert one.post(SdkAppid=7).status == 403  # writes a line to the log
        assert one.post(daemon.event(GroupId="@TGS#1")).status == 200
        process.terminate()
        assert process.wait(daemon.STOP_DEADLINE) == 0
    assert one.group_ids() == ["@TGS#1"]
    assert daemon.run(BINARY, "check", "-c", one.config).returncode == 0


@pytest.mark.parametrize("loops, taken, connections, warns", [
    (1, 300, 100, False), (1, 300, 300, False), (1, 300, 301, True), (1, 300, 4096, True), (20, 264, 264, False),
    (20, 264, 265, True),
])
def test_warns_of_more_connections_than_open_files(make_daemon, loops, taken, connections, warns):
    one = make_daemon({"listen": {"threads": loops},
                       "limits": {"connections": connections, "connections_per_address": 100}})
    one.start(["bash", "-c", 'ulimit -n 400; exec "$@"', "bash"])
    warnings = [line for line in one.lines if f"reduced to {taken}: the process may open only 400 files" in line]
    assert len(warnings) == warns and all(line.startswith("<4>") for line in warnings), one.log
    assert one.post().status == 200
    one.reload()
    daemon.eventually(lambda: one.log.count("may open only 400 files") == 2 * warns, "the warning after the reload")


def test_retention_deletes_old_events_and_logs_one_line(one):
    """The store deletes the old events in several steps, but logs one line."""
    assert one.load(connections=8, total=OLD)[1]["ok"] == OLD
    assert one.post(daemon.event(GroupId="new")).status == 200
    one.stop()
    aged = daemon.run("sqlite3", one.database, "UPDATE destroyed_group SET received_at_ms = received_at_ms - 172800000 "
                      "WHERE group_id != 'new'")
    assert aged.returncode == 0, aged.stderr
    one.start()
    one.reload({"store": {"retention": "1d"}})
    daemon.eventually(lambda: one.group_ids() == ["new"], "the old events deleted")
    daemon.eventually(lambda: f": deleted {OLD} events that were older than the retention" in one.log,
                      "the number of deleted events")
    one.stop()
    assert one.log.count("older than the retention") == 1


def test_accepts_at_least_one_connection(make_daemon):
    one = make_daemon().start(["bash", "-c", 'ulimit -n 60; exec "$@"', "bash"])
    assert "reduced to 1: the process may open only 60 files" in one.log
    assert one.post().status == 200


# Limits of threads

@pytest.mark.thread_count
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start the daemon as another user")
@pytest.mark.parametrize("threads, missing", enumerate([
    "the writer thread", "the event loop thread", "the event loop thread",
    "the acceptor thread"], 1))
def test_names_the_thread_that_cannot_be_started(make_daemon, threads, missing):
    one = make_daemon({"listen": {"threads": 2}})
    for path in (one.directory, *one.directory.iterdir()):
        os.chown(path, COUNTED, COUNTED)
    done = daemon.run("prlimit", f"--nproc={threads}", "setpriv", f"--reuid={COUNTED}", f"--regid={COUNTED}",
                      "--clear-groups", BINARY, "serve", "-c", one.config, env=NO_LEAK_CHECK)
    (fault,) = [line for line in done.stderr.splitlines() if line.startswith("<3>")]
    assert done.returncode == 1 and f"{missing} cannot be started: Resource temporarily unavailable" in fault, done


# Passed sockets

@pytest.mark.parametrize("shell, words", [
    ('LISTEN_FDS=many LISTEN_PID=$$ exec "$@"', "cannot use the sockets that systemd passed: Invalid argument"),
    ('LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&-', "cannot use the sockets that systemd passed: Bad file desc"),
    ('LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3</dev/null', ""),
], ids=["no number", "closed", "not a socket"])
def test_refuses_passed_descriptors(fresh, shell, words):
    done = serve(fresh, shell)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("<3>") == 1, done

# The configuration

def test_refuses_a_second_daemon_on_the_same_database(one, make_daemon):
    other = make_daemon({"store": {"database": one.database}})
    done = daemon.run(BINARY, "serve", "-c", other.config)
    assert done.returncode == 1 and "another imcallbackd records into it" in done.stderr, done
    assert one.post().status == 200 and len(one.groups()) == 1


@pytest.mark.parametrize("suffix, lock", [
    ("", "fcntl.flock(file, fcntl.LOCK_SH)"),
    ("-shm", "fcntl.lockf(file, fcntl.LOCK_SH, 1, 120)"),  # the byte that SQLite's writer locks
], ids=["database", "log"])
def test_refuses_to_start_while_a_reader_holds_a_lock(one, suffix, lock):
    one.stop()
    script = f"import fcntl, sys\nfile = open(sys.argv[1])\n{lock}\nprint('locked', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", script, f"{one.database}{suffix}"], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout.readline() == "locked\n"
        done = daemon.run(BINARY, "serve", "-c", one.config)
        reader.communicate("\n")
    assert done.returncode == 1 and "(fuser lists it)" in done.stderr and str(one.database) in done.stderr, done
    one.start()
    assert one.post().status == 200


@pytest.mark.parametrize("command", ["check", "sign", "serve"])
def test_refuses_a_directory_as_the_configuration(tmp_path, command):
    done = daemon.run(BINARY, command, "-c", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{tmp_path}: cannot read the file: Is a directory" in done.stderr


# sign, certificate, the command line

@pytest.mark.parametrize("app", ["nonsense", "-1", f"{APP + 1}", f"{APP} ", f"0x{APP:x}", "99999999999999999999", ""])
def test_sign_refuses_an_invalid_app(make_daemon, app):
    done = daemon.run(BINARY, "sign", "-c", make_daemon().config, "--app", app)
    assert done.returncode in (1, 2) and done.stdout == "" and done.stderr.count("\n") == 1, done


def test_certificate_refuses_a_directory_that_cannot_be_created(tmp_path):
    for out, why in ((tmp_path / "not" / "there", "No such file"), ("/dev/null/x", "Not a directory")):
        done = daemon.run(BINARY, "certificate", "--host", "localhost", "--out", out)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert f"{out}: cannot create the directory: {why}" in done.stderr


def test_certificate_leaves_no_file_on_a_full_disk(tmp_path):
    done = daemon.run("bash", "-c", 'trap "" XFSZ; ulimit -f 0; exec "$@"', "bash", BINARY, "certificate", "--host",
                      "localhost", "--out", tmp_path)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert f"{tmp_path}: cannot write certificate.pem and key.pem" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("domain", [".b", ".example.org"])  # the subject holds 64 characters
def test_certificate_covers_a_name_that_is_too_long_for_the_subject(tmp_path, domain):
    host = "a" * 63 + domain
    assert daemon.run(BINARY, "certificate", "--host", host, "--out", tmp_path).returncode == 0
    shown = daemon.run("openssl", "x509", "-in", tmp_path / "certificate.pem", "-noout", "-checkhost", host).stdout
    assert "does match" in shown


@pytest.mark.parametrize("arguments", [[], ["check"], ["sign", "-c", "x"]])
def test_short_and_long_help_are_the_same(arguments):
    done = daemon.run(BINARY, *arguments, "-h")
    assert (done.returncode, done.stderr) == (0, "") and "Usage:" in done.stdout
    assert done.stdout == daemon.run(BINARY, *arguments, "--help").stdout
