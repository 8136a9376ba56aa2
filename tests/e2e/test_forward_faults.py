"""Tests `forward` under load with two receivers, two forwarders and one PostgreSQL server, while processes are killed
and connections are cut. At the end, each acknowledged event is in the destination once, with its members.
FORWARD_FAULTS=4 selects four of the faults at random, FORWARD_ROUNDS=50 turns the test into a campaign, and SEED
repeats the order of the faults in an earlier run."""

import json
import os
import random
import subprocess
import threading

import pytest

import daemon
import postgres

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")

COUNT = os.environ.get("FORWARD_FAULTS")
ROUNDS = int(os.environ.get("FORWARD_ROUNDS", "1"))
SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))
MEMBERS = 3
EVENTS = 150  # per run of the load generator


class Site:
    """A receiver under load, and its forwarder, which connects to the server through a proxy."""

    def __init__(self, name, server, seed):
        self.name, self.server = name, server
        self.seed = seed
        self.one = daemon.Daemon()
        self.proxy = postgres.Proxy(server.port)
        postgres.ship_to(self.one, server, name, self.proxy.port, {"listen": {"port": daemon.free_port()}})
        self.one.start()
        self.forwarder = postgres.Forwarder(self.one).start()
        self.acknowledged, self.reports = set(), []
        self.killed = False  # whether the receiver was killed, so that some requests failed
        self.over = threading.Event()
        self.sender = threading.Thread(target=self._send)
        self.sender.start()

    def _send(self):
        """Runs the load generator until end_sending(). Every fourth run sends the same events as the other site, as the
        service does when it repeats callbacks."""
        path = self.one.directory / "acknowledged"
        while not self.over.is_set():
            count = len(self.reports)
            seed = 900_000_000 + count if count % 4 == 0 else self.seed + count
            done = subprocess.run(self.one.load_arguments(connections=4, total=EVENTS, seed=seed, timeout=20,
                                                          acknowledged=path, members=MEMBERS), capture_output=True)
            self.acknowledged |= set(path.read_text().split())
            self.reports.append(json.loads(done.stdout))

    def shipped(self):
        succeeded, output = self.server.query("SELECT last_id FROM imcallbackd_cursor "
                                              f"WHERE receiver = '{self.name}' AND stream = 'destroyed_group'")
        return int(output or 0) if succeeded else 0

    def restart_forwarder(self):
        self.forwarder.kill()
        self.forwarder.start()

    def restart_receiver(self):
        self.killed = True
        self.one.kill()
        self.one.start()

    def cut(self, length):
        """Cuts the connection once, in data for the server that contains COMMIT. length(data) returns how many of these
        bytes still pass."""
        done = threading.Event()

        def cut_at(data):
            if b"COMMIT" not in data or done.is_set():
                return None
            done.set()
            return length(data)

        self.proxy.cut_at = cut_at
        daemon.eventually(done.is_set, "a COMMIT", 120)
        self.proxy.cut_at = None

    def end_sending(self):
        self.over.set()
        self.sender.join()

    def end(self):
        """Ends the load and waits until the last event is shipped."""
        self.end_sending()
        newest = self.one.value("SELECT max(id) AS id FROM destroyed_group")
        daemon.eventually(lambda: self.shipped() == newest, "the last row", 120)
        for report in self.reports:
            assert self.killed or report["ok"] == report["requests"] == EVENTS, report

    def destroy(self):
        self.end_sending()
        self.proxy.close()
        if self.forwarder.process:
            self.forwarder.process.kill()
            self.forwarder.process.wait()
        self.one.destroy()


def await_load(sites, runs):
    """Waits until the load generator of each site has completed more than this number of further runs."""
    before = [len(site.reports) for site in sites]
    daemon.eventually(lambda: all(len(site.reports) > count + runs for site, count in zip(sites, before)), "load", 120)


def away(server, sites):
    server.stop()
    await_load(sites, 2)
    server.start()


def restart(server, _):
    server.stop()
    server.start()


def kill(server, _):
    server.kill()
    server.start()


def stall(_, sites):
    for site in sites:
        site.proxy.stalled.set()
    await_load(sites, 0)
    for site in sites:
        site.proxy.stalled.clear()


FAULTS = {
    "the server restarts": restart,
    "the server is killed": kill,
    "the server is away": away,
    "the first forwarder is killed": lambda _, sites: sites[0].restart_forwarder(),
    "the second forwarder is killed": lambda _, sites: sites[1].restart_forwarder(),
    "the second receiver is killed": lambda _, sites: sites[1].restart_receiver(),
    "the connections are cut before COMMIT":
        lambda _, sites: [site.cut(lambda data: data.rindex(b"COMMIT")) for site in sites],
    "a connection is cut before a batch": lambda _, sites: sites[0].cut(lambda data: 0),
    "a connection is cut in a batch": lambda _, sites: sites[1].cut(lambda data: random.randrange(len(data))),
    "the connections are cut after COMMIT": lambda _, sites: [site.cut(len) for site in sites],
    "the connections are cut anywhere": lambda _, sites: [site.proxy.cut() for site in sites],
    "the network stalls": stall,
}


def await_progress(sites):
    before = [site.shipped() for site in sites]
    daemon.eventually(lambda: all(site.shipped() > count for site, count in zip(sites, before)), "progress", 120)


def check(server, sites):
    """Compares the destination with what the receivers have acknowledged and recorded."""
    acknowledged = sites[0].acknowledged | sites[1].acknowledged
    rows = server.sql(f"""SELECT group_id, count(DISTINCT event_uid) AS events, count(*) AS members,
        bool_and(member_account = 'member-' || split_part(group_id, '-', 3) || '-' || position) AS is_in_order,
        count(DISTINCT position) AS positions
        FROM destroyed_group JOIN destroyed_group_member USING (event_uid) GROUP BY group_id""")
    for row in rows:
        assert (row["events"], row["members"], row["positions"], row["is_in_order"]) == (1, MEMBERS, MEMBERS, True), row
    shipped = {row["group_id"] for row in rows}
    assert not acknowledged - shipped
    assert server.value("SELECT count(*) FROM destroyed_group") == len(shipped)
    recorded = {group_id for site in sites for group_id in site.one.group_ids()}
    assert shipped == recorded
    for site in sites:
        done = postgres.verify(site.one)
        assert done.returncode == 0 and "0 not shipped yet" in done.stdout, done


def test_ships_each_acknowledged_event_once_despite_faults():
    print(f"SEED={SEED}")
    server = postgres.Postgres().create().start()
    sites = []
    try:
        sites = [Site(name, server, 400_000_000 * number) for number, name in enumerate("ab")]
        await_progress(sites)
        order = random.Random(SEED)
        for _ in range(ROUNDS):
            for fault in order.sample(sorted(FAULTS), int(COUNT or len(FAULTS))):
                print(fault, flush=True)
                FAULTS[fault](server, sites)
                await_progress(sites)
        for site in sites:
            site.end()
        check(server, sites)
        print(f"{sum(len(site.reports) for site in sites)} runs of the load generator, "
              f"{server.value('SELECT count(*) FROM destroyed_group')} events")
        for site in sites:
            site.forwarder.stop()
    finally:
        for site in sites:
            print(site.forwarder.log[-3000:])
            site.destroy()
        server.destroy()
