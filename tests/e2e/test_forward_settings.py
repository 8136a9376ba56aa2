"""Tests the settings of `forward` that are rejected or cause a warning, and what the forwarder needs to connect."""

import contextlib
import os
import re
import shutil
import socket

import pytest

import daemon
import postgres
from certificates import P_256, make_certificate
from daemon import BINARY
from postgres import Forwarder, has_rows, ship_to, shipping_daemon

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")


def write_password(one, text, mode=0o600):
    path = one.directory / "password"
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("key, text, words", [
    ("url", "postgresql://owner:{password}@127.0.0.1/x", "a password"),
    ("url", "postgres://owner:{password}@127.0.0.1/x", "a password"),
    ("url", "postgresql://owner@127.0.0.1/x?password={password}", "a password"),
    ("url", "postgresql://owner@127.0.0.1/x?pass%77ord={password}", "a password"),
    ("url", "mysql://owner@127.0.0.1/x", "a libpq URI"),
    ("url", "postgresql://owner@127.0.0.1/x?nonsense=1", "cannot parse"),
    ("password_file", "/nowhere", "password_file: /nowhere: No such file"),
    ("receiver", "a name", "is not a name of letters"),
    ("receiver", 65 * "n", "is not a name of letters"),
])
def test_rejects_settings_with_file_and_line(fresh, server, key, text, words):
    ship_to(fresh, server, **{key: text.format(password=postgres.PASSWORD)})
    lines = fresh.config.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith(f"{key} ="))
    for command in ("forward", "check"):
        done = daemon.run(BINARY, command, "-c", fresh.config)
        assert done.returncode == 1 and words in done.stderr, done
        assert f"{fresh.config}:{line}: [forward] {key}: " in done.stderr, done
        assert postgres.PASSWORD not in done.stdout + done.stderr, done


@pytest.mark.parametrize("arguments, words", [
    ([], "-c FILE is"), (["-c", "x", "--since", "1"], "require --verify"),
    (["-c", "x", "--verify", "--until", "soon"], "Unix time"),
    (["-c", "x", "--verify", "--since", "1.5"], "Unix time"), (["-c", "x", "--verbose"], "option"),
])
def test_wrong_usage_exits_with_2_and_one_line(arguments, words):
    done = daemon.run(BINARY, "forward", *arguments)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done


def test_rejects_a_configuration_without_url(make_daemon):
    done = daemon.run(BINARY, "forward", "-c", make_daemon().config)
    assert done.returncode == 1 and "[forward] url is missing" in done.stderr, done


def test_receiver_defaults_to_the_host_name(fresh, server, forward):
    ship_to(fresh, server)
    text = fresh.config.read_text()
    assert "receiver = a\n" in text
    fresh.config.write_text(text.replace("receiver = a\n", ""))
    fresh.start()
    assert fresh.post().status == 200
    forward(fresh)
    has_rows(server, 1)
    assert server.value("SELECT receiver FROM destroyed_group") == socket.gethostname()


def test_warns_of_insecure_settings(fresh, server, forward):
    readable = write_password(fresh, postgres.PASSWORD, 0o644)
    ship_to(fresh, server, url=f"postgresql://owner@db.invalid:{server.port}/x", password_file=readable)
    fresh.start()
    forwarder = forward(fresh)
    forwarder.wait_logged("sslmode=prefer does not verify the destination's identity")
    forwarder.wait_logged("every user of this machine can read")
    forwarder.stop()


def test_retries_until_it_may_create_the_tables(make_daemon, server, forward):
    server.execute(f"CREATE ROLE guest LOGIN PASSWORD '{postgres.PASSWORD}'")
    one = shipping_daemon(make_daemon, server, url=server.url().replace("owner@", "guest@"))
    assert one.post().status == 200
    forwarder = forward(one)
    forwarder.wait_logged("the tables cannot be created in the destination: the destination reports ")
    # Only a conflict with another forwarder is repeated at once, without a new connection.
    sessions = re.findall(r"\[(\d+)\] ERROR: +no schema has been selected", (server.directory / "log").read_text())
    assert len(set(sessions)) == len(sessions) > 0
    server.execute(f"GRANT ALL ON SCHEMA {server.schema} TO guest")
    has_rows(server, 1)
    forwarder.stop()
    server.execute("DROP OWNED BY guest; DROP ROLE guest")


