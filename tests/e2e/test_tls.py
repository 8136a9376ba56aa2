"""Tests TLS: every kind of key, resumption, client certificates, failed handshakes, and the refusal of old versions and
weak algorithms."""

import contextlib
import re
import socket
import ssl
import statistics
import subprocess
import threading
import time

import pytest

import daemon
from certificates import P_256, RSA_2048, make_signed
from processes import memory_bytes, unread_bytes

RSA_3072 = ("-newkey", "rsa:3072")
P_384 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384")
P_521 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521")
ED25519 = ("-newkey", "ed25519")
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# OpenSSL 3.5 and later print the whole signature scheme. These are the shorter names that older versions print.
KINDS = {"rsa_pkcs1": "RSA", "rsa_pss_rsae": "RSA-PSS", "ecdsa_secp256r1": "ECDSA", "ecdsa_secp384r1": "ECDSA",
         "ecdsa_secp521r1": "ECDSA"}
CLOSING = ["Connection: close"]


def s_client(one, *options, send=b""):
    """Runs OpenSSL's client until the server closes the connection. Returns its exit status and its output."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{one.port}", "-servername", "localhost",
                           "-CAfile", one.directory / "certificate.pem", "-verify_return_error", "-ign_eof", *options],
                          input=send or b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, check=False)
    return done.returncode, done.stdout.decode("latin-1")


def context_of(one, version=None, client=None):
    """Returns a client context. version: the only TLS version, or None for all versions; client: the name of the client
    certificate, or None."""
    context = one.tls_context()
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if client:
        context.load_cert_chain(one.directory / f"{client}.pem", one.directory / f"{client}.key")
    return context


# Keys

@pytest.mark.parametrize("key, options, signature", [
    (RSA_2048, ("-tls1_2", "-sigalgs", "RSA+SHA256"), "SHA256 RSA"),
    (RSA_2048, ("-tls1_2", "-sigalgs", "RSA+SHA384"), "SHA384 RSA"),
    (RSA_2048, ("-tls1_2", "-sigalgs", "rsa_pss_rsae_sha256"), "SHA256 RSA-PSS"),
    (RSA_2048, ("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"), "SHA256 RSA-PSS"),
    (RSA_2048, ("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha384"), "SHA384 RSA-PSS"),
    (RSA_3072, ("-tls1_2", "-sigalgs", "RSA+SHA256"), "SHA256 RSA"),
    (RSA_3072, ("-tls1_2", "-sigalgs", "rsa_pss_rsae_sha256"), "SHA256 RSA-PSS"),
    (RSA_3072, ("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"), "SHA256 RSA-PSS"),
    (P_256, ("-tls1_2",), "SHA256 ECDSA"),
    (P_256, ("-tls1_3",), "SHA256 ECDSA"),
    (P_384, ("-tls1_2", "-sigalgs", "ECDSA+SHA384"), "SHA384 ECDSA"),
    (P_384, ("-tls1_3",), "SHA384 ECDSA"),
    (P_521, ("-tls1_2",), "SHA256 ECDSA"),
    (P_521, ("-tls1_3",), "SHA512 ECDSA"),
    (ED25519, ("-tls1_2",), " ed25519"),
    (ED25519, ("-tls1_3",), " ed25519"),
], ids=lambda value: "-".join(value).replace("-newkey-", "") if isinstance(value, tuple) else None)
def test_signs_with_every_kind_of_key(fresh, key, options, signature):
    daemon.make_certificate(fresh.directory, *key)
    fresh.start()
    status, text = s_client(fresh, *options, send=daemon.request(daemon.event(), headers=CLOSING))
    assert status == 0 and "Verify return code: 0 (ok)" in text, text
    digest, kind = (re.search(f"Peer {what}: (.*)", text) for what in ("signing digest", "signature type"))
    assert f"{digest[1] if digest else ''} {KINDS.get(kind[1].rpartition('_')[0], kind[1])}" == signature, text
    assert re.search(r"Cipher is (TLS_|ECDHE-\w+-)(AES_?\d+[-_]GCM|CHACHA20)", text), text
    assert "HTTP/1.1 200 " in text and len(fresh.groups("@TGS#1")) == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_works_with_the_generated_certificate(one, version):
    """Uses a certificate that `imcallbackd certificate` created."""
    with one.connect(context_of(one, version)) as connection:
        assert connection.tls.version() == f"TLSv{version}"
        assert connection.call("tls").status == 200


def test_sends_the_whole_chain(fresh):
    """The server sends all certificates of its file, so that a client needs only the root."""
    make_signed(fresh.directory, "root")
    make_signed(fresh.directory, "intermediate", "root")
    make_signed(fresh.directory, "leaf", "intermediate", "subjectAltName=DNS:localhost")
    chain = b"".join((fresh.directory / f"{name}.pem").read_bytes() for name in ("leaf", "intermediate"))
    (fresh.directory / "certificate.pem").write_bytes(chain)
    (fresh.directory / "key.pem").write_bytes((fresh.directory / "leaf.key").read_bytes())
    fresh.start()
    with fresh.connect(ssl.create_default_context(cafile=fresh.directory / "root.pem")) as connection:
        assert connection.call("tls").status == 200


# Versions and algorithms

@pytest.mark.parametrize("key, options", [
    *((key, (version, "-cipher", "ALL:@SECLEVEL=0")) for key in (RSA_2048, P_256, P_521, ED25519)
      for version in ("-tls1", "-tls1_1")),
    (P_256, ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256")),
    (P_256, ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA:@SECLEVEL=0")),
    (P_256, ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM")),
    (P_256, ("-tls1_2", "-cipher", "aNULL:@SECLEVEL=0")),
    (P_256, ("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256")),
    (P_256, ("-tls1_3", "-groups", "P-521")),
    (RSA_2048, ("-tls1_2", "-cipher", "ECDHE-RSA-AES128-SHA256")),
    (RSA_2048, ("-tls1_2", "-cipher", "AES128-GCM-SHA256")),
    (RSA_2048, ("-tls1_2", "-cipher", "AES256-SHA256")),
    (RSA_2048, ("-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256")),
    (RSA_2048, ("-tls1_2", "-sigalgs", "RSA+SHA1", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0")),
], ids=lambda value: " ".join(value))
def test_refuses_old_and_weak_algorithms(fresh, key, options):
    daemon.make_certificate(fresh.directory, *key)
    fresh.start()
    status, text = s_client(fresh, *options)
    assert status != 0 and "HTTP/1.1" not in text, text
    assert re.search(r"has read 0 bytes and written \d{2,} bytes", text), text  # the client sent its hello


@pytest.mark.parametrize("after_a_request", [False, True])
def test_refuses_renegotiation(one, after_a_request):
    """The daemon closes the connection without close_notify."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{one.port}", "-tls1_2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        if after_a_request:
            client.stdin.write(daemon.request(daemon.event()))
            client.stdin.flush()
            daemon.eventually(one.groups, "the event of the first request")
        client.stdin.write(b"R\n")  # s_client reads a single R as a command
        client.stdin.flush()
        text = client.stdout.read().decode("latin-1")  # until the server closes
    assert "RENEGOTIATING" in text and not re.search("^closed", text, re.MULTILINE), text
    assert client.returncode != 0


