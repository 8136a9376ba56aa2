"""Tests `deliver` with an endpoint that is away, does not answer, sends an incomplete or an endless answer, or presents
a wrong certificate. Also tests what the log and the metrics show in these cases."""

import contextlib
import os
import re
import socket
import struct
import threading
import time

import pytest

import daemon
from daemon import event
from delivery import Ledger, deliver_to, wait_delivered
from endpoint import FAIL, OK, fault, late, status
from monitoring import ask, metrics
from processes import memory_bytes
from test_monitoring import PROMTOOL

FAULTS = ["hang", "cut_before", "cut_in_head", "cut_in_body", "reset", "garbage", "endless_head", "drip"]


@pytest.mark.parametrize("name", FAULTS)
def test_retries_after_an_answer_that_is_not_complete(fresh, endpoint, deliver, name):
    """An incomplete answer must not count as an acceptance, even if its status is 200."""
    endpoint.answer(groups={"bad": [fault(name), fault(name), OK]})
    deliver_to(fresh, endpoint, timeout="1s")
    fresh.start()
    fresh.record("bad", "good")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("bad", "good")
    # There can be more requests, because libcurl itself repeats a request if a reused connection ends before the
    # answer.
    assert len(endpoint.requests("bad")) >= 3
    Ledger(fresh, endpoint).check()
    assert memory_bytes(deliverer.process.pid, "VmHWM") < 300 << 20


@pytest.mark.parametrize("code", [200, 500])
def test_stops_reading_an_answer_without_an_end(fresh, endpoint, deliver, code):
    """deliver reads 64 KiB of the body and closes the connection, long before the timeout. The status alone decides."""
    endpoint.answer(groups={"bad": [fault("endless") | {"status": code}, OK]})
    deliver_to(fresh, endpoint, timeout="60s")
    fresh.start()
    fresh.record("bad")
    deliverer = deliver(fresh)
    endpoint.wait_accepted("bad", deadline=30)
    daemon.eventually(lambda: len(endpoint.requests()) == (1 if code == 200 else 2), "the number of requests")
    Ledger(fresh, endpoint).check()
    assert memory_bytes(deliverer.process.pid, "VmHWM") < 300 << 20


@pytest.mark.parametrize("tls", [True, False])
def test_an_event_that_hangs_blocks_no_other(fresh, make_endpoint, deliver, tls):
    """The first request of all hangs. The others must not wait until it is known which version of HTTP it gets."""
    endpoint = make_endpoint(tls=tls)
    endpoint.answer(groups={f"slow{number}": [fault("hang"), OK] for number in range(3)})
    deliver_to(fresh, endpoint, timeout="20s", in_flight=4)
    fresh.start()
    fresh.record("slow0", "slow1", "slow2", *(f"g{number}" for number in range(20)))
    deliver(fresh)
    endpoint.wait_accepted(*(f"g{number}" for number in range(20)), deadline=15)
    assert not [group for group in endpoint.accepted() if group.startswith("slow")]
    wait_delivered(fresh, endpoint)


def test_waits_for_an_endpoint_that_is_away(fresh, endpoint, deliver):
    """The log has at most five lines about the refused connections, not one per attempt."""
    deliver_to(fresh, endpoint)
    endpoint.stop()
    fresh.start()
    fresh.record("g0", "g1")
    deliverer = deliver(fresh)
    deliverer.wait_logged("Connection refused")
    fresh.record("g2")
    endpoint.start()
    wait_delivered(fresh, endpoint)
    assert Ledger(fresh, endpoint).check() == 0
    deliverer.stop()
    assert len([line for line in deliverer.lines if "refused" in line]) <= 5, deliverer.log


def test_reports_changes_instead_of_events(fresh, endpoint, deliver):
    """200 events, many of which fail before they are accepted, cause fewer than 25 lines in the log."""
    endpoint.answer(mix=[(1, status(500)), (1, OK)])
    deliver_to(fresh, endpoint)
    fresh.start()
    assert fresh.load(connections=20, total=200)[0] == 0
    deliverer = deliver(fresh)
    endpoint.wait_requests(100)
    endpoint.answer()
    wait_delivered(fresh, endpoint, 120)
    deliverer.stop()
    assert "500" in deliverer.log
    assert len(deliverer.lines) < 25, deliverer.log


def test_survives_restarts_of_the_endpoint(fresh, endpoint, deliver):
    """If the endpoint is killed or closes its connections, at most the acceptances of the four requests in flight are
    lost."""
    endpoint.answer(late(0.01))
    deliver_to(fresh, endpoint, in_flight=4)
    fresh.start()
    deliver(fresh)
    for number, end in enumerate((endpoint.stop, endpoint.kill, endpoint.disconnect, endpoint.kill)):
        before = len(endpoint.requests())
        assert fresh.load(connections=20, total=150, groups=50, seed=number + 1)[0] == 0
        endpoint.wait_requests(before + 20)
        end()
        if not endpoint.process:
            endpoint.start()
    wait_delivered(fresh, endpoint, 120)
    Ledger(fresh, endpoint).check(interrupted=3 * 4)


