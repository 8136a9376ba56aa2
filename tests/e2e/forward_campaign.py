"""Tests `forward` with large stores, high latency, outages and the promotion of a standby.

Only `ctest -C campaign -L campaign` runs these tests. FORWARD_EVENTS sets the number of events in a large store, and
FORWARD_PROMOTIONS the number of promotions."""

import os
import random
import signal
import threading
import time

import daemon
import postgres
from daemon import event
from postgres import Forwarder, has_rows, ship_to, verify
from test_large_store import Load

EVENTS = int(os.environ.get("FORWARD_EVENTS", "1000000"))
KILLS = 10
SPEED_EVENTS = 50_000
PROMOTIONS = int(os.environ.get("FORWARD_PROMOTIONS", "3"))


def shipped(server):
    """Returns the last shipped id, which the cursor stores, or 0 if there is no cursor or the query fails."""
    succeeded, output = server.query("SELECT last_id FROM imcallbackd_cursor WHERE stream = 'destroyed_group'")
    return int(output or 0) if succeeded else 0


def fill(one, events):
    for start in range(0, events, 50_000):
        status, report = one.load(connections=100, total=min(50_000, events - start), timeout=60, seed=start)
        assert status == 0, report


def empty_tables(server):
    server.execute("TRUNCATE destroyed_group, destroyed_group_member, rejected_callback, imcallbackd_cursor")
    server.execute("CHECKPOINT")


def ship_all(one, server, events):
    """Runs a forwarder until it has shipped this number of events. Returns the number of events per second."""
    start = time.monotonic()
    forwarder = Forwarder(one).start()
    try:
        daemon.eventually(lambda: shipped(server) == events, "the last event", 3600)
        return events / (time.monotonic() - start)
    finally:
        forwarder.stop()


def copy_all(server, events):
    """Saves the rows of the server to files, empties the tables, and loads the files by COPY in one transaction.
    Returns the number of events that COPY loads per second."""
    tables = ("destroyed_group", "destroyed_group_member")
    for table in tables:
        server.execute(f"COPY {table} TO '{server.directory}/{table}'")
    empty_tables(server)
    commands = [word for table in tables for word in ("-c", f"\\copy {table} FROM '{server.directory}/{table}'")]
    start = time.monotonic()
    done = server.psql("-1", *commands, timeout=3600)
    assert done.returncode == 0, done.stderr
    return events / (time.monotonic() - start)


def test_reaches_half_the_rate_at_5_ms_of_latency(make_daemon):
    """The forwarder has several batches in flight, so the latency must not dominate. The reference is the rate at 0.1
    ms. The rate of COPY is printed as the upper limit."""
    one = make_daemon().start()
    fill(one, SPEED_EVENTS)
    one.stop()
    server = postgres.Postgres(fsync="on", shared_buffers="256MB", max_wal_size="4GB").create().start()
    try:
        rates = {}
        for delay_ms in (0, 0.1, 1, 5, 20, 5, 0.1):  # 0.1 and 5 twice, because the speed of a machine varies
            proxy = postgres.Proxy(server.port, delay_ms)
            ship_to(one, server, port=proxy.port)
            rates.setdefault(delay_ms, []).append(round(ship_all(one, server, SPEED_EVENTS)))
            print(f"{delay_ms} ms: {rates[delay_ms][-1]} events/s", flush=True)
            assert verify(one).returncode == 0
            proxy.close()
            if len(rates) < 5 or delay_ms != 0.1:
                empty_tables(server)
        print(f"COPY: {copy_all(server, SPEED_EVENTS):.0f} events/s")
        assert max(rates[5]) >= max(rates[0.1]) / 2
    finally:
        server.destroy()


