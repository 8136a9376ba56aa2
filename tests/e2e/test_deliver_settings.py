"""Tests the settings of `deliver` that are rejected or cause a warning, `check`, and what deliver must not use:
proxies, other protocols, and credentials from the environment."""

import os
import re

import pytest

import daemon
from certificates import make_signed
from daemon import BINARY
from delivery import deliver_to, write_secret
from endpoint import OK, SECRET, status


@pytest.mark.parametrize("key, text, words", [
    ("url", "http://192.0.2.1/cb", "loopback"),
    ("url", "http://example.com/cb", "loopback"),
    ("url", "http://localhost.example.com/cb", "loopback"),
    ("url", "http://127.0.0.1.example.com/cb", "loopback"),
    ("url", "ftp://127.0.0.1/cb", "https://"),
    ("url", "file:///etc/passwd", "https://"),
    ("url", "127.0.0.1:8080/cb", "https://"),
    ("url", "https://", "https URL"),
    ("url", "https://user:geheim@127.0.0.1/cb", "user name"),
    ("url", "https://127.0.0.1/cb#part", "fragment"),
    ("url", "https://127.0.0.1:99999/", "the port in the URL is not a number from 1 to 65535"),
    ("url", "https://127.0.0.1:abc/", "the port in the URL is not a number from 1 to 65535"),
    ("url", "https://[zz]/cb", "IPv6"),
    ("url", "https://127.0.0.1/cb?CallbackCommand=x", "a parameter of the callback"),
    ("secret_file", "/nowhere", "secret_file: /nowhere: No such file"),
    ("ca_file", "/nowhere", "/nowhere"),
    ("client_certificate", "/nowhere", "client_"),
    ("timeout", "0s", "timeout"),
    ("in_flight", "0", "in_flight"),
    ("in_flight", "many", "in_flight"),
    ("give_up_after", "soon", "give_up_after"),
    ("admin_port", "65536", "admin_port"),
    ("nonsense", "1", "nonsense"),
])
def test_rejects_settings_with_file_and_line(fresh, unused_endpoint, key, text, words):
    deliver_to(fresh, unused_endpoint, **{key: text})
    lines = fresh.config.read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith(f"{key} ="))
    for command in ("deliver", "check"):
        done = daemon.run(BINARY, command, "-c", fresh.config)
        assert done.returncode == 1 and words in done.stderr, done
        assert f"{fresh.config}:{line}: [deliver] {key}: " in done.stderr or key == "nonsense", done
        assert "geheim" not in done.stdout + done.stderr, done


@pytest.mark.parametrize("text, words", [
    ("", "line 1 is"), ("geheim-0123456789\n", "whsec_"), ("whsec_g*heim\n", "base64"), ("whsec_\n", "secret"),
    (f"{SECRET}\n{SECRET}\n{SECRET}\n", "two"),
])
def test_rejects_secrets_without_showing_them(fresh, unused_endpoint, text, words):
    path = fresh.directory / "secret"
    path.write_text(text)
    path.chmod(0o600)
    deliver_to(fresh, unused_endpoint, secret_file=path)
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and words in done.stderr and "secret_file" in done.stderr, done
    assert not text.strip() or text.split()[0].removeprefix("whsec_") not in done.stderr or text == "whsec_\n", done


@pytest.mark.parametrize("arguments, words", [
    ([], "-c FILE is"), (["-c", "x", "--start-at", "then"], "now"), (["-c", "x", "--start-at"], "--start-at"),
    (["-c", "x", "--replay", "1", "--start-at", "now"], "--replay"), (["-c", "x", "--verbose"], "option"),
])
def test_wrong_usage_exits_with_2_and_one_line(arguments, words):
    done = daemon.run(BINARY, "deliver", *arguments)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done


def test_rejects_a_configuration_without_url(fresh):
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and "[deliver] url is missing" in done.stderr, done


def test_version_tells_that_deliver_is_built():
    assert "deliver: yes" in daemon.run(BINARY, "--version").stdout.splitlines()


# check

def test_check_says_what_it_found_and_sends_nothing(fresh, unused_endpoint):
    deliver_to(fresh, unused_endpoint)
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0, done
    assert re.search(r"connected to 127\.0\.0\.1, port \d+; the certificate is verified", done.stdout + done.stderr), done


