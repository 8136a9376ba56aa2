"""Tests `deliver` under load while the endpoint misbehaves in every way and deliver, the receiver and the endpoint are
killed. At the end every recorded event is accepted, repeats are bounded by what was in flight at the kills, the order
within each group is kept, and nothing is skipped.

DELIVER_EVENTS=100000 DELIVER_KILLS=50 turns the test into a campaign; SEED repeats the order of a run."""

import os
import random
import time

import daemon
from daemon import event
from delivery import Deliverer, Ledger, deliver_to, write_secret
from endpoint import FAIL, OK, SECRET, Endpoint, fault, late, status
from monitoring import metrics

EVENTS = int(os.environ.get("DELIVER_EVENTS", "3000"))
KILLS = int(os.environ.get("DELIVER_KILLS", "8"))
SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))
IN_FLIGHT = 8
TIMEOUT_S = 1

# What every request may meet, by weight.
MIX = [(200, OK), (40, late(0.005)), (5, late(0.1)), (2, status(500)), (2, status(503, Retry_After="1")), (2, FAIL),
       (1, status(429, Retry_After="1")), (1, status(408)), (1, OK | {"close": True})] + [
    (1, fault(name)) for name in ("hang", "cut_before", "cut_in_head", "cut_in_body", "reset", "garbage", "endless",
                                  "endless_head", "drip")]


class Site:
    """A receiver, its deliverer and the endpoint."""

    def __init__(self):
        self.endpoint = Endpoint().start()
        self.one = daemon.Daemon()
        self.admin_port = daemon.free_port()
        deliver_to(self.one, self.endpoint, {"listen": {"port": daemon.free_port()}}, in_flight=IN_FLIGHT,
                   timeout=f"{TIMEOUT_S}s", admin_port=self.admin_port, secret_file=write_secret(self.one, SECRET))
        self.one.start()
        self.deliverer = Deliverer(self.one)
        self.interrupted = 0  # the largest possible number of acceptances that were lost at kills
        self.random = random.Random(SEED)

    def fill(self, events, seed=0):
        """Records events of groups that are destroyed several times."""
        for start in range(0, events, 20_000):
            total = min(20_000, events - start)
            code, report = self.one.load(connections=50, total=total, groups=max(1, total // 4), timeout=60,
                                         seed=seed + start)
            assert code == 0, report

    def kill_deliverer(self):
        self.deliverer.kill()
        self.interrupted += IN_FLIGHT
        self.deliverer.start()

    def kill_receiver(self):
        self.one.kill()
        self.one.start()

    def kill_endpoint(self):
        self.endpoint.kill()
        self.interrupted += IN_FLIGHT
        self.endpoint.start()

    def restart_endpoint(self):
        self.answer(OK)  # a process that hangs would not end
        self.endpoint.disconnect()
        self.interrupted += IN_FLIGHT
        self.endpoint.stop()
        self.endpoint.start()

    def answer(self, *usual, seconds=0.0, **script):
        """Changes the script, and goes on when something was requested for this long."""
        self.endpoint.answer(*usual, **script)
        end = time.monotonic() + seconds
        daemon.eventually(lambda: time.monotonic() > end, "the time of the fault", seconds + 5)

    def wrong_certificate(self):
        right = self.endpoint.certificate
        self.endpoint.present(self.endpoint.make_certificate("other"))
        self.interrupted += IN_FLIGHT  # the connections were cut
        self.deliverer.wait_logged("certificate")
        self.endpoint.present(right)
        self.interrupted += IN_FLIGHT

    def destroy(self):
        if self.deliverer.process:
            self.deliverer.process.kill()
            self.deliverer.process.wait()
        self.one.destroy()
        self.endpoint.destroy()


FAULTS = {
    "the endpoint is killed": Site.kill_endpoint,
    "the endpoint restarts": Site.restart_endpoint,
    "the receiver is killed": Site.kill_receiver,
    "everything is answered 500": lambda site: site.answer(status(500), seconds=0.5),
    "everything is answered 429": lambda site: site.answer(status(429, Retry_After="1"), seconds=0.5),
    "everything is answered 404": lambda site: site.answer(status(404), seconds=0.5),
    "everything fails": lambda site: site.answer(FAIL, seconds=0.5),
    "everything is redirected": lambda site: site.answer(status(302, Location=site.endpoint.url("/x")), seconds=0.5),
    "everything hangs": lambda site: site.answer(fault("hang"), seconds=0.5),
    "everything is cut off": lambda site: site.answer(fault("cut_in_body"), seconds=0.5),
    "every answer is endless": lambda site: site.answer(fault("endless"), seconds=0.5),
    "the certificate is wrong": Site.wrong_certificate,
}


def test_delivers_every_event_despite_faults():
    print(f"SEED={SEED}")
    site = Site()
    try:
        site.fill(EVENTS // 2)
        site.deliverer.start()
        faults = [name for _ in range(-(-KILLS // len(FAULTS))) for name in site.random.sample(
            sorted(FAULTS), len(FAULTS))]
        start = time.monotonic()
        for number, name in enumerate(faults[:KILLS]):
            site.answer(mix=MIX, seed=SEED + number)
            before = len(site.endpoint.requests())
            recorded = [event(GroupId=f"live-{each % 5}", EventTime=1_680_000_000_000 + 1000 * number + each)
                        for each in range(20)]
            for body in recorded:
                assert site.one.post(body).status == 200
            site.endpoint.wait_requests(before + min(EVENTS // (4 * KILLS), 500), deadline=120)
            print(f"{time.monotonic() - start:.0f} s, {before} requests: {name}", flush=True)
            FAULTS[name](site)
            site.kill_deliverer()
        site.fill(EVENTS - EVENTS // 2, seed=1)
        site.answer(mix=MIX, seed=SEED)
        daemon.eventually(lambda: metrics(site.admin_port)["imcallbackd_deliver_lag_events"] < EVENTS // 10,
                          "most events", 120 + EVENTS / 100)
        site.endpoint.answer(OK)
        daemon.eventually(lambda: metrics(site.admin_port)["imcallbackd_deliver_lag_events"] == 0, "the last event",
                          1200)
        seconds = time.monotonic() - start
        ledger = Ledger(site.one, site.endpoint, secrets=[SECRET])
        repeats = ledger.check(interrupted=site.interrupted)
        print(f"{len(ledger.store.rows)} events, {len(ledger.requests)} requests, {KILLS} kills of deliver, {repeats} "
              f"repeats of {site.interrupted} possible ones, {seconds:.0f} s")
        site.deliverer.stop()
    finally:
        print(site.deliverer.log[-3000:] if site.deliverer.process else "")
        site.destroy()
