"""Tests the tasks of imcallbackd-operations(7): its commands change a real daemon or a PostgreSQL server, and its
configurations fit the units and the alerts. Scripts replace the programs that need root or systemd."""

import re
import signal

import pytest

import daemon
import postgres
from certificates import P_256, make_certificate
from documents import TOP, example
from test_manual_data import Operator

PAGE = "imcallbackd-operations.7"
SOCKET = (TOP / "systemd/imcallbackd.socket").read_text()


@pytest.fixture
def operator(fresh):
    """An operator, whose calls of systemctl and chown are recorded. `install` and `reload` have their effect."""
    one = Operator(fresh.start())
    programs = one.one.directory / "programs"
    recorded = f'#!/bin/sh\necho "${{0##*/}} $*" >>{programs}/calls\n'
    reload = f'[ "$1" != reload ] || kill -HUP {fresh.process.pid}\n'
    for name, text in {"systemctl": recorded + reload, "chown": recorded}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return one


def calls(operator):
    return (operator.one.directory / "programs/calls").read_text().splitlines()


def test_stop_names_every_unit_of_the_receiver(operator):
    operator.run(example(PAGE, "systemctl disable"))
    (call,) = calls(operator)
    assert call.startswith("systemctl disable --now ")
    units = {unit.removesuffix(".service") for unit in call.split()[3:]}
    assert units == {"imcallbackd", *(path.name for path in (TOP / "systemd").glob("*.socket"))}


def test_certificate_is_replaced_under_a_running_daemon(operator, tmp_path):
    one = operator.one
    make_certificate(tmp_path, *P_256, name="fullchain.pem", key="privkey.pem")
    text = example(PAGE, "fullchain.pem").replace("-g imcallbackd ", "")
    for name in ("fullchain.pem", "privkey.pem"):
        text = text.replace(f" {name}", f" {tmp_path}/{name}")
    operator.run(text)
    one.wait_notified("RELOADING=1")
    one.wait_notified("READY=1")
    assert (one.directory / "certificate.pem").read_text() == (tmp_path / "fullchain.pem").read_text()
    assert oct((one.directory / "key.pem").stat().st_mode)[-3:] == "640"
    done = daemon.run("curl", "-sS", "--cacert", tmp_path / "fullchain.pem", f"https://localhost:{one.port}/")
    assert '"ErrorCode":120003' in done.stdout, done


def test_socket_gets_another_port():
    """An empty value removes the address of the unit, and the unit has the key that is replaced."""
    heading, *lines = example(PAGE, "ListenStream=").splitlines()
    assert heading == "[Socket]" and lines == ["ListenStream=", "ListenStream=8443"]
    assert re.search(r"(?ms)^\[Socket\]$.*^ListenStream=443$", SOCKET)


def test_prometheus_scrapes_the_default_ports_for_the_alerts():
    text = example(PAGE, "scrape_configs")
    sample = (TOP / "conf/imcallbackd.conf").read_text()
    ports = re.findall(r"(?m)^#admin_port = (\d+)$", sample) + re.findall(r"(?ms)^\[admin\]$.*?^#port = (\d+)$", sample)
    assert sorted(re.findall(r"localhost:(\d+)", text)) == sorted(ports)
    alerts = (TOP / "conf/prometheus-alerts.yml").read_text()
    assert set(re.findall(r'job="(\w+)"', alerts)) == set(re.findall(r"job_name: (\w+)", text))


def test_forwarder_gets_its_password_and_starts(operator):
    one = operator.one
    password = one.directory / "forward-password"
    password.write_text("secret\n")
    one.write_config({"forward": {"url": "postgresql://imcallbackd@127.0.0.1:1/events", "password_file": password,
                                  "admin_port": 0}})
    operator.run(example(PAGE, "forward-password"))
    assert oct(password.stat().st_mode)[-3:] == "400"
    assert calls(operator) == [f"chown imcallbackd-forward {password}",
                               "systemctl enable --now imcallbackd-forward"]
    one.process.send_signal(signal.SIGHUP)
    one.wait_notified("READY=1")


@pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")
def test_database_is_created_for_the_forwarders(server, make_daemon, forward):
    statements = [text for text in example(PAGE, "CREATE USER").split(";") if text.strip()]
    assert len(statements) == 2
    for statement in statements:
        done = server.psql("-c", statement)
        assert done.returncode == 0, done
    one = make_daemon()
    password = one.directory / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    url = f"postgresql://imcallbackd@127.0.0.1:{server.port}/events"
    one.write_config({"forward": {"url": url, "password_file": password, "receiver": "a", "admin_port": 0,
                                  "shipped_file": one.directory / "shipped"}})
    one.start()
    assert one.post().status == 200
    forward(one)
    daemon.eventually(lambda: (one.directory / "shipped").exists(), "the forwarder ships", 60)
