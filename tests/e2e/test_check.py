"""Tests the faults that `check` and `serve` report, `sign`, `certificate`, and wrong usage of the command line."""

import hashlib
import os
import re
import stat
import time

import pytest

import daemon
from certificates import make_dated_certificate
from daemon import APP, BINARY, TOKEN


def check(one, *arguments):
    done = daemon.run(BINARY, "check", "-c", one.config, *arguments)
    assert TOKEN not in done.stdout + done.stderr
    return done


def refused(one, place, *words):
    """Asserts that `check` exits with 1 and prints one line with the place (a pattern) and the words, and that `serve`
    exits with 1 and logs such a line."""
    done = check(one)
    assert (done.returncode, done.stdout) == (1, ""), done
    served = daemon.run(BINARY, "serve", "-c", one.config)
    assert served.returncode == 1, served
    (printed,) = done.stderr.splitlines()
    (logged,) = [line for line in served.stderr.splitlines() if line.startswith("<3>")]
    for line in (printed, logged):
        assert re.search(f"{re.escape(str(one.config))}:?{place}", line), line
        for word in words:
            assert word in line, line


def line_of(one, text):
    """Returns the number of the first line of the configuration that starts with the text."""
    lines = one.config.read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(text))


def test_prints_the_effective_configuration(make_daemon):
    one = make_daemon({"listen": {"threads": 2}, "limits": {"body": "1M"}}, {APP: [TOKEN], 1400000002: []})
    done = check(one)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    for line in ("[listen]", "address = 127.0.0.1", "threads = 2", "path = /", "body = 1M", "idle_timeout = 300s",
                 "other_commands = reject", "keep_body = no", f"database = {one.database}", f"[app {APP}]",
                 "request_time_window = 60s", "[app 1400000002]", "level = info", "format = text"):
        assert line in shown, done.stdout
    assert "1400000002" in done.stderr or "token_file" in done.stderr  # a warning that this app needs no signature
    assert not one.database.exists()  # `check` creates nothing


def test_prints_a_valid_configuration(fresh):
    printed = check(fresh).stdout
    fresh.write_text(printed)
    assert check(fresh).stdout == printed
    fresh.start()
    assert fresh.post().status == 200


def test_check_works_while_the_daemon_runs(shared):
    assert check(shared).returncode == 0
    assert shared.post().status == 200


# The following tests have one case of each kind. The unit tests of the configuration have more cases.

@pytest.mark.parametrize("section, key, value, word", [
    ("listen", "port", "65536", "65535"), ("listen", "port", "https", ""), ("listen", "port", "", ""),
    ("listen", "address", "localhost", ""), ("listen", "path", "/a?b", ""), ("limits", "body", "1023", "1024"),
    ("limits", "body", "4MB", ""), ("limits", "idle_timeout", "300", ""), ("limits", "store_wait", "2h", "3600s"),
    ("callback", "other_commands", "ignore", "acknowledge"), ("store", "keep_body", "maybe", ""),
    ("store", "retention", "400", "forever"), (f"app {APP}", "request_time_window", "99999d", ""),
    (f"app {APP}", "token_file", "/not/there", "No such file"), ("tls", "certificate", "/not/there", "No such file"),
    ("tls", "private_key", "/not/there", "No such file"), ("listen", "prot", "1", ""),
])
def test_refuses_a_bad_value(make_daemon, section, key, value, word):
    one = make_daemon({section: {key: value}})
    refused(one, f"{line_of(one, key + ' =')}: ", key, section if word != "" else "", word)


@pytest.mark.parametrize("text, words", [
    ("nonsense", []), ("[nonsense]", ["nonsense"]), ("[store] keep_body = yes", ["neither [section] nor key = value"]),
    ("x" * 5000 + " = 1", []), (f"[app {APP}]", [str(APP), "twice"]), (f"[app {2**64}]", ["app"]),
])
def test_refuses_a_bad_line(fresh, text, words):
    lines = fresh.config.read_text().splitlines()
    fresh.write_text("\n".join([*lines, text, ""]))
    refused(fresh, f"{len(lines) + 1}: ", *words)


@pytest.mark.parametrize("pattern, words", [
    ("^certificate = .*$", ["[tls]", "certificate"]), ("^private_key = .*$", ["[tls]", "private_key"]),
    (r"^(?=\[app|token_file)", ["[app"]),
])
def test_refuses_a_missing_part(fresh, pattern, words):
    fresh.write_text(re.sub(f"(?m){pattern}", "# ", fresh.config.read_text()))
    refused(fresh, "", *words)


def test_names_a_configuration_that_does_not_exist():
    done = daemon.run(BINARY, "check", "-c", "/not/there.conf")
    assert done.returncode == 1 and "/not/there.conf: No such file" in done.stderr


# The files that the configuration names

def test_refuses_a_key_of_another_certificate(make_daemon):
    one = make_daemon()
    daemon.make_certificate(one.directory, *["-newkey", "rsa:2048"], name="other.pem")  # overwrites key.pem
    refused(one, f"{line_of(one, 'private_key')}: ", "[tls] private_key")