@pytest.mark.parametrize("offered, chosen", [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), ([], None)])
def test_negotiates_http_1_1(shared, offered, chosen):
    context = shared.tls_context()
    if offered:
        context.set_alpn_protocols(offered)
    with shared.connect(context) as connection:
        assert connection.tls.selected_alpn_protocol() == chosen
        assert connection.call("tls").status == 200


@pytest.mark.parametrize("query, path, status", [(None, "/", 200), ("", "/", 403), ("", "/elsewhere", 404)])
def test_sends_strict_transport_security(shared, query, path, status):
    answer = shared.post(query=query, path=path)
    assert answer.status == status
    assert int(re.fullmatch(r"max-age=(\d+)", answer.headers["strict-transport-security"])[1]) >= 180 * 24 * 3600


# Resumption

@pytest.mark.parametrize("version", VERSIONS)
def test_openssl_reuses_a_session(make_daemon, version):
    one = make_daemon({"listen": {"threads": 2}}).start()
    session = one.directory / "session"
    options = (f"-tls{version.replace('.', '_')}", "-sess_out", session)
    for turn, said in enumerate(("New", "Reused", "Reused")):
        request = daemon.request(daemon.event(GroupId=f"turn-{turn}"), headers=CLOSING)
        status, text = s_client(one, *options, *(("-sess_in", session) if turn else ()), send=request)
        assert status == 0 and f"{said}, TLSv{version}, Cipher is" in text, text
        assert "HTTP/1.1 200 " in text
    assert one.group_ids() == ["turn-0", "turn-1", "turn-2"]


