"""Tests that `forward` ships into a Patroni cluster each event once, also when the leader is killed."""

import pytest

import cluster
import daemon
import postgres

pytestmark = pytest.mark.skipif(cluster.missing() is not None, reason=f"not installed: {cluster.missing()}")
EVENTS = 200
WRONG = """SELECT group_id FROM destroyed_group JOIN destroyed_group_member USING (event_uid) GROUP BY group_id
    HAVING count(DISTINCT event_uid) <> 1 OR count(*) <> 3"""


def record(one, number):
    """Sends events with three members each."""
    status, report = one.load(connections=4, total=EVENTS, members=3, timeout=20, seed=number * EVENTS)
    assert status == 0 and report["ok"] == EVENTS, report


def test_ships_each_event_once_across_a_failover():
    patroni, one = cluster.Patroni(), daemon.Daemon()
    forwarder = postgres.Forwarder(one)
    try:
        patroni.create().start()
        postgres.ship_to(one, patroni)
        one.start()
        forwarder.start()
        record(one, 0)
        postgres.has_rows(patroni, EVENTS)
        killed = patroni.kill_leader()
        record(one, 1)
        assert patroni.wait_leader(other_than=killed)
        postgres.has_rows(patroni, 2 * EVENTS)
        patroni.restart_node(killed)
        patroni.wait_healthy()
        assert patroni.rows(WRONG) == []
        done = postgres.verify(one)
        assert done.returncode == 0 and f"events: {2 * EVENTS} in the store, {2 * EVENTS} of them" in done.stdout, done
        forwarder.stop()
        one.stop()
    finally:
        if forwarder.process:
            print(forwarder.log[-3000:])
            forwarder.kill()
        one.destroy()
        patroni.destroy()