@pytest.mark.parametrize("name, key", [("certificate.pem", "certificate"), ("key.pem", "private_key")])
@pytest.mark.parametrize("content", ["", "nonsense\n",
                                     "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_refuses_a_file_that_is_not_pem(make_daemon, name, key, content):
    one = make_daemon()
    (one.directory / name).write_text(content)
    refused(one, f"{line_of(one, key)}: ", f"[tls] {key}")


DAY = 24 * 3600


@pytest.mark.parametrize("start_s, end_s, words", [
    (-9 * DAY, -DAY, "expired on {end}, so callers reject it"),
    (-DAY, 9 * DAY, "expires on {end}; renew it"),
    (DAY, 900 * DAY, "not valid yet"),
])
def test_warns_of_a_certificate_outside_of_its_validity(make_daemon, start_s, end_s, words):
    one = make_daemon()
    start, end = (time.gmtime(time.time() + seconds) for seconds in (start_s, end_s))
    make_dated_certificate(one.directory, *(time.strftime("%Y%m%d%H%M%SZ", at) for at in (start, end)))
    words = words.format(end=time.strftime("%Y-%m-%d", end))
    done = check(one)
    assert done.returncode == 0 and words in done.stderr, done
    assert f"{one.config}:{line_of(one, 'certificate')}: [tls] certificate: " in done.stderr
    one.start()
    assert any(line.startswith("<4>") and words in line for line in one.lines)
    assert one.post(curl=["--insecure"]).status == 200


@pytest.mark.parametrize("content, word", [
    ("", "empty"), ("one\ntwo\nthree\n", "two"), ("one\nzw\u00f6lf\n", "line 2"), ("nul\0byte\n", ""),
    ("x" * 5000, ""), ("one\rtwo\rthree", "two"),
])
def test_refuses_a_bad_token_file(make_daemon, content, word):
    one = make_daemon()
    (one.directory / f"token-{APP}").write_text(content)
    refused(one, f"{line_of(one, 'token_file')}: ", f"[app {APP}] token_file", word)


@pytest.mark.parametrize("content", [TOKEN, TOKEN + "\n", TOKEN + "\r\n", f"old\r\n{TOKEN}", f"old\n{TOKEN}\n"])
def test_accepts_a_token_file(fresh, content):
    (fresh.directory / f"token-{APP}").write_bytes(content.encode())
    fresh.start()
    assert fresh.post().status == 200


def test_warns_of_a_token_file_that_every_user_can_read(make_daemon):
    one = make_daemon()
    assert "chmod" not in check(one).stderr
    (one.directory / f"token-{APP}").chmod(0o644)
    done = check(one)
    assert done.returncode == 0 and "chmod" in done.stderr


def test_expands_the_credentials_directory(make_daemon):
    one = make_daemon({f"app {APP}": {"token_file": "$CREDENTIALS_DIRECTORY/token"},
                       "tls": {"private_key": "${CREDENTIALS_DIRECTORY}/secret"}})
    credentials = one.directory / "credentials"
    credentials.mkdir()
    (one.directory / f"token-{APP}").rename(credentials / "token")
    (one.directory / "key.pem").rename(credentials / "secret")
    refused(one, r"\d+: ", "CREDENTIALS_DIRECTORY")
    one.start(environment={"CREDENTIALS_DIRECTORY": str(credentials)})
    assert one.post().status == 200


# The store

def move_database(one, path):
    """Sets [store] database. Returns a pattern for the line number that an error must state."""
    one.write_text(one.config.read_text().replace(str(one.database), str(path)))
    return f"{line_of(one, 'database')}: "


@pytest.mark.parametrize("path, word", [
    ("missing/callbacks.db", "missing"), ("imcallbackd.conf/callbacks.db", ""), ("", "")])
def test_refuses_an_impossible_database(fresh, path, word):
    refused(fresh, move_database(fresh, fresh.directory / path), "[store] database", word)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write to every directory")
def test_refuses_a_directory_that_is_not_writable(fresh):
    (fresh.directory / "closed").mkdir(mode=0o500)
    refused(fresh, move_database(fresh, fresh.directory / "closed" / "callbacks.db"), "[store] database")


@pytest.mark.parametrize("content, words", [
    ("PRAGMA user_version = 2", ["user_version", "2"]), ("CREATE TABLE other (x)", []), ("Dear diary, " * 100, []),
], ids=["newer", "of another program", "not a database"])
def test_refuses_a_foreign_database_and_leaves_it_unchanged(fresh, content, words):
    if "user_version" in words:
        fresh.start()
        fresh.stop()
    if content.startswith("Dear"):
        fresh.database.write_text(content)
    else:
        assert daemon.run("sqlite3", fresh.database, content).returncode == 0
    before = fresh.database.read_bytes()
    refused(fresh, f"{line_of(fresh, 'database')}: ", "[store] database", *words)
    assert fresh.database.read_bytes() == before


# sign

def test_sign_prints_the_query_parameters(fresh):
    done = daemon.run(BINARY, "sign", "-c", fresh.config, "--time", "1669872112")
    assert done.stdout == ("Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061"
                           "&RequestTime=1669872112\n")
    now = int(time.time())
    sign, at = re.fullmatch(r"Sign=([0-9a-f]{64})&RequestTime=(\d+)\n",
                            daemon.run(BINARY, "sign", "-c", fresh.config).stdout).groups()
    assert now <= int(at) <= now + 10
    assert sign == hashlib.sha256((TOKEN + at).encode()).hexdigest()


def test_sign_uses_the_last_token_of_the_chosen_app(make_daemon):
    one = make_daemon(apps={APP: [TOKEN], 1400000002: ["old", "new"], 1400000003: []})
    done = daemon.run(BINARY, "sign", "-c", one.config, "--app", 1400000002, "--time", "7")
    assert done.stdout == f"Sign={hashlib.sha256(b'new7').hexdigest()}&RequestTime=7\n"
    for arguments, word in (([], "--app"), (["--app", 1400000003], "token_file"), (["--app", "1"], "[app 1]")):
        done = daemon.run(BINARY, "sign", "-c", one.config, *arguments)
        assert (done.returncode, done.stdout) == (1, "") and word in done.stderr


# certificate

def test_certificate_covers_all_hosts_and_overwrites_nothing(tmp_path):
    out = tmp_path / "new"
    arguments = ["certificate", "--host", "example.org", "--host", "*.example.org", "192.0.2.7", "::1", "--out", out]
    done = daemon.run(BINARY, *arguments)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((out / "key.pem").stat().st_mode) == 0o600
    shown = daemon.run("openssl", "x509", "-in", out / "certificate.pem", "-noout", "-ext", "subjectAltName").stdout
    for name in ("DNS:example.org", "DNS:*.example.org", "IP Address:192.0.2.7", "IP Address:0:0:0:0:0:0:0:1"):
        assert name in shown
    assert daemon.run("openssl", "verify", "-CAfile", out / "certificate.pem", out / "certificate.pem").returncode == 0
    before = [(out / name).read_bytes() for name in ("key.pem", "certificate.pem")]
    again = daemon.run(BINARY, *arguments)
    assert again.returncode == 1 and "key.pem" in again.stderr
    (out / "key.pem").unlink()
    again = daemon.run(BINARY, *arguments)
    assert again.returncode == 1 and "certificate.pem" in again.stderr
    assert not (out / "key.pem").exists() and (out / "certificate.pem").read_bytes() == before[1]


@pytest.mark.parametrize("host", ["a,DNS:evil.org", "a b", "", "a/b"])
def test_certificate_refuses_an_invalid_host(tmp_path, host):
    done = daemon.run(BINARY, "certificate", "--host", host, "--out", tmp_path / "new")
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# The command line

@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["serve"], ["check"], ["sign"], ["certificate"], ["serve", "-c"], ["serve", "-x"],
    ["serve", "-c", "a", "b"], ["check", "-c", "a", "-c", "b"], ["serve", "nonsense"], ["certificate", "--host", "a"],
    ["certificate", "--out", "a"], ["sign", "-c", "a", "--time", "now"], ["sign", "-c", "a", "--time", "-1"],
    ["sign", "-c", "a", "--time", "123456789012"], ["export"], ["certificate", "--nonsense"],
    ["check", "-c", "-c", "x"], ["sign", "--app"],
])
def test_wrong_usage_exits_with_2_and_one_line(arguments):
    done = daemon.run(BINARY, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"imcallbackd[^\n]*--help\n", done.stderr), done.stderr