def resume(one, context, session=None):
    """Sends a callback on a new connection. Returns whether the session was resumed, and the session to resume next."""
    with one.connect(context, session=session) as connection:
        assert connection.call("tls").status == 200
        return connection.tls.session_reused, connection.tls.session


@pytest.mark.parametrize("version", VERSIONS)
def test_resumes_sessions_on_other_threads(make_daemon, version):
    one = make_daemon({"listen": {"threads": 2}}).start()
    context = context_of(one, version)
    _, session = resume(one, context)
    # While the first connection is open, the next one goes to the other thread.
    for _ in range(3):
        with one.connect(context, session=session) as first, one.connect(context, session=session) as second:
            assert first.tls.session_reused and second.tls.session_reused
            assert first.call("first").status == second.call("second").status == 200
            session = second.tls.session


@pytest.mark.parametrize("version", VERSIONS)
def test_resumes_sessions_after_a_reload(one, version):
    context = context_of(one, version)
    _, session = resume(one, context)
    for _ in range(3):
        one.reload()
        reused, session = resume(one, context, session)
        assert reused


@pytest.mark.parametrize("version", VERSIONS)
def test_resumes_no_session_of_another_client_ca(fresh, version):
    """A ticket must not admit a client without a certificate, or with a certificate of the old CA."""
    for ca in ("ca-1", "ca-2"):
        make_signed(fresh.directory, ca)
        make_signed(fresh.directory, f"client-{ca}", ca)
        file = fresh.directory / f"{ca}.pem"
        file.write_text(file.read_text().ljust(4096, "\n"))  # so that both files have the same length
    fresh.start()
    context = context_of(fresh, version)
    _, session = resume(fresh, context)
    for ca in ("ca-1", "ca-2"):
        fresh.reload({"tls": {"client_ca": fresh.directory / f"{ca}.pem"}})
        assert is_refused(fresh, context, session=session)
        context.load_cert_chain(fresh.directory / f"client-{ca}.pem", fresh.directory / f"client-{ca}.key")
        reused, session = resume(fresh, context, session)
        assert not reused
        reused, session = resume(fresh, context, session)
        assert reused
    assert len(fresh.groups()) == 1


# Client certificates

def is_refused(one, context, **options):
    """Returns whether the handshake fails. With TLS 1.3 the client notices the failure only when it reads."""
    try:
        with one.connect(context, **options) as connection:
            connection.send(daemon.request(daemon.event(GroupId="of a refused client")))
            return connection.is_closed()
    except (ConnectionError, ssl.SSLError):
        return True


@pytest.mark.parametrize("version", VERSIONS)
def test_accepts_only_certificates_of_the_client_ca(fresh, version):
    make_signed(fresh.directory, "ca")
    make_signed(fresh.directory, "other-ca")
    make_signed(fresh.directory, "right", "ca")
    make_signed(fresh.directory, "right-purpose", "ca", "extendedKeyUsage=clientAuth")
    make_signed(fresh.directory, "server", "ca", "extendedKeyUsage=serverAuth")
    make_signed(fresh.directory, "wrong", "other-ca")
    make_signed(fresh.directory, "self-signed")
    fresh.write_config({"tls": {"client_ca": fresh.directory / "ca.pem"}})
    fresh.start()
    for client in (None, "server", "wrong", "self-signed"):
        assert is_refused(fresh, context_of(fresh, version, client)), client
    assert fresh.groups() == []
    for client in ("right", "right-purpose"):
        with fresh.connect(context_of(fresh, version, client)) as connection:
            assert connection.call(f"of {client}").status == 200
    assert fresh.group_ids() == ["of right", "of right-purpose"]


# Failed handshakes

