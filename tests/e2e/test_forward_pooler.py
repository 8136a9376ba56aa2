"""Tests that `forward` ships through PgBouncer in transaction mode. All forwarders share one connection to the server,
so that a forwarder that left state in the session would disturb the others. SEED repeats the order of the faults in an
earlier run."""

import random

import pytest

import pooler
import postgres
from postgres import has_rows, ship_to, shipping_daemon, verify
from processes import holds
from test_forward_faults import FAULTS, SEED, Site, await_progress, check

pytestmark = pytest.mark.skipif(not postgres.programs() or not pooler.PGBOUNCER,
                                reason="PostgreSQL or PgBouncer is not installed")
CONNECTIONS = "SELECT count(DISTINCT pid) FROM pg_stat_activity WHERE application_name = 'imcallbackd forward'"


@pytest.fixture
def bouncer(server):
    """PgBouncer in front of a server, whose schema is that of the role, as imcallbackd-forward(8) recommends."""
    server.execute(f"ALTER ROLE owner SET search_path = {server.schema}")
    one = pooler.Bouncer(server)
    try:
        yield one.start()
    finally:
        one.destroy()
        server.execute("ALTER ROLE owner RESET search_path")


def test_ships_and_verifies_over_a_shared_connection(make_daemon, bouncer, forward):
    receivers = [shipping_daemon(make_daemon, bouncer, name) for name in "ab"]
    forwarders = [forward(one) for one in receivers]
    for number in range(20):
        for one, name in zip(receivers, "ab"):
            one.record(f"{name}{number}")
    assert receivers[0].post(b"{\xff").status == 400
    has_rows(bouncer, 40)
    has_rows(bouncer, 1, "rejected_callback")
    assert bouncer.value(CONNECTIONS) == 1
    for one, forwarder in zip(receivers, forwarders):
        done = verify(one)
        assert done.returncode == 0 and "events: 20 in the store, 20 of them in the destination" in done.stdout, done
        assert "failed" not in forwarder.log


def test_reports_a_startup_parameter_that_the_pooler_refuses(make_daemon, bouncer, forward):
    one = make_daemon()
    ship_to(one, bouncer, url=bouncer.url(options="-csearch_path%3Dpublic"))
    one.start().record("g")
    forwarder = forward(one)
    forwarder.wait_logged("unsupported startup parameter")
    forwarder.stop()
    ship_to(one, bouncer)
    forward(one)
    has_rows(bouncer, 1)


def restart_pooler(bouncer):
    bouncer.stop()
    bouncer.start()


def kill_pooler(bouncer):
    bouncer.kill()
    bouncer.start()


def stall_pooler(bouncer):
    bouncer.pause()
    assert holds(lambda: bouncer.process.poll() is None, 2)
    bouncer.resume()


POOLER_FAULTS = {"the pooler restarts": restart_pooler, "the pooler is killed": kill_pooler,
                 "the pooler stalls": stall_pooler}


@pytest.mark.full
def test_ships_each_acknowledged_event_once_despite_faults():
    print(f"SEED={SEED}")
    server = postgres.Postgres().create().start()
    bouncer = pooler.Bouncer(server)
    sites = []
    try:
        bouncer.start()
        sites = [Site(name, bouncer, 500_000_000 * number) for number, name in enumerate("ab")]
        await_progress(sites)
        names = sorted([*FAULTS, *POOLER_FAULTS])
        for fault in random.Random(SEED).sample(names, len(names)):
            print(fault, flush=True)
            if fault in POOLER_FAULTS:
                POOLER_FAULTS[fault](bouncer)
            else:
                FAULTS[fault](server, sites)
            await_progress(sites)
        for site in sites:
            site.end()
        check(server, sites)
        for site in sites:
            site.forwarder.stop()
    finally:
        for site in sites:
            print(site.forwarder.log[-3000:])
            site.destroy()
        print(bouncer.log[-3000:])
        bouncer.destroy()
        server.destroy()