def test_check_warns_of_an_endpoint_that_it_cannot_reach(fresh, endpoint):
    """The receiver must start while the endpoint is away, because events can wait. So `check` only warns."""
    deliver_to(fresh, endpoint)
    endpoint.stop()
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0 and "[deliver] url: " in done.stderr and "refused" in done.stderr, done
    deliver_to(fresh, endpoint, url="https://no-such-host.invalid/cb")
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0 and "no-such-host.invalid" in done.stderr, done
    fresh.start()
    assert fresh.post().status == 200


def test_check_warns_of_a_wrong_certificate(fresh, endpoint):
    deliver_to(fresh, endpoint, ca_file=endpoint.make_certificate("other")[0])
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0 and "[deliver] url: " in done.stderr and "certificate" in done.stderr, done


def test_check_warns_of_a_missing_directory_of_the_state(fresh, endpoint):
    """The unit creates the directory, but without the unit the operator must create it."""
    deliver_to(fresh, endpoint, state_file=fresh.directory / "absent" / "state")
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0, done
    assert f"[deliver] state_file: {fresh.directory}/absent: No such file or directory" in done.stderr, done
    assert "create the directory for the user of the service" in done.stderr, done
    deliver_to(fresh, endpoint)
    assert "state_file:" not in daemon.run(BINARY, "check", "-c", fresh.config).stderr


def test_check_masks_secrets(fresh, endpoint):
    deliver_to(fresh, endpoint, secret_file=write_secret(fresh, SECRET))
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0 and SECRET not in done.stdout + done.stderr, done


# Security

def test_plain_http_to_loopback_is_allowed(fresh, make_endpoint, deliver):
    endpoint = make_endpoint(tls=False)
    for host in ("127.0.0.1", "localhost"):
        deliver_to(fresh, endpoint, url=endpoint.url(host=host))
        if not fresh.process:
            fresh.start()
        fresh.record(host)
        deliverer = deliver(fresh)
        endpoint.wait_accepted(host)
        deliverer.stop()