@pytest.mark.parametrize("level", ["info", "debug"])
def test_logs_failed_handshakes(make_daemon, level):
    """One failure per interval is logged at level info, and the others at level debug. A client that connects and
    closes without sending a byte is not logged."""
    one = make_daemon({"log": {"level": level}}).start()
    stranger = ssl.create_default_context()
    failures = 5
    for version in (*VERSIONS, None):
        for _ in range(failures):
            if version:
                stranger.minimum_version = stranger.maximum_version = VERSIONS[version]
                assert is_refused(one, stranger)
            else:
                socket.create_connection(("127.0.0.1", one.port)).close()
    with socket.create_connection(("127.0.0.1", one.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.recv(1)
    expected = 2 * failures + 1

    def logged(prefix):
        return [line for line in one.lines if line.startswith(f"{prefix}TLS handshake with 127.0.0.1 failed")]

    if level == "debug":
        daemon.eventually(lambda: len(logged("<7>")) + len(logged("<6>")) == expected, "a line for each")
    one.stop()
    assert (len(logged("<6>")), len(logged("<7>"))) == (1, expected - 1 if level == "debug" else 0), one.log


def test_buffers_no_handshake_message_of_16_mib(make_daemon):
    """The client announces a large message and sends as much as the daemon accepts. GnuTLS alone would buffer the whole
    message."""
    one = make_daemon({"limits": {"request_timeout": "1h"}}).start()
    full_record = b"\x16\x03\x01\x40\x00"
    before = memory_bytes(one.process.pid)
    for _ in range(4):
        with one.connect_plain() as plain:
            with pytest.raises(ConnectionError):
                plain.sendall(full_record + b"\x01\xff\xff\xff" + b"x" * 16380)
                for _ in range(1000):
                    plain.sendall(full_record + b"x" * 16384)
    print(f"{(memory_bytes(one.process.pid) - before) >> 10} KiB more")
    assert memory_bytes(one.process.pid) - before < 8 << 20


# Key update

@contextlib.contextmanager
def key_updater(one):
    """Runs OpenSSL's client, which updates its keys when it reads the line `k`, for START_DEADLINE seconds at most."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{one.port}", "-tls1_3", "-msg"]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    deadline = threading.Timer(daemon.START_DEADLINE, client.kill)
    deadline.start()
    try:
        assert any(b"read R BLOCK" in line for line in client.stdout)  # from here on, s_client accepts commands
        yield client
    finally:
        deadline.cancel()
        client.kill()
        client.wait()


@pytest.mark.parametrize("count", [1, 2])
def test_answers_a_request_after_a_key_update(make_daemon, count):
    """The key update and the request are in the kernel's buffer at once, so the kernel does not wake the daemon again
    for the request. The daemon reads the key updates of two clients in the same iteration of its loop."""
    one = make_daemon({"listen": {"threads": 1}, "limits": {"request_timeout": "1h"}}).start()
    names = [f"new key {i}" for i in range(count)]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(key_updater(one)) for _ in names]
        with one.paused():
            for client, name in zip(clients, names):
                for piece in (b"k\n", daemon.request(daemon.event(GroupId=name), headers=CLOSING)):
                    before = unread_bytes(one.port)
                    client.stdin.write(piece)
                    client.stdin.flush()
                    daemon.eventually(lambda: unread_bytes(one.port) > before, "unread bytes")
        for client in clients:
            assert b"HTTP/1.1 200 OK" in client.stdout.read()  # until the daemon closes
    assert sorted(one.group_ids()) == names


# Time

@pytest.mark.timing
@pytest.mark.parametrize("version", VERSIONS)
def test_first_request_does_not_wait_for_a_delayed_acknowledgement(one, version):
    """With Nagle's algorithm, the default, a client holds its first request back until the end of its handshake is
    acknowledged. The kernel would delay this acknowledgement by 40 ms, so the daemon makes the kernel send it at
    once."""
    context = context_of(one, version)
    times = []
    for i in range(21):
        started = time.monotonic()
        with one.connect(context) as connection:
            assert connection.call(f"alone-{i}").status == 200
        times.append((time.monotonic() - started) * 1000)
    median = statistics.median(times)
    print(f"TLS {version}: median {median:.1f} ms, fastest {min(times):.1f}, slowest {max(times):.1f}")
    assert median < 35