# Remedies

@pytest.mark.parametrize("code, remedy", [
    (307, "redirects are not followed; set [deliver] url to the final address"), (403, "compare [deliver] secret_file"),
    (404, "correct the path in [deliver] url"), (429, "decrease [deliver] in_flight"),
    (500, "the log of the endpoint should say why"),
])
def test_names_a_remedy_for_the_status(fresh, endpoint, deliver, code, remedy):
    endpoint.answer(status(code))
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliver(fresh).wait_logged(f"answered with status {code}; {remedy}")


def test_proposes_https_for_a_port_that_speaks_tls(fresh, endpoint, deliver):
    deliver_to(fresh, endpoint, url=endpoint.url().replace("https:", "http:"))
    fresh.start()
    fresh.record("g0")
    deliver(fresh).wait_logged("if the endpoint speaks TLS, write https in [deliver] url")
    assert endpoint.requests() == []


# TLS

def test_verifies_the_certificate_of_the_endpoint(fresh, endpoint, deliver):
    """deliver sends nothing to an endpoint with an untrusted certificate, and continues once the endpoint presents the
    trusted one."""
    deliver_to(fresh, endpoint)
    fresh.start()
    right = endpoint.certificate
    endpoint.present(endpoint.make_certificate("other"))
    fresh.record("g0")
    deliverer = deliver(fresh)
    deliverer.wait_logged("certificate")
    assert endpoint.requests() == []
    endpoint.present(right)
    endpoint.wait_accepted("g0")


def test_verifies_the_name_in_the_certificate(fresh, endpoint, deliver):
    """The certificate is for localhost and 127.0.0.1, but not for localhost.localdomain."""
    deliver_to(fresh, endpoint, url=endpoint.url(host="127.0.0.2").replace("127.0.0.2", "localhost.localdomain"))
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    deliverer.wait_logged("localhost.localdomain")
    assert endpoint.requests() == []


def test_trusts_the_system_store_without_ca_file(fresh, endpoint, deliver):
    deliver_to(fresh, endpoint, ca_file=None)
    fresh.start()
    fresh.record("g0")
    deliver(fresh).wait_logged("certificate")
    assert endpoint.requests() == []


def test_refuses_old_versions_of_tls(fresh, make_endpoint, deliver):
    endpoint = make_endpoint(versions=["TLSv1", "TLSv1_1"])
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliverer = deliver(fresh)
    deliverer.wait_logged("check that the endpoint speaks TLS 1.2 or newer on this port")
    assert endpoint.requests() == []


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_speaks_current_versions_of_tls(fresh, make_endpoint, deliver, version):
    endpoint = make_endpoint(versions=[version, version])
    deliver_to(fresh, endpoint)
    fresh.start()
    fresh.record("g0")
    deliver(fresh)
    endpoint.wait_accepted("g0")
    (request,) = endpoint.requests()
    assert request.tls == version.replace("_", ".")


def test_times_out_when_the_handshake_hangs(fresh, endpoint, deliver):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        deliver_to(fresh, endpoint, url=f"https://127.0.0.1:{mute.getsockname()[1]}/", timeout="1s")
        fresh.start()
        fresh.record("g0", "g1", "g2")
        deliverer = deliver(fresh)
        deliverer.wait_logged("timed out")
        deliverer.wait_logged("accepts no event now")
    assert "resolve" not in deliverer.log and "open the firewall" in deliverer.log


