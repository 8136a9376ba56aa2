"""`forward` while everything fails in turn, under load: two receivers, two forwarders, one PostgreSQL. Callbacks are
answered as long as their receiver lives, and in the end each acknowledged event is there once, with its members.
FORWARD_ROUNDS=50 for a campaign; SEED repeats a run."""

import json
import os
import pathlib
import random
import subprocess
import threading

import pytest

import daemon
import postgres

pytestmark = pytest.mark.skipif(not postgres.programs(), reason="PostgreSQL is not installed")

ROUNDS = int(os.environ.get("FORWARD_ROUNDS", "1"))
SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))
MEMBERS = 3
EVENTS = 150  # of one sending


class Site:
    """A receiver under load with its forwarder, which reaches the server through a proxy."""

    def __init__(self, name, server, seed):
        self.name, self.server = name, server
        self.seed = seed
        self.one = daemon.Daemon()
        self.proxy = postgres.Proxy(server.port)
        postgres.ship_to(self.one, server, name, self.proxy.port, {"listen": {"port": daemon.free_port()}})
        self.one.start()
        self.forwarder = postgres.Forwarder(self.one).start()
        self.acknowledged, self.reports = set(), []
        self.killed = False  # the receiver was, since this was last asked
        self.over = threading.Event()
        self.sender = threading.Thread(target=self._send)
        self.sender.start()

    def _send(self):
        """Every fourth time the events are those of the other site, as when the service sends one again."""
        path = self.one.directory / "acknowledged"
        while not self.over.is_set():
            count = len(self.reports)
            seed = 900_000_000 + count if count % 4 == 0 else self.seed + count
            done = subprocess.run(self.one.load_arguments(connections=4, total=EVENTS, seed=seed, timeout=20,
                                                          acknowledged=path, members=MEMBERS), capture_output=True)
            self.acknowledged |= set(path.read_text().split())
            self.reports.append(json.loads(done.stdout))

    def shipped(self):
        done = self.server.psql("-At", "-c", f"SELECT last_id FROM imcallbackd_cursor WHERE receiver = '{self.name}' "
                                             "AND stream = 'destroyed_group'")
        return int(done.stdout or 0) if done.returncode == 0 else 0

    def restart_forwarder(self):
        self.forwarder.kill()
        self.forwarder.start()

    def restart_receiver(self):
        self.killed = True
        self.one.kill()
        self.one.start()

    def cut(self, length):
        """Once, in what goes to the server and has a COMMIT in it: so many bytes of it pass."""
        happened = threading.Event()

        def cut_at(data):
            if b"COMMIT" not in data or happened.is_set():
                return None
            happened.set()
            return length(data)

        self.proxy.cut_at = cut_at
        daemon.eventually(happened.is_set, "a COMMIT", 120)
        self.proxy.cut_at = None

    def end_sending(self):
        self.over.set()
        self.sender.join()

    def destroy(self):
        self.end_sending()
        self.proxy.close()
        if self.forwarder.process:
            self.forwarder.process.kill()
            self.forwarder.process.wait()
        self.one.destroy()


def away(server, sites):
    """The server is gone for a while, and callbacks are answered as ever."""
    server.stop()
    before = [len(site.reports) for site in sites]
    daemon.eventually(lambda: all(len(site.reports) > count + 2 for site, count in zip(sites, before)), "load", 120)
    server.start()


def restart(server, _):
    server.stop()
    server.start()


def kill(server, _):
    server.kill()
    server.start()


def stall(_, sites):
    """Nothing comes through for a moment, in the middle of whatever was said."""
    for site in sites:
        site.proxy.stalled.set()
    before = [len(site.reports) for site in sites]
    daemon.eventually(lambda: all(len(site.reports) > count for site, count in zip(sites, before)), "load", 120)
    for site in sites:
        site.proxy.stalled.clear()


FAULTS = {
    "the server restarts": restart,
    "the server is killed": kill,
    "the server is away": away,
    "a forwarder is killed": lambda _, sites: sites[0].restart_forwarder(),
    "the other forwarder is killed": lambda _, sites: sites[1].restart_forwarder(),
    "a receiver is killed": lambda _, sites: sites[1].restart_receiver(),
    "cut before COMMIT": lambda _, sites: [site.cut(lambda data: data.rindex(b"COMMIT")) for site in sites],
    "cut before a batch": lambda _, sites: sites[0].cut(lambda data: 0),
    "cut in a batch": lambda _, sites: sites[1].cut(lambda data: random.randrange(len(data))),
    "cut after COMMIT": lambda _, sites: [site.cut(len) for site in sites],
    "cut anywhere": lambda _, sites: [site.proxy.cut() for site in sites],
    "stalled": stall,
}


def moved_on(sites):
    """Both forwarders ship again."""
    before = [site.shipped() for site in sites]
    daemon.eventually(lambda: all(site.shipped() > count for site, count in zip(sites, before)), "both ship again", 120)


def check(server, sites):
    acknowledged = sites[0].acknowledged | sites[1].acknowledged
    rows = server.sql(f"""SELECT group_id, count(DISTINCT event_uid) AS events, count(*) AS members,
        bool_and(member_account = 'member-' || split_part(group_id, '-', 3) || '-' || position) AS right_ones,
        count(DISTINCT position) AS positions
        FROM destroyed_group JOIN destroyed_group_member USING (event_uid) GROUP BY group_id""")
    for row in rows:
        assert (row["events"], row["members"], row["positions"], row["right_ones"]) == (1, MEMBERS, MEMBERS, True), row
    there = {row["group_id"] for row in rows}
    assert not acknowledged - there
    assert server.value("SELECT count(*) FROM destroyed_group") == len(there)
    recorded = {group_id for site in sites for group_id in site.one.group_ids()}
    assert there == recorded
    for site in sites:
        done = postgres.verify(site.one)
        assert done.returncode == 0 and "0 not shipped yet" in done.stdout, done


def test_whatever_fails():
    print(f"SEED={SEED}")
    server = postgres.Postgres().create().start()
    sites = []
    try:
        sites = [Site(name, server, 400_000_000 * number) for number, name in enumerate("ab")]
        moved_on(sites)
        order = random.Random(SEED)
        for _ in range(ROUNDS):
            for fault in order.sample(sorted(FAULTS), len(FAULTS)):
                print(fault, flush=True)
                FAULTS[fault](server, sites)
                moved_on(sites)
        for site in sites:
            site.end_sending()
            newest = site.one.value("SELECT max(id) AS id FROM destroyed_group")
            daemon.eventually(lambda: site.shipped() == newest, "all is shipped", 120)
            for report in site.reports:
                assert site.killed or report["ok"] == report["requests"] == EVENTS, report
        check(server, sites)
        print(f"{sum(len(site.reports) for site in sites)} sendings, "
              f"{server.value('SELECT count(*) FROM destroyed_group')} events")
        for site in sites:
            site.forwarder.stop()
    finally:
        for site in sites:
            print(site.forwarder.log[-3000:])
            site.destroy()
        server.destroy()