def test_ships_a_long_store_despite_kills(make_daemon):
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    one = make_daemon().start()
    fill(one, EVENTS)
    one.stop()
    server = postgres.Postgres(fsync="on", shared_buffers="256MB", max_wal_size="4GB").create().start()
    try:
        ship_to(one, server)
        stops = sorted(random.Random(seed).sample(range(EVENTS // 100, EVENTS), KILLS))
        start = time.monotonic()
        for stop in stops:
            forwarder = Forwarder(one).start()
            daemon.eventually(lambda: shipped(server) >= stop, f"id {stop}", 3600)
            forwarder.kill()
        ship_all(one, server, EVENTS)
        seconds = time.monotonic() - start
        print(f"{EVENTS} events in {seconds:.0f} s with {KILLS} kills: {EVENTS / seconds:.0f} events/s")
        done = verify(one)
        print(done.stdout)
        assert done.returncode == 0
        assert f"events: {EVENTS} in the store, {EVENTS} of them in the destination" in done.stdout
        assert server.value("SELECT count(*) FROM destroyed_group") == EVENTS
        assert server.value("SELECT count(*) FROM destroyed_group_member") == 3 * EVENTS
    finally:
        server.destroy()


def test_receiver_answers_while_the_forwarder_catches_up(make_daemon):
    """Every callback must be recorded while the backlog of an outage is shipped, and the test prints how long the
    answers take. PostgreSQL runs on the same machine, so it competes with the receiver for the processors and the
    disk."""
    one = make_daemon().start()
    fill(one, EVENTS // 2)
    load = Load(one)
    load.while_true("nothing to ship", lambda: False)
    server = postgres.Postgres(fsync="on", shared_buffers="256MB", max_wal_size="4GB").create().start()
    try:
        ship_to(one, server)
        forwarder = Forwarder(one).start()
        load.while_true("catching up", lambda: shipped(server) < EVENTS // 2)
        daemon.eventually(lambda: shipped(server) == EVENTS // 2 + load.recorded, "the last event", 3600)
        load.while_true("keeping up", lambda: False)
        daemon.eventually(lambda: shipped(server) == EVENTS // 2 + load.recorded, "the last event", 3600)
        forwarder.stop()
        assert verify(one).returncode == 0
    finally:
        server.destroy()


def test_follows_the_promotion_of_a_standby(make_daemon):
    """The primary is killed under load. Replication is synchronous, so the standby has every row that the primary has
    acknowledged."""
    one = make_daemon()
    primary = postgres.Postgres().create().start()
    servers = [primary]
    over = threading.Event()
    try:
        one.start()
        for _ in range(PROMOTIONS):
            standby = postgres.Postgres().create_standby(primary)
            servers.append(standby)
            standby.start()
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            primary.execute("SELECT pg_reload_conf()")
            daemon.eventually(lambda: primary.value(
                "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"), "a synchronous standby", 60)
            ship_to(one, primary, url=f"postgresql://owner@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
                                      "?target_session_attrs=read-write")
            acknowledged_before = one.value("SELECT count(*) AS n FROM destroyed_group")
            forwarder = Forwarder(one).start()
            over.clear()
            reports = []

            def send():
                while not over.is_set():
                    reports.append(one.load(connections=4, total=500, timeout=20)[1])

            sender = threading.Thread(target=send)
            sender.start()
            daemon.eventually(lambda: shipped(primary) > acknowledged_before + 1000, "load", 120)
            primary.kill()
            standby.promote()
            standby.execute("ALTER SYSTEM RESET ALL")
            standby.execute("SELECT pg_reload_conf()")
            at = shipped(standby)
            daemon.eventually(lambda: shipped(standby) > at + 1000, "rows in the standby", 120)
            over.set()
            sender.join()
            newest = one.value("SELECT max(id) AS id FROM destroyed_group")
            daemon.eventually(lambda: shipped(standby) == newest, "the last event", 120)
            forwarder.stop()
            assert all(report["ok"] == report["requests"] == 500 for report in reports), reports
            done = verify(one)
            assert done.returncode == 0 and "0 not shipped yet" in done.stdout, done
            assert standby.value("SELECT count(*) FROM destroyed_group") == one.value(
                "SELECT count(*) AS n FROM destroyed_group")
            print(forwarder.log)
            primary = standby
    finally:
        over.set()
        for server in servers:
            server.destroy()


def test_reconnects_after_the_network_hangs(make_daemon):
    """The connection stays open, but no byte passes. The forwarder times out and connects again."""
    one = make_daemon()
    server = postgres.Postgres().create().start()
    try:
        proxy = postgres.Proxy(server.port)
        ship_to(one, server, port=proxy.port)
        one.start()
        forwarder = Forwarder(one).start()
        assert one.load(connections=4, total=500)[0] == 0
        daemon.eventually(lambda: shipped(server) == 500, "the first events", 60)
        proxy.stalled.set()
        assert one.load(connections=4, total=500)[0] == 0
        forwarder.wait_logged("has not answered for 30 s", 120)
        proxy.stalled.clear()
        daemon.eventually(lambda: shipped(server) == 1000, "the other events", 120)
        assert forwarder.end(signal.SIGTERM) == 0
        assert verify(one).returncode == 0
    finally:
        server.destroy()


def test_waits_longer_for_a_slow_statement_with_each_attempt(make_daemon, server, forward):
    """The statement is slower than the first timeout, and the server aborts it when the forwarder disconnects. So only
    a longer timeout lets the statement complete."""
    one = make_daemon()
    ship_to(one, server, url=server.url(options=f"-csearch_path%3D{server.schema}"
                                                "%20-cclient_connection_check_interval%3D1s"))
    one.start()
    assert one.post().status == 200
    forwarder = forward(one)
    has_rows(server, 1)
    server.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
                   "'BEGIN PERFORM pg_sleep(40); RETURN NULL; END';"
                   "CREATE TRIGGER slow BEFORE INSERT ON destroyed_group EXECUTE FUNCTION slow()")
    assert one.post(event(GroupId="slow")).status == 200
    forwarder.wait_logged("has not answered for 30 s", 120)
    has_rows(server, 2, deadline=300)