def answer_once_and_go_away(server):
    """Accepts one connection and one request on it. Resets the connection at the second request, when nothing listens
    any more."""
    connection, _ = server.accept()
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", None):
        data = b""
        while not data.endswith(b"}"):
            data += connection.recv(65536)
        if answer:
            connection.sendall(answer)
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_reports_why_the_last_connection_failed(fresh, endpoint, deliver):
    """libcurl sends the request again on a new connection if a reused one is reset. The reason of the second failure
    must not appear behind the text of the first one."""
    server = socket.create_server(("127.0.0.1", 0))
    deliver_to(fresh, endpoint, url=f"http://127.0.0.1:{server.getsockname()[1]}/", in_flight=1)
    fresh.start()
    fresh.record("g0", "g1")
    application = threading.Thread(target=answer_once_and_go_away, args=(server,))
    application.start()
    deliverer = deliver(fresh)
    deliverer.wait_logged("Connection refused")
    application.join()
    assert "reset" not in deliverer.log, deliverer.log


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can bind port 53 and replace resolv.conf")
def test_a_name_server_that_hangs_stops_nothing_else(fresh, endpoint, deliver):
    """The timeout counts although the resolver of the C library waits longer, and deliver stops soon."""
    if daemon.run("unshare", "--mount", "true").returncode != 0:
        pytest.skip("mount namespaces cannot be created here, as in a chroot")
    resolv_conf = fresh.directory / "resolv.conf"
    resolv_conf.write_text("nameserver 127.0.0.77\noptions timeout:30 attempts:1\n")
    replaced = ("unshare", "--mount", "sh", "-c", f'mount --bind {resolv_conf} /etc/resolv.conf && exec "$@"', "sh")
    deliver_to(fresh, endpoint, url="https://app.example.com/", timeout="1s")
    fresh.start()
    fresh.record("g0")
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as mute:
        mute.bind(("127.0.0.77", 53))
        deliverer = deliver(fresh, prefix=replaced)
        deliverer.wait_logged("Resolving timed out", deadline=15)
        before = time.monotonic()
        deliverer.stop()
    assert time.monotonic() - before < 15


# Metrics

def test_metrics_show_what_happens(fresh, endpoint, deliver):
    port = daemon.free_port()
    endpoint.answer(groups={"f": [FAIL, OK], "e": [status(500), status(500), OK], "r": [status(404), OK]})
    deliver_to(fresh, endpoint, admin_port=port)
    fresh.start()
    fresh.record("a", "b", "f", "e", "r")
    deliver(fresh)
    wait_delivered(fresh, endpoint)
    daemon.eventually(lambda: metrics(port)["imcallbackd_deliver_accepted_total"] == 5, "five events")
    daemon.eventually(lambda: metrics(port)["imcallbackd_deliver_lag_events"] == 0, "no lag")
    now = metrics(port)
    assert now["imcallbackd_deliver_lag_seconds"] == 0 and now["imcallbackd_deliver_in_flight"] == 0
    assert now["imcallbackd_deliver_waiting"] == 0 and now["imcallbackd_deliver_set_aside_total"] == 0
    retries = {name: value for name, value in now.items() if name.startswith("imcallbackd_deliver_retries_total")}
    assert sum(retries.values()) == 4 and len([value for value in retries.values() if value]) >= 2, retries
    for name in ("last_accepted", "last_error"):
        assert time.time() - 60 < now[f"imcallbackd_deliver_{name}_timestamp_seconds"] <= time.time()
    assert ask(port, "/healthz")[0] == 200
    if PROMTOOL:
        done = daemon.run(PROMTOOL, "check", "metrics", input=ask(port, "/metrics")[2])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lag_grows_while_the_endpoint_is_away(fresh, endpoint, deliver):
    port = daemon.free_port()
    deliver_to(fresh, endpoint, admin_port=port)
    fresh.start()
    fresh.record("first")
    deliver(fresh)
    endpoint.wait_accepted("first")
    endpoint.stop()
    fresh.record("g0", "g1", "g2")
    daemon.eventually(lambda: metrics(port)["imcallbackd_deliver_lag_events"] == 3, "the lag")
    daemon.eventually(lambda: metrics(port)["imcallbackd_deliver_lag_seconds"] > 1.5, "its age")
    assert metrics(port)["imcallbackd_deliver_last_error_timestamp_seconds"] > time.time() - 60
    endpoint.start()
    wait_delivered(fresh, endpoint)
    daemon.eventually(lambda: metrics(port)["imcallbackd_deliver_lag_seconds"] == 0, "no lag")


def test_log_contains_neither_secrets_nor_requests(fresh, endpoint, deliver):
    """Deliverer.check_log() looks for secrets and queries in every test. This test covers every kind of failure at
    level debug, and also looks for parts of bodies, of answers and of the URL."""
    groups = {f"Geheim{number}": [answer, OK] for number, answer in enumerate(
        [status(500, "leck-body"), status(400, "leck-body"), FAIL, status(302, Location="https://leck/?Sign=1"),
         *map(fault, FAULTS)])}
    endpoint.answer(groups=groups)
    deliver_to(fresh, endpoint, {"log": {"level": "debug"}}, timeout="1s", url=endpoint.url("/cb?key=geheim-17"))
    fresh.start()
    for number, group in enumerate(groups):
        fresh.record(group, f"Geheim-good-{number}", Name="Geheimname")
    deliverer = deliver(fresh)
    endpoint.wait_accepted(*groups)
    deliverer.stop()
    assert not re.search(r"geheim-17|Geheim|leck", deliverer.log), deliverer.log
    assert event()[:20].decode() not in deliverer.log
