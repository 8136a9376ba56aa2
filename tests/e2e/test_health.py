"""`imcallbackd health` reports the health of a running service, and says why if there is none or if it is not healthy."""

import contextlib
import socket
import threading

import pytest

import daemon
from daemon import BINARY


def health(one, *arguments):
    return daemon.run(BINARY, "health", "-c", one.config, *arguments)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_reports_a_daemon_that_can_record(make_daemon, address):
    one = make_daemon({"admin": {"address": address, "port": daemon.free_port()}})
    before = health(one)
    assert (before.returncode, before.stdout) == (1, "")
    assert "Connection refused; start the service" in before.stderr
    one.start()
    assert [health(one).stdout, health(one, "serve").returncode] == ["ready\n", 0]


def test_gives_the_reason_of_a_daemon_that_cannot_record(make_daemon):
    one = make_daemon({"admin": {"port": daemon.free_port()}, "limits": {"store_wait": "0s"}}).start()
    with one.locked():
        assert one.post().status == 503
        done = health(one)
    assert (done.returncode, done.stdout) == (1, "")
    assert "/readyz: status 503: " in done.stderr and len(done.stderr.splitlines()) == 1, done


@pytest.mark.parametrize("service", ["forward", "deliver"])
def test_asks_the_other_services_for_healthz(make_daemon, service):
    port = daemon.free_port()
    one = make_daemon({service: {"admin_port": port}})
    with answering(port, b"HTTP/1.0 200 OK\r\n\r\nalive\nand more\n") as requests:
        done = health(one, service)
    assert (done.returncode, done.stdout) == (0, "alive\n")
    assert requests == [b"GET /healthz HTTP/1.0\r\n\r\n"]


@contextlib.contextmanager
def answering(port, answer):
    """Runs a server that answers one request, or that keeps silent if the answer is None. Yields the list of requests."""
    requests = []
    with socket.create_server(("127.0.0.1", port)) as listener:
        def serve():
            client, _ = listener.accept()
            with client:
                requests.append(client.recv(4096))
                if answer is not None:
                    client.sendall(answer)
                else:
                    client.recv(1)  # until the other side gives up

        thread = threading.Thread(target=serve)
        thread.start()
        yield requests
        thread.join(daemon.START_DEADLINE)


@pytest.mark.parametrize("answer, words", [
    (b"SSH-2.0-server\r\n", "no HTTP answer; another program listens on this port"),
    (b"", "no HTTP answer"), (b"HTTP/1.1 200 OK\r\n", "no HTTP answer"), (b"HTTP/1.1 x OK\r\n\r\n", "no HTTP answer"),
    (b"HTTP/1.1 503 Busy\r\n\r\nthe disk is full\r\nmore", "status 503: the disk is full\n"),
    (b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404: \n"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + bytes(10_000), "the body is not 'ready'; another program listens on this port"),
    (b"HTTP/1.1 200 OK\r\n\r\nalive\n", "the body is not 'ready'"),
    (None, "no answer; the service hangs or is overloaded")])
def test_reports_what_is_no_answer_of_a_service(make_daemon, answer, words):
    port = daemon.free_port()
    one = make_daemon({"admin": {"port": port}})
    with answering(port, answer):
        done = health(one)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert words in done.stderr and f"127.0.0.1 port {port}: /readyz: " in done.stderr


def test_gives_up_if_the_answer_trickles(make_daemon):
    port = daemon.free_port()
    one = make_daemon({"admin": {"port": port}})
    stop = threading.Event()

    def serve():
        client, _ = listener.accept()
        with client, contextlib.suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\n")
            while not stop.wait(0.5):
                client.sendall(b"x")

    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        done = health(one)
        stop.set()
        thread.join(daemon.START_DEADLINE)
    assert done.returncode == 1 and "no complete answer in 5 s" in done.stderr, done


def test_port_0_has_no_listener_to_ask(make_daemon):
    done = health(make_daemon())
    assert done.returncode == 1 and "[admin] port: the port is 0" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["-c"], ["-c", "x", "other"], ["-c", "x", "serve", "deliver"]])
def test_wrong_usage_is_reported(arguments):
    done = daemon.run(BINARY, "health", *arguments)
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