def test_ignores_proxies_and_credentials_of_the_environment(fresh, endpoint, make_endpoint, deliver):
    """deliver must ignore the proxy variables and SSLKEYLOGFILE, which libcurl and its TLS library read, and the files
    ~/.netrc and ~/.curlrc."""
    proxy = make_endpoint(tls=False)
    (fresh.directory / ".netrc").write_text("machine 127.0.0.1 login user password geheim-17\n")
    (fresh.directory / ".curlrc").write_text(f"proxy = {proxy.url('')}\n")
    variables = {name: proxy.url("") for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")}
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliver(fresh, environment=variables | {"HOME": str(fresh.directory), "SSLKEYLOGFILE": str(
        fresh.directory / "keys"), "no_proxy": ""})
    (request,) = endpoint.wait_requests(1)
    assert "authorization" not in request.headers and proxy.requests() == []
    assert not (fresh.directory / "keys").exists()


def test_keeps_no_cookies_and_tells_its_name(fresh, endpoint, deliver):
    endpoint.answer(OK | {"headers": {"Set-Cookie": "a=b; Path=/", "Alt-Svc": 'h2="127.0.0.1:1"; ma=3600',
                                      "Strict-Transport-Security": "max-age=3600"}})
    deliver_to(fresh, endpoint, in_flight=1)
    fresh.start()
    fresh.record("g0", "g1")
    deliver(fresh)
    requests = endpoint.wait_requests(2)
    for request in requests:
        assert "cookie" not in request.headers and request.headers["user-agent"].startswith("imcallbackd/"), request


def test_presents_its_client_certificate(make_daemon, make_endpoint, deliver):
    one = make_daemon()
    make_signed(one.directory, "application-ca")
    make_signed(one.directory, "imcallbackd-client", "application-ca")
    endpoint = make_endpoint(client_ca=one.directory / "application-ca.pem")
    deliver_to(one, endpoint)
    one.start()
    one.record("g0")
    deliverer = deliver(one)
    deliverer.wait_logged("is sent again later")
    deliverer.stop()
    assert endpoint.requests() == []
    deliver_to(one, endpoint, client_certificate=one.directory / "imcallbackd-client.pem",
               client_key=one.directory / "imcallbackd-client.key")
    deliver(one)
    (request,) = endpoint.wait_requests(1)
    assert request.client == "imcallbackd-client"


@pytest.mark.parametrize("text", [
    "", "this is not PEM\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
])
def test_rejects_a_ca_file_without_a_certificate(fresh, unused_endpoint, text):
    path = fresh.directory / "ca.pem"
    path.write_text(text)
    deliver_to(fresh, unused_endpoint, ca_file=path)
    for command in ("deliver", "check"):
        done = daemon.run(BINARY, command, "-c", fresh.config)
        assert done.returncode == 1 and f"[deliver] ca_file: {path}: " in done.stderr, done
        assert "write CA certificates in PEM format into it" in done.stderr, done


def test_client_key_needs_a_certificate(fresh, unused_endpoint):
    make_signed(fresh.directory, "client")
    deliver_to(fresh, unused_endpoint, client_key=fresh.directory / "client.key")
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and "client_key" in done.stderr and "client_certificate" in done.stderr, done


def test_client_certificate_and_key_may_be_one_file(make_daemon, make_endpoint, deliver):
    one = make_daemon()
    make_signed(one.directory, "application-ca")
    make_signed(one.directory, "client", "application-ca")
    both = one.directory / "both.pem"
    both.write_text("".join((one.directory / name).read_text() for name in ("client.pem", "client.key")))
    endpoint = make_endpoint(client_ca=one.directory / "application-ca.pem")
    deliver_to(one, endpoint, client_certificate=both)
    one.start()
    one.record("g0")
    deliver(one)
    endpoint.wait_accepted("g0")


def test_never_asks_for_the_password_of_a_key(make_daemon, make_endpoint):
    """The question would stop the whole sender if it has a terminal."""
    one, endpoint = make_daemon(), make_endpoint()
    encrypted = one.directory / "encrypted.pem"
    daemon.check_run("openssl", "pkcs8", "-topk8", "-in", one.directory / "key.pem", "-out", encrypted,
                     "-passout", "pass:geheim")
    deliver_to(one, endpoint, client_certificate=one.directory / "certificate.pem", client_key=encrypted)
    done = daemon.run("script", "--quiet", "--return", "--command", f"{BINARY} check -c {one.config}", "/dev/null",
                      timeout=30)
    assert done.returncode == 0 and "the key must have no password" in done.stdout, done
    assert "pass phrase" not in done.stdout, done


def test_only_the_deliverer_needs_the_secret(fresh, endpoint, deliver):
    """Only the service of deliver gets the secret, as a credential of systemd. `serve` and a manual `check` must
    succeed without it."""
    path = write_secret(fresh, SECRET)
    deliver_to(fresh, endpoint, secret_file="$CREDENTIALS_DIRECTORY/" + path.name)
    done = daemon.run(BINARY, "check", "-c", fresh.config)
    assert done.returncode == 0 and "only the service that delivers must be able to read" in done.stderr, done
    fresh.start()
    fresh.record("g0")
    done = daemon.run(BINARY, "deliver", "-c", fresh.config)
    assert done.returncode == 1 and "CREDENTIALS_DIRECTORY is not set" in done.stderr, done
    deliver(fresh, environment={"CREDENTIALS_DIRECTORY": str(path.parent)})
    (request,) = endpoint.wait_requests(1)
    request.check_form(secrets=[SECRET])


def test_warns_of_a_secret_that_everyone_can_read(fresh, endpoint, deliver):
    path = write_secret(fresh, SECRET)
    path.chmod(0o644)
    deliver_to(fresh, endpoint, secret_file=path)
    fresh.start()
    deliver(fresh).wait_logged("every user of this machine can read")


def test_a_refused_credential_is_reported_with_the_status(fresh, endpoint, deliver):
    endpoint.answer(status(401, "who are you, geheim-17"))
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    deliverer.wait_logged("401")
    assert "geheim-17" not in deliverer.log


def test_runs_without_a_home_and_without_a_terminal(fresh, endpoint, deliver):
    """A service has no HOME, and its standard error is not a terminal, so deliver must not print a progress line."""
    deliver_to(fresh, endpoint)
    fresh.start()
    assert fresh.load(connections=20, total=300)[0] == 0
    deliverer = deliver(fresh, prefix=["env", "-u", "HOME"])
    endpoint.wait_requests(300)
    deliverer.stop()
    assert "\r" not in deliverer.log and os.linesep == "\n"