def test_prints_help_and_version():
    overview = daemon.run(BINARY, "--help")
    assert overview.returncode == 0 and overview.stderr == ""
    for command, option in (("serve", "-c"), ("check", "-c"), ("sign", "--time"), ("certificate", "--host")):
        assert command in overview.stdout
        shown = daemon.run(BINARY, command, "--help")
        assert shown.returncode == 0 and option in shown.stdout and shown.stderr == ""
    version = daemon.run(BINARY, "--version").stdout
    assert re.fullmatch(r"imcallbackd \d+\.\d+\.\d+\nforward: (yes|no)\ndeliver: (yes|no)\nsystemd: (yes|no)\n"
                        r"(\w+: \d[\w.~-]*\n)+", version)


@pytest.mark.parametrize("name, library", [
    ("libmicrohttpd", "libmicrohttpd"), ("GnuTLS", "gnutls"), ("OpenSSL", "libcrypto"), ("SQLite", "sqlite3"),
    ("cJSON", "libcjson"), ("libcurl", "libcurl"), ("libpq", "libpq")])
def test_version_names_the_libraries(name, library):
    """On the machine that built the program, it runs with the libraries of the build."""
    built_with = daemon.run("pkg-config", "--modversion", library)
    if built_with.returncode != 0:
        pytest.skip(f"{library} is not installed")
    shown = dict(line.split(": ") for line in daemon.run(BINARY, "--version").stdout.splitlines()[1:])
    assert shown[name] == built_with.stdout.strip()
