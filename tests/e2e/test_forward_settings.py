"""What the forwarder says of settings that cannot work or are unwise, and what it takes to come to its destination."""

import os
import shutil
import socket

import pytest

import daemon
import postgres
from daemon import BINARY, event
from postgres import Forwarder, has_rows, ship_to

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")


@pytest.mark.parametrize("keys, words", [
    ({"url": "postgresql://owner:{password}@127.0.0.1/x"}, "a password"),
    ({"url": "postgresql://owner@127.0.0.1/x?password={password}"}, "a password"),
    ({"url": "postgresql://owner@127.0.0.1/x?pass%77ord={password}"}, "a password"),
    ({"url": "mysql://owner@127.0.0.1/x"}, "a libpq URI"),
    ({"url": "postgresql://owner@127.0.0.1/x?nonsense=1"}, "cannot parse"),
    ({"password_file": "/nowhere"}, "password_file: /nowhere: No such file"),
    ({"url": "postgres://owner:{password}@127.0.0.1/x"}, "a password"),
    ({"receiver": "a name"}, "is not a name of letters"),
    ({"receiver": 65 * "n"}, "is not a name of letters"),
])
def test_settings_that_cannot_work(make_daemon, server, keys, words):
    one = make_daemon()
    ship_to(one, server, **{key: text.format(password=postgres.PASSWORD) for key, text in keys.items()})
    for command in ("forward", "check"):
        done = daemon.run(BINARY, command, "-c", one.config)
        assert done.returncode == 1 and words in done.stderr, done
        key, = keys
        lines = one.config.read_text().splitlines()
        line = next(number for number, text in enumerate(lines, 1) if text.startswith(f"{key} ="))
        assert f"{one.config}:{line}: [forward] {key}: " in done.stderr, done
        assert postgres.PASSWORD not in done.stdout + done.stderr, done


@pytest.mark.parametrize("arguments, words", [
    ([], "-c FILE is needed"), (["-c", "x", "--since", "1"], "require --verify"),
    (["-c", "x", "--verify", "--until", "soon"], "Unix time"),
    (["-c", "x", "--verify", "--since", "1.5"], "Unix time"), (["-c", "x", "--verbose"], "no option"),
])
def test_wrong_usage(arguments, words):
    done = daemon.run(BINARY, "forward", *arguments)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done


def test_without_a_url(make_daemon):
    done = daemon.run(BINARY, "forward", "-c", make_daemon().config)
    assert done.returncode == 1 and "[forward] url is missing" in done.stderr, done


def test_named_like_its_host(make_daemon, server, forward):
    one = make_daemon()
    ship_to(one, server)
    text = one.config.read_text()
    assert "receiver = a\n" in text
    one.config.write_text(text.replace("receiver = a\n", ""))
    one.start()
    assert one.post().status == 200
    forward(one)
    has_rows(server, 1)
    assert server.value("SELECT receiver FROM destroyed_group") == socket.gethostname()


def test_what_is_unwise_is_logged(make_daemon, server, forward):
    one = make_daemon()
    readable = one.directory / "password"
    readable.write_text(postgres.PASSWORD)
    readable.chmod(0o644)
    ship_to(one, server, url=f"postgresql://owner@db.invalid:{server.port}/x", password_file=readable)
    one.start()
    forwarder = forward(one)
    forwarder.wait_logged("sslmode=prefer does not verify the destination's identity")
    forwarder.wait_logged("every user of this machine can read")
    forwarder.stop()


def test_without_the_right_to_make_tables(make_daemon, server, forward):
    server.execute(f"CREATE ROLE guest LOGIN PASSWORD '{postgres.PASSWORD}'")
    one = make_daemon()
    ship_to(one, server, url=server.url().replace("owner@", "guest@"))
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    forwarder.wait_logged("the tables cannot be created in the destination: the destination reports ")
    server.execute(f"GRANT ALL ON SCHEMA {server.schema} TO guest")
    has_rows(server, 1)
    forwarder.stop()
    server.execute("DROP OWNED BY guest; DROP ROLE guest")


def test_check_and_serve_need_no_destination(make_daemon, server):
    one = make_daemon()
    ship_to(one, server)
    assert "[forward] url" not in daemon.run(BINARY, "check", "-c", one.config).stderr
    ship_to(one, server, url=f"postgresql://owner@127.0.0.1:{daemon.free_port()}/x")
    done = daemon.run(BINARY, "check", "-c", one.config)
    assert done.returncode == 0 and "[forward] url: cannot connect" in done.stderr, done
    one.start()
    assert one.post().status == 200


def test_a_wrong_password_is_not_told(make_daemon, server, forward):
    one = make_daemon()
    wrong = one.directory / "password"
    wrong.write_text("wrong-" + postgres.PASSWORD)
    wrong.chmod(0o600)
    ship_to(one, server, password_file=wrong)
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    forwarder.wait_logged("password authentication failed")
    wrong.write_text(postgres.PASSWORD + "\n")  # read anew for each try
    has_rows(server, 1)


def test_a_password_for_the_forwarder_alone(make_daemon, server):
    """As a credential of its service, which the receiver and a `check` by hand cannot look up."""
    one = make_daemon()
    ship_to(one, server, password_file="$CREDENTIALS_DIRECTORY/" + server.password_file.name)
    done = daemon.run(BINARY, "check", "-c", one.config)
    assert done.returncode == 0 and "only the forward service must be able to read" in done.stderr, done
    one.start()
    assert one.post().status == 200
    done = daemon.run(BINARY, "forward", "-c", one.config)
    assert done.returncode == 1 and "CREDENTIALS_DIRECTORY is not set" in done.stderr, done
    forwarder = Forwarder(one).start({"CREDENTIALS_DIRECTORY": str(server.password_file.parent)})
    try:
        has_rows(server, 1)
    finally:
        forwarder.stop()


def test_tls_is_verified(make_daemon, server, forward):
    one = make_daemon()
    for name in ("certificate.pem", "key.pem"):
        copy = server.directory / name
        shutil.copy(one.directory / name, copy)
        if os.geteuid() == 0:
            os.chown(copy, postgres.unprivileged()["user"], postgres.unprivileged()["group"])
        copy.chmod(0o600)
    server.execute(f"ALTER SYSTEM SET ssl_cert_file = '{server.directory}/certificate.pem'")
    server.execute(f"ALTER SYSTEM SET ssl_key_file = '{server.directory}/key.pem'")
    server.execute("ALTER SYSTEM SET ssl = on")
    server.execute("SELECT pg_reload_conf()")
    one.start()
    assert one.post().status == 200
    try:
        daemon.eventually(lambda: server.psql("-c", "SELECT 1", "-d", f"dbname={server.database} sslmode=require"
                                              ).returncode == 0, "TLS")
        other = make_daemon()
        ship_to(one, server, url=server.url(sslmode="verify-full", sslrootcert=other.directory / "certificate.pem"))
        forwarder = forward(one)
        forwarder.wait_logged("certificate verify failed")
        forwarder.stop()
        ship_to(one, server, url=server.url(sslmode="verify-full", sslrootcert=one.directory / "certificate.pem"))
        forward(one)
        has_rows(server, 1)
    finally:
        server.execute("ALTER SYSTEM RESET ALL")
        server.execute("SELECT pg_reload_conf()")