def test_check_and_serve_succeed_without_the_destination(fresh, server):
    ship_to(fresh, server)
    assert "[forward] url" not in daemon.run(BINARY, "check", "-c", fresh.config).stderr
    ship_to(fresh, server, url=f"postgresql://owner@127.0.0.1:{daemon.free_port()}/x")
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0 and "[forward] url: cannot connect" in done.stderr, done
    fresh.start()
    assert fresh.post().status == 200


def test_reads_the_password_for_each_attempt_and_never_logs_it(fresh, server, forward):
    """Forwarder.check_log() asserts that the log does not contain the password, once the forwarder has ended."""
    wrong = write_password(fresh, "wrong-" + postgres.PASSWORD)
    ship_to(fresh, server, password_file=wrong)
    fresh.start()
    assert fresh.post().status == 200
    forwarder = forward(fresh)
    forwarder.wait_logged("password authentication failed")
    wrong.unlink()
    forwarder.wait_logged(f"{wrong}: No such file or directory")
    write_password(fresh, postgres.PASSWORD + "\n")
    has_rows(server, 1)


def test_only_the_forwarder_needs_the_password(fresh, server):
    """Only the forwarder's service gets the password, as a credential of systemd. `serve` and a manual `check` must
    succeed without it."""
    ship_to(fresh, server, password_file="$CREDENTIALS_DIRECTORY/" + server.password_file.name)
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0 and "only the forward service must be able to read" in done.stderr, done
    fresh.start()
    assert fresh.post().status == 200
    done = daemon.run(BINARY, "forward", "-c", fresh.config)
    assert done.returncode == 1 and "CREDENTIALS_DIRECTORY is not set" in done.stderr, done
    forwarder = Forwarder(fresh).start({"CREDENTIALS_DIRECTORY": str(server.password_file.parent)})
    try:
        has_rows(server, 1)
    finally:
        forwarder.stop()


@contextlib.contextmanager
def tls(server, source):
    """Makes the server accept TLS during the block, with the certificate in the directory `source`."""
    for name, setting in (("certificate.pem", "ssl_cert_file"), ("key.pem", "ssl_key_file")):
        copy = server.directory / name
        shutil.copy(source / name, copy)
        if os.geteuid() == 0:
            os.chown(copy, postgres.unprivileged()["user"], postgres.unprivileged()["group"])
        copy.chmod(0o600)
        server.execute(f"ALTER SYSTEM SET {setting} = '{copy}'")
    server.execute("ALTER SYSTEM SET ssl = on")
    server.execute("SELECT pg_reload_conf()")
    try:
        daemon.eventually(lambda: server.psql("-c", "SELECT 1", "-d", f"dbname={server.database} sslmode=require"
                                              ).returncode == 0, "TLS")
        yield
    finally:
        server.execute("ALTER SYSTEM RESET ALL")
        server.execute("SELECT pg_reload_conf()")


def test_verifies_the_certificate_of_the_destination(one, server, forward):
    assert one.post().status == 200
    make_certificate(one.directory, *P_256, name="other.pem", key="other.key")
    with tls(server, one.directory):
        ship_to(one, server, url=server.url(sslmode="verify-full", sslrootcert=one.directory / "other.pem"))
        forwarder = forward(one)
        forwarder.wait_logged("certificate verify failed")
        forwarder.stop()
        ship_to(one, server, url=server.url(sslmode="verify-full", sslrootcert=one.directory / "certificate.pem"))
        forward(one)
        has_rows(server, 1)
